//! Where a collection is: `milvus://HOST[:PORT]/[DATABASE/]COLLECTION`.

use std::fmt;
use std::str::FromStr;

use super::super::address::{invalid, is_loopback};
use crate::error::Error;

/// The port of a Milvus server that speaks plainly.
const PLAIN_PORT: u16 = 19530;

/// The port where TLS is spoken, as pymilvus has it.
const TLS_PORT: u16 = 443;

/// A collection on a server. Its text is also its name in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or a number; IPv6 with its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The database; empty for the default one.
    pub database: String,
    /// The collection.
    pub collection: String,
}

impl Address {
    /// The server alone, for people.
    pub fn server(&self) -> String {
        format!("{}://{}:{}", self.scheme(), self.host, self.port)
    }

    /// Whether the server is this machine.
    pub fn is_local(&self) -> bool {
        is_loopback(self.host.trim_matches(['[', ']']))
    }

    /// What gRPC connects to.
    pub(super) fn uri(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "milvus+tls" } else { "milvus" }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.server())?;
        if !self.database.is_empty() {
            write!(f, "{}/", self.database)?;
        }
        f.write_str(&self.collection)
    }
}

impl FromStr for Address {
    type Err = Error;

    /// Reads `milvus://` or `milvus+tls://`; `http://` and `https://`, as Milvus's own clients write them,
    /// mean the same.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| invalid(text, reason);
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "milvus" | "http" => false,
            "milvus+tls" | "https" => true,
            _ => return Err(wrong("likeness knows no such scheme")),
        };
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        if server.contains('@') {
            return Err(wrong(
                "user and password do not stand in the address: `--token USER:PASSWORD`",
            ));
        }
        let port_at = server.rfind(':').filter(|at| !server[*at..].contains(']'));
        let (host, port) = match port_at {
            None => (server, if tls { TLS_PORT } else { PLAIN_PORT }),
            Some(at) => {
                let port = server[at + 1..].parse().ok().filter(|port| *port > 0);
                (&server[..at], port.ok_or_else(|| wrong("its port is no number from 1 to 65535"))?)
            }
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:%".contains(c);
        if host.is_empty()
            || !host.chars().all(plain)
            || (host.contains(':') && !host.starts_with('['))
        {
            return Err(wrong("it names no host"));
        }
        let (database, collection) = path.split_once('/').unwrap_or(("", path));
        for name in [database, collection] {
            let first = |c: char| c.is_ascii_alphabetic() || c == '_';
            let other = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.len() > 255
                || !name
                    .chars()
                    .enumerate()
                    .all(|(at, c)| if at == 0 { first(c) } else { other(c) })
            {
                return Err(wrong(&format!(
                    "`{name}` cannot be a name there: letters, digits and `_`, no digit first"
                )));
            }
        }
        if collection.is_empty() {
            return Err(wrong("it names no collection"));
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            tls,
            database: database.to_owned(),
            collection: collection.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_server_a_database_and_a_collection() {
        for (text, shown) in [
            ("milvus://LocalHost/photos", "milvus://localhost:19530/photos"),
            ("milvus://10.0.0.1:9/db/photos_2", "milvus://10.0.0.1:9/db/photos_2"),
            ("http://[::1]:19530/p", "milvus://[::1]:19530/p"),
            ("https://in03.example.org/p", "milvus+tls://in03.example.org:443/p"),
            ("milvus+tls://[fd00::1]/_p", "milvus+tls://[fd00::1]:443/_p"),
        ] {
            let address: Address = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        for (text, part) in [
            ("localhost/photos", "no scheme"),
            ("redis://localhost/photos", "no such scheme"),
            ("milvus://localhost", "no collection"),
            ("milvus://localhost/db/", "no collection"),
            ("milvus:///photos", "no host"),
            ("milvus://a b/photos", "no host"),
            ("milvus://::1/photos", "no host"),
            ("milvus://localhost:0/photos", "port"),
            ("milvus://localhost:x/photos", "port"),
            ("milvus://root:Milvus@localhost/photos", "--token"),
            ("milvus://localhost/my-photos", "`my-photos`"),
            ("milvus://localhost/a/b/c", "`b/c`"),
            ("milvus://localhost/1a", "no digit first"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert!(error.hint().is_some());
        }
    }
}
