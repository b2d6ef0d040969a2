//! Which proxy a request goes through, by the environment variables curl made customary.
//!
//! ureq's own reading takes the first variable that is set, whatever the address's scheme, and does
//! not trim `NO_PROXY`; an intranet mirror would be asked through the internet's proxy.

use std::env;
use std::net::IpAddr;

/// The proxy for `url`, `None` to go there directly.
pub(crate) fn for_url(url: &str) -> Option<String> {
    choose(url, |name| env::var(name).ok())
}

fn choose(url: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let either = |name: &str| {
        // HTTP_PROXY in capitals can be set by whoever asks a CGI program; for a tool that a person
        // runs both spellings are the person's.
        let value = variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
        value.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    };
    // What runs on this very machine is not behind a proxy, as Go's and others' rule is.
    let name = without_port(host).trim_matches(['[', ']']);
    let loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback || name.eq_ignore_ascii_case("localhost") {
        return None;
    }
    if either("NO_PROXY").is_some_and(|list| list.split(',').any(|rule| spares(rule.trim(), host)))
    {
        return None;
    }
    either(&format!("{}_PROXY", scheme.to_ascii_uppercase())).or_else(|| either("ALL_PROXY"))
}

/// Whether one item of `NO_PROXY` covers `host`, which may carry a port: `*`, a name and everything
/// below it (with or without a leading dot or `*.`), an address, each optionally with a port.
fn spares(rule: &str, host: &str) -> bool {
    let name = without_port(host);
    let suffix = rule.trim_start_matches('*').trim_start_matches('.');
    let covers = |host: &str| {
        let Some(at) = host.len().checked_sub(suffix.len()) else { return false };
        host.is_char_boundary(at)
            && host[at..].eq_ignore_ascii_case(suffix)
            && (at == 0 || host[..at].ends_with('.'))
    };
    match rule {
        "" => false,
        "*" => true,
        _ => covers(name) || covers(host) || name.trim_matches(['[', ']']) == rule,
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)], url: &str) -> Option<String> {
        choose(url, |name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn the_scheme_decides_which_proxy_serves() {
        let both = [("http_proxy", "http://plain:1"), ("HTTPS_PROXY", "http://tls:2")];
        assert_eq!(with(&both, "http://a/x").as_deref(), Some("http://plain:1"));
        assert_eq!(with(&both, "https://a/x").as_deref(), Some("http://tls:2"));
        assert_eq!(with(&both[1..], "http://a/x"), None);
        let all = [("ALL_PROXY", "socks5h://s:3"), ("https_proxy", " ")];
        assert_eq!(with(&all, "https://a").as_deref(), Some("socks5h://s:3"));
    }

    #[test]
    fn no_proxy_spares_hosts_and_what_is_below_them() {
        let spared =
            |list: &str, url: &str| with(&[("ALL_PROXY", "p"), ("NO_PROXY", list)], url).is_none();
        assert!(spared("a.org, mirror.lan", "http://mirror.lan:8000/models"));
        assert!(spared("lan", "http://mirror.lan/"));
        assert!(spared(".lan", "http://user@mirror.LAN/"));
        assert!(spared("*.lan", "http://mirror.lan/"));
        assert!(spared("10.0.0.1:8000", "http://10.0.0.1:8000/"));
        assert!(spared("fd00::1", "http://[fd00::1]:8000/"));
        assert!(spared("*", "http://anything/"));
        assert!(!spared("lan", "http://milan/"));
        assert!(!spared("10.0.0.1:8000", "http://10.0.0.1:9000/"));
        assert!(!spared("", "http://mirror.lan/"));
    }

    #[test]
    fn this_machine_is_never_behind_a_proxy() {
        for url in ["http://localhost:80/", "http://127.0.0.2/", "https://[::1]:8443/x"] {
            assert_eq!(with(&[("ALL_PROXY", "p")], url), None, "{url}");
        }
    }
}
