//! Which addresses belong to the internet at large.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address was refused, and what allows it.
pub(super) fn refusal(address: IpAddr) -> String {
    format!(
        "{address} is an address of this machine or a private network; --allow-private allows it"
    )
}

/// Refuses a host that is itself a private address, or this machine by name.
pub(super) fn check_literal(host: &str) -> Result<(), String> {
    let address = match host.trim_matches(['[', ']']) {
        name if name.eq_ignore_ascii_case("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        name => name.parse().ok(),
    };
    match address {
        Some(address) if !is_public(address) => Err(refusal(address)),
        _ => Ok(()),
    }
}

/// Whether an address is neither of this machine, nor of a private network, nor set aside for something
/// else (IANA's special-purpose registries).
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        // This network, and multicast up to broadcast.
        (0 | 224..=255, ..) => true,
        // Shared by carriers' customers.
        (100, 64..=127, _) => true,
        // Protocol assignments, benchmarks, the former 6to4 relays.
        (192, 0, 0) | (198, 18 | 19, _) | (192, 88, 99) => true,
        _ => false,
    };
    !(special
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [.., high, low] = segments;
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        // IPv4 in other clothes: mapped, translated (NAT64), 6to4.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(v4(high, low)),
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Documentation, Teredo and other protocol assignments.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // All that is given out for the internet lies in 2000::/3.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        let public = |text: &str| is_public(text.parse().unwrap());
        for text in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "100.63.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(public(text), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "203.0.113.7",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00::1",
            "ff02::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!public(text), "{text}");
        }
        for host in ["10.0.0.1", "[::1]", "LocalHost"] {
            assert!(check_literal(host).is_err(), "{host}");
        }
        assert!(check_literal("example.org").is_ok());
    }
}
