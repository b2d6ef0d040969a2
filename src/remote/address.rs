//! Where a collection is, on whichever server.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{milvus, postgres};
use crate::error::{Error, Place};

/// A collection on a server. Its text is also its name in the catalog; no password is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Of a Milvus server.
    Milvus(milvus::Address),
    /// Of a PostgreSQL server: a table.
    Postgres(postgres::Address),
}

impl Address {
    /// The server alone, for people.
    pub fn server(&self) -> String {
        match self {
            Address::Milvus(address) => address.server(),
            Address::Postgres(address) => address.server(),
        }
    }

    /// Whether the server is this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Milvus(address) => address.is_local(),
            Address::Postgres(address) => address.is_local(),
        }
    }

    /// The address with the server's own word for what is there.
    pub fn place(&self) -> Place {
        let noun = match self {
            Address::Milvus(_) => "collection",
            Address::Postgres(_) => "table",
        };
        Place { noun, address: self.to_string() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Milvus(address) => address.fmt(f),
            Address::Postgres(address) => address.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    /// The scheme says which server it is.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| invalid(text, reason);
        let (scheme, _) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        match scheme.to_ascii_lowercase().as_str() {
            "milvus" | "milvus+tls" | "http" | "https" => text.parse().map(Address::Milvus),
            "postgres" | "postgresql" => text.parse().map(Address::Postgres),
            _ => Err(wrong("likeness knows no such scheme")),
        }
    }
}

/// Whether a host, without brackets, is this machine.
pub(super) fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Says what is wrong with an address, and keeps the password in it to itself.
pub(super) fn invalid(text: &str, reason: impl Into<String>) -> Error {
    Error::RemoteAddress { address: without_password(text), reason: reason.into() }
}

/// `://USER:…@` and `password=…` with dots in the place of what nobody should read.
fn without_password(text: &str) -> String {
    let mut shown = text.to_owned();
    let begin = shown.find("://").map_or(0, |at| at + 3);
    // A password that was not encoded may hold a `/` or `?`: the last `@` ends it.
    if let Some(at) = shown[begin..].rfind('@')
        && let Some(colon) = shown[begin..begin + at].find(':')
    {
        shown.replace_range(begin + colon + 1..begin + at, "…");
    }
    if let Some(at) = shown.find("password=") {
        let begin = at + "password=".len();
        let end = shown[begin..].find('&').map_or(shown.len(), |length| begin + length);
        shown.replace_range(begin..end, "…");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_tells_the_server() {
        let milvus: Address = "milvus://localhost/photos".parse().unwrap();
        assert_eq!(milvus.place().to_string(), "collection milvus://localhost:19530/photos");
        let postgres: Address = "POSTGRESQL://localhost/db?table=photos".parse().unwrap();
        let place = "table postgres://localhost:5432/db?table=photos";
        assert_eq!(postgres.place().to_string(), place);
        for (text, part) in
            [("localhost/photos", "no scheme"), ("redis://localhost/photos", "no such scheme")]
        {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn no_password_is_said() {
        for text in [
            "milvus://root:S3cret@localhost/a",
            "postgres://ann:S3cret@localhost/db",
            "postgres://ann:S3cret/x?y@z@localhost/db?table=a",
            "postgres://localhost/db?password=S3cret&sslmode=odd&table=a",
            "redis://ann:S3cret@localhost",
            "postgres://localhost/db?password=S3cret",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("S3cret") && said.contains('…'), "{said}");
        }
    }
}
