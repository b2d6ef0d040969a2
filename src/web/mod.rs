//! An http(s) address → bytes, without being led into the network at home.
//!
//! An address that somebody else wrote must not make this machine ask its router or its neighbours. So
//! every address that a name stands for is looked at before a connection is made, on each redirect
//! anew; what was looked at is what is connected to.

mod public;

use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Proxy};

use crate::proxy;

/// What a fetch may cost, and where it may go.
#[derive(Debug, Clone, Copy)]
pub struct FetchOptions {
    /// Whether addresses of this machine and of private networks may be asked.
    pub allow_private: bool,
    /// The most bytes that are taken.
    pub max_bytes: u64,
    /// The time for everything: name, connection, redirects, all bytes.
    pub timeout: Duration,
}

impl Default for FetchOptions {
    /// Public addresses only, 64 MiB, 30 seconds.
    fn default() -> Self {
        Self { allow_private: false, max_bytes: 64 << 20, timeout: Duration::from_secs(30) }
    }
}

/// How many redirects are followed.
const REDIRECTS: u32 = 5;

/// Fetches what lies at an http or https address. Through a proxy, names are looked up there, so that redirects
/// are followed only when private addresses are allowed.
///
/// # Errors
/// The reason, for a person: an address that is refused, no answer, another status than 200, too much.
pub fn fetch(url: &str, options: &FetchOptions) -> Result<Vec<u8>, String> {
    let proxy = proxy::for_url(url).map(|proxy| Proxy::new(&proxy).map_err(|e| e.to_string()));
    let proxy = proxy.transpose()?;
    let guarded = !options.allow_private;
    let proxied = proxy.is_some();
    if guarded && proxied {
        let uri: Uri = url.parse().map_err(|_| "it is no address".to_owned())?;
        public::check_literal(uri.host().unwrap_or_default())?;
    }
    let config = Agent::config_builder()
        .proxy(proxy)
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .timeout_global(Some(options.timeout))
        .max_redirects(if guarded && proxied { 0 } else { REDIRECTS })
        .max_redirects_will_error(!(guarded && proxied))
        .http_status_as_error(false)
        // A redirect within one server would go over the old connection, which the server may have closed.
        .max_idle_connections(0)
        .user_agent(concat!("likeness/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent = match guarded && !proxied {
        true => Agent::with_parts(config, DefaultConnector::default(), PublicOnly),
        false => Agent::new_with_config(config),
    };
    let mut response = agent.get(url).call().map_err(|error| reason(&error, options))?;
    match response.status().as_u16() {
        200 => {}
        300..=399 if proxied => {
            return Err("it redirects, which is not followed through a proxy; \
                        --allow-private follows"
                .to_owned());
        }
        _ => return Err(format!("HTTP {}", response.status())),
    }
    let body = response.body_mut().with_config().limit(options.max_bytes);
    body.read_to_vec().map_err(|error| reason(&error, options))
}

fn reason(error: &ureq::Error, options: &FetchOptions) -> String {
    match error {
        ureq::Error::Timeout(_) => {
            format!("it was not there within {:.0} s", options.timeout.as_secs_f32())
        }
        ureq::Error::BodyExceedsLimit(_) => {
            format!("it has more than {} MiB", options.max_bytes >> 20)
        }
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::Other(error) => error.to_string(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Looks names up as usual, and refuses those that stand for a private address.
#[derive(Debug, Default)]
struct PublicOnly;

impl Resolver for PublicOnly {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        // One private address among public ones is a trick, too.
        match found.iter().find(|address| !public::is_public(address.ip())) {
            Some(address) => Err(ureq::Error::Other(public::refusal(address.ip()).into())),
            None => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// A server on this machine that gives every path its own answer.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let request = lines.next().unwrap_or_default();
                lines.find(String::is_empty);
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = match &*path {
                    "/bytes" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes".to_owned(),
                    "/loop" => "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n"
                        .to_owned(),
                    "/there" => format!(
                        "HTTP/1.1 302 Found\r\nLocation: http://{address}/bytes\r\nContent-Length: 0\r\n\r\n"
                    ),
                    "/silent" => {
                        std::thread::sleep(Duration::from_secs(2));
                        String::new()
                    }
                    _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    }

    #[test]
    fn what_lies_at_an_address_comes_within_its_limits() {
        let address = server();
        let allowed = FetchOptions { allow_private: true, ..FetchOptions::default() };
        let fetch = |path: &str, options: &FetchOptions| {
            fetch(&format!("http://{address}/{path}"), options)
        };
        assert_eq!(fetch("bytes", &allowed).unwrap(), b"bytes");
        assert_eq!(fetch("there", &allowed).unwrap(), b"bytes");
        assert!(fetch("missing", &allowed).unwrap_err().contains("404"));
        assert!(fetch("loop", &allowed).is_err());
        let small = FetchOptions { max_bytes: 4, ..allowed };
        assert_eq!(fetch("bytes", &small).unwrap_err(), "it has more than 0 MiB");
        let hasty = FetchOptions { timeout: Duration::from_millis(200), ..allowed };
        assert!(fetch("silent", &hasty).unwrap_err().contains("not there within"));
    }

    #[test]
    fn this_machine_and_its_neighbours_are_refused_by_number_and_by_name() {
        let port = server().port();
        for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433"] {
            let reason = fetch(&format!("http://{host}:{port}/bytes"), &FetchOptions::default());
            assert!(reason.is_err(), "{host}");
        }
        let reason = fetch(&format!("http://127.0.0.1:{port}/bytes"), &FetchOptions::default());
        assert!(reason.unwrap_err().contains("--allow-private"));
        assert!(fetch("file:///etc/passwd", &FetchOptions::default()).is_err());
    }
}
