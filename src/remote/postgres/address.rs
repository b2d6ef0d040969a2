//! Where a table is: `postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE?table=[SCHEMA.]TABLE`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::super::address::{invalid, is_loopback};
use crate::error::Error;

/// PostgreSQL's own port.
const PORT: u16 = 5432;

/// The longest name of PostgreSQL in bytes.
const MAX_NAME: usize = 63;

/// What does not stand for itself in a part of an address.
const ODD: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'/')
    .add(b':')
    .add(b'?')
    .add(b'@');
/// The same, where folders are named.
const ODD_IN_PATHS: &AsciiSet = &ODD.remove(b'/');

/// A table on a server. Its text is also its name in the catalog; the password is not in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Where the server listens.
    pub host: Host,
    /// The port; it is a part of a socket's name, too.
    pub port: u16,
    /// Who asks; the operating system's name of the user where it is missing.
    pub user: Option<String>,
    pub(super) password: Option<String>,
    /// The database; that of the user's name where it is missing.
    pub database: Option<String>,
    /// The schema; the first of the search path where it is missing.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// Whether TLS is spoken.
    pub tls: Tls,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name or a number; IPv6 without brackets.
    Name(String),
    /// The folder of a Unix socket.
    Socket(PathBuf),
}

/// Whether TLS is spoken. The server's certificate is always checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// `sslmode=disable`.
    Off,
    /// `sslmode=require` and `verify-full`; believing the authorities of a file (`sslrootcert`), or else the system's.
    On {
        /// PEM.
        authorities: Option<PathBuf>,
    },
}

impl Address {
    /// The server alone, for people.
    pub fn server(&self) -> String {
        match &self.host {
            Host::Name(name) => format!("postgres://{}:{}", bracketed(name), self.port),
            Host::Socket(folder) => {
                format!("postgres socket {}/.s.PGSQL.{}", folder.display(), self.port)
            }
        }
    }

    /// Whether the server is this machine.
    pub fn is_local(&self) -> bool {
        match &self.host {
            Host::Name(name) => is_loopback(name),
            Host::Socket(_) => true,
        }
    }

    /// The table as SQL names it.
    pub(super) fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("\"{schema}\".\"{}\"", self.table),
            None => format!("\"{}\"", self.table),
        }
    }
}

fn bracketed(name: &str) -> String {
    if name.contains(':') { format!("[{name}]") } else { name.to_owned() }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", utf8_percent_encode(user, ODD))?;
        }
        match &self.host {
            Host::Name(name) => write!(f, "{}:{}/", bracketed(name), self.port)?,
            Host::Socket(_) if self.port == PORT => f.write_str("/")?,
            Host::Socket(_) => write!(f, ":{}/", self.port)?,
        }
        if let Some(database) = &self.database {
            write!(f, "{}", utf8_percent_encode(database, ODD))?;
        }
        f.write_str("?")?;
        if let Host::Socket(folder) = &self.host {
            let folder = folder.to_string_lossy();
            write!(f, "host={}&", utf8_percent_encode(&folder, ODD_IN_PATHS))?;
        }
        match (&self.tls, self.is_local()) {
            (Tls::Off, true) | (Tls::On { authorities: None }, false) => {}
            (Tls::Off, false) => f.write_str("sslmode=disable&")?,
            (Tls::On { authorities }, _) => {
                f.write_str("sslmode=verify-full&")?;
                if let Some(file) = authorities {
                    let file = file.to_string_lossy();
                    write!(f, "sslrootcert={}&", utf8_percent_encode(&file, ODD_IN_PATHS))?;
                }
            }
        }
        match &self.schema {
            Some(schema) => write!(f, "table={schema}.{}", self.table),
            None => write!(f, "table={}", self.table),
        }
    }
}

impl fmt::Debug for Address {
    /// The password is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// What the parameters after `?` say.
#[derive(Default)]
struct Said {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    table: Option<String>,
    ssl_mode: Option<String>,
    authorities: Option<PathBuf>,
}

impl FromStr for Address {
    type Err = Error;

    /// Reads what libpq reads, with the table as one more parameter.
    fn from_str(text: &str) -> Result<Self, Error> {
        read(text).map_err(|reason| invalid(text, reason))
    }
}

fn read(text: &str) -> Result<Address, String> {
    let (_, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (server, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, server) = match server.rsplit_once('@') {
        Some((login, server)) => (Some(login), server),
        None => (None, server),
    };
    let mut said = parameters_of(parameters)?;
    if let Some(login) = login {
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        said.user = said.user.or(Some(decoded(user)?));
        if let Some(password) = password {
            said.password = said.password.or(Some(decoded(password)?));
        }
    }
    if !database.is_empty() {
        said.database = said.database.or(Some(decoded(database)?));
    }
    let port_at = server.rfind(':').filter(|at| !server[*at..].contains(']'));
    let (name, port) =
        port_at.map_or((server, None), |at| (&server[..at], Some(&server[at + 1..])));
    let name = said.host.map_or_else(|| decoded(name), Ok)?;
    let port = said.port.as_deref().or(port).unwrap_or_default();
    let port = match port {
        "" => PORT,
        port => {
            let port = port.parse().ok().filter(|port| *port > 0);
            port.ok_or("its port is no number from 1 to 65535")?
        }
    };
    let host = host(&name)?;
    let local = match &host {
        Host::Name(name) => is_loopback(name),
        Host::Socket(_) => true,
    };
    let tls = tls(said.ssl_mode.as_deref(), said.authorities, local)?;
    if matches!((&host, &tls), (Host::Socket(_), Tls::On { .. })) {
        return Err("no TLS is spoken through a socket: leave `sslmode` out".into());
    }
    let table = said.table.filter(|table| !table.is_empty());
    let table = table.ok_or("it names no table: end it in `?table=NAME`")?.to_ascii_lowercase();
    let (schema, table) = match table.split_once('.') {
        Some((schema, table)) => (Some(schema.to_owned()), table.to_owned()),
        None => (None, table),
    };
    for name in schema.iter().chain([&table]) {
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let fits = name.starts_with(first)
            && name.chars().all(|c| first(c) || c.is_ascii_digit())
            && name.len() <= MAX_NAME;
        if !fits {
            return Err(format!(
                "`{name}` cannot be a table: letters, digits and `_`, no digit first, {MAX_NAME} at most"
            ));
        }
    }
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(Address {
        host,
        port,
        user: filled(said.user),
        password: filled(said.password),
        database: filled(said.database),
        schema,
        table,
        tls,
    })
}

fn parameters_of(text: &str) -> Result<Said, String> {
    let mut said = Said::default();
    for parameter in text.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = decoded(value)?;
        match key {
            "host" => said.host = Some(value),
            "port" => said.port = Some(value),
            "user" => said.user = Some(value),
            "password" => said.password = Some(value),
            "dbname" => said.database = Some(value),
            "table" => said.table = Some(value),
            "sslmode" => said.ssl_mode = Some(value),
            "sslrootcert" => said.authorities = Some(value.into()),
            // Said to libpq, and of no consequence here.
            "application_name" | "connect_timeout" => {}
            "channel_binding" if value != "require" => {}
            "channel_binding" => {
                return Err("likeness binds no channels: leave `channel_binding` out".into());
            }
            key => return Err(format!("likeness knows no parameter `{key}`")),
        }
    }
    Ok(said)
}

fn host(name: &str) -> Result<Host, String> {
    if name.starts_with('/') {
        return Ok(Host::Socket(name.into()));
    }
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    match name {
        "" => Err("it names no host; for a socket of this machine `?host=/FOLDER`".into()),
        name if name.contains(',') => Err("it names several hosts, and one is asked".into()),
        name if name.chars().all(plain) || name.parse::<IpAddr>().is_ok() => {
            Ok(Host::Name(name.to_ascii_lowercase()))
        }
        _ => Err("it names no host".into()),
    }
}

/// What `sslmode` asks for. likeness speaks TLS with a server that it knows, or plainly, and nothing between: who sits on
/// the line could answer for a server that need not prove who it is.
fn tls(mode: Option<&str>, authorities: Option<PathBuf>, local: bool) -> Result<Tls, String> {
    match mode {
        None if local && authorities.is_none() => Ok(Tls::Off),
        Some("disable") => Ok(Tls::Off),
        None | Some("require" | "verify-full") => {
            let authorities = authorities.filter(|file| file.as_os_str() != "system");
            Ok(Tls::On { authorities })
        }
        Some(mode @ ("allow" | "prefer" | "verify-ca")) => Err(format!(
            "`sslmode={mode}` trusts a server that does not prove its name: write `sslmode=verify-full`, or \
             `sslmode=disable` where the network is yours"
        )),
        Some(mode) => {
            Err(format!("`{mode}` is no `sslmode`: `disable`, `require` or `verify-full`"))
        }
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| "what it encodes by `%` is no UTF-8")?;
    if text.contains('\0') {
        return Err("it holds a NUL".into());
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_server_a_database_and_a_table() {
        for (text, shown) in [
            ("postgres://LocalHost/db?table=photos", "postgres://localhost:5432/db?table=photos"),
            (
                "postgresql://ann:pw@10.0.0.1:9/db?table=Public.Photos_2&sslmode=disable",
                "postgres://ann@10.0.0.1:9/db?sslmode=disable&table=public.photos_2",
            ),
            (
                "postgres://db.example.org/d%20b?table=p&sslmode=require",
                "postgres://db.example.org:5432/d%20b?table=p",
            ),
            (
                "postgres://ann%40lan@[fd00::1]/db?sslrootcert=/etc/ca%20x.pem&table=_p",
                "postgres://ann%40lan@[fd00::1]:5432/db?sslmode=verify-full&sslrootcert=/etc/ca%20x.pem&table=_p",
            ),
            ("postgres:///?host=/run/pg&table=p", "postgres:///?host=/run/pg&table=p"),
            (
                "postgres://ann@%2Frun%2Fpg:5433/db?table=p",
                "postgres://ann@:5433/db?host=/run/pg&table=p",
            ),
            (
                "postgres://localhost/?dbname=db&user=ann&password=x&port=7&table=p",
                "postgres://ann@localhost:7/db?table=p",
            ),
        ] {
            let address: Address = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), shown);
            let again: Address = shown.parse().unwrap();
            assert_eq!(again, Address { password: None, ..address });
        }
    }

    #[test]
    fn a_password_is_read_and_never_shown() {
        for text in [
            "postgres://ann:S3%40cret@localhost/db?table=p",
            "postgres://localhost/db?user=ann&password=S3%40cret&table=p",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.password.as_deref(), Some("S3@cret"));
            let shown = format!("{address} {address:?} {}", address.server());
            assert!(!shown.contains("cret"), "{shown}");
        }
    }

    #[test]
    fn far_servers_are_asked_behind_tls_and_near_ones_plainly() {
        let tls = |text: &str| text.parse::<Address>().unwrap().tls;
        let on = Tls::On { authorities: None };
        assert_eq!(tls("postgres://db.lan/db?table=p"), on);
        assert_eq!(tls("postgres://db.lan/db?table=p&sslmode=disable"), Tls::Off);
        assert_eq!(tls("postgres://[::1]/db?table=p"), Tls::Off);
        assert_eq!(
            tls("postgres://localhost/db?table=p&sslmode=verify-full&sslrootcert=system"),
            on
        );
    }

    #[test]
    fn what_is_no_address_is_named() {
        for (text, part) in [
            ("postgres://localhost/db", "it names no table"),
            ("postgres://localhost/db?table=", "it names no table"),
            ("postgres://localhost/db?table=a-b", "`a-b` cannot be a table"),
            ("postgres://localhost/db?table=1a", "`1a` cannot be a table"),
            ("postgres://localhost/db?table=a.b.c", "`b.c` cannot be a table"),
            ("postgres://localhost/db?table=a\"b", "cannot be a table"),
            ("postgres:///db?table=a", "it names no host"),
            ("postgres://a b/db?table=a", "it names no host"),
            ("postgres://a,b/db?table=a", "several hosts"),
            ("postgres://::1/db?table=a", "it names no host"),
            ("postgres://localhost:0/db?table=a", "port"),
            ("postgres://localhost:x/db?table=a", "port"),
            ("postgres://localhost/d%ffb?table=a", "no UTF-8"),
            ("postgres://localhost/d%00b?table=a", "NUL"),
            ("postgres://db.lan/db?table=a&sslmode=prefer", "`sslmode=prefer` trusts"),
            ("postgres://db.lan/db?table=a&sslmode=verify-ca", "write `sslmode=verify-full`"),
            ("postgres://db.lan/db?table=a&sslmode=on", "`on` is no `sslmode`"),
            ("postgres:///db?host=/run&table=a&sslmode=require", "through a socket"),
            ("postgres://db.lan/db?table=a&channel_binding=require", "channel_binding"),
            ("postgres://db.lan/db?table=a&options=-c", "no parameter `options`"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert!(error.hint().is_some());
        }
    }
}
