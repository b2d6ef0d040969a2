//! What goes wrong with PostgreSQL, and whether it is worth trying again.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::SqlState;

use super::super::patience::deepest;
use super::address::{Address, Tls};
use crate::error::Error;

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server's own word, or the connection's.
    Sql(tokio_postgres::Error),
    /// It took too long.
    Late,
    /// An answer that is not as it should be, for a person.
    Odd(String),
    /// What is known in full already.
    Known(Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::Sql(error)
    }
}

impl Failure {
    /// What the server calls it.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Failure::Sql(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later, over another connection if need be.
    pub(super) fn is_transient(&self) -> bool {
        match (self, self.code()) {
            (_, Some(code)) => is_transient(code),
            (Failure::Sql(error), None) => error.is_closed() || is_lost(error),
            _ => false,
        }
    }

    /// Whether the server itself said it.
    pub(super) fn is_answer(&self) -> bool {
        self.code().is_some()
    }

    /// For people.
    pub(super) fn into_error(self, address: &Address, action: &'static str) -> Error {
        let server = address.server();
        let unreachable = |reason: String| Error::RemoteUnreachable {
            server: address.server(),
            reason,
            remedy: UNREACHABLE,
        };
        let error = match self {
            Failure::Known(error) => return error,
            Failure::Odd(reason) => return Error::RemoteRefused { server, action, reason },
            Failure::Late => return unreachable(format!("it did not {action} in time")),
            Failure::Sql(error) => error,
        };
        let Some(said) = error.as_db_error() else {
            let reason = deepest(&error);
            return match &*reason {
                "password missing" => Error::RemoteDenied {
                    server,
                    reason: "it asks for a password".into(),
                    remedy: DENIED,
                },
                "server does not support TLS" => Error::RemoteUnfit {
                    server,
                    reason: "it speaks no TLS".into(),
                    remedy: "write `sslmode=disable` into the address where the network between is yours",
                },
                _ if is_certificate(&error) => Error::RemoteUnreachable {
                    server,
                    reason,
                    remedy: "name a file with its authority by `sslrootcert=FILE` in the address, or SSL_CERT_FILE; \
                             its certificate must hold the name that stands in the address",
                },
                _ => unreachable(reason),
            };
        };
        let reason = [Some(said.message()), said.detail()];
        let reason = reason.into_iter().flatten().collect::<Vec<_>>().join("; ").replace('\n', " ");
        let code = error.code().expect("what the server said has a code");
        match code {
            &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                // As hosted servers do, which let nobody in without.
                let remedy = match address.tls {
                    Tls::Off if reason.contains("no encryption") => {
                        "write `sslmode=require` into the address: it wants TLS"
                    }
                    _ => DENIED,
                };
                Error::RemoteDenied { server, reason, remedy }
            }
            &SqlState::INVALID_CATALOG_NAME => Error::RemoteUnfit {
                server,
                reason,
                remedy: "make it with `createdb NAME`, or name another one after the server in the address",
            },
            &SqlState::INVALID_SCHEMA_NAME => Error::RemoteUnfit {
                server,
                reason,
                remedy: "make it with `CREATE SCHEMA`, or name another one before the table",
            },
            &SqlState::UNDEFINED_OBJECT | &SqlState::UNDEFINED_FUNCTION => Error::RemoteUnfit {
                server,
                reason,
                remedy: "put the schema of the extension `vector` on the search path: `ALTER ROLE … SET search_path = …`",
            },
            &SqlState::INSUFFICIENT_PRIVILEGE => Error::RemoteDenied {
                server,
                reason,
                remedy: "ask its owner for that right (`GRANT`), or name another user, or another schema before the \
                         table",
            },
            code if is_transient(code) => unreachable(reason),
            _ => Error::RemoteRefused { server, action, reason },
        }
    }
}

/// What a person may do where no server answers, or one lets nobody in.
const UNREACHABLE: &str = "see that PostgreSQL runs there, and that it listens where the address says; a push goes on \
                           where it ended";
const DENIED: &str =
    "name user and password: postgres://USER@HOST/…, and LIKENESS_POSTGRES_PASSWORD or PGPASSWORD";

/// Of class 08, and where the server starts, stops or has too many guests; and transactions that met each other.
fn is_transient(code: &SqlState) -> bool {
    const CODES: [SqlState; 6] = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    code.code().starts_with("08") || CODES.contains(code)
}

fn io_error(error: &tokio_postgres::Error) -> Option<&io::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

/// Whether the connection broke, or there was none.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    io_error(error).is_some() && !is_certificate(error)
}

/// Whether TLS failed for what the server showed. A connection that broke meanwhile has another kind.
fn is_certificate(error: &tokio_postgres::Error) -> bool {
    io_error(error).is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for code in ["08006", "08001", "57P01", "57P02", "57P03", "53300", "40001", "40P01"] {
            assert!(is_transient(&SqlState::from_code(code)), "{code}");
        }
        for code in ["28P01", "3D000", "42501", "57014", "23505", "53100", "XX000"] {
            assert!(!is_transient(&SqlState::from_code(code)), "{code}");
        }
        assert!(!Failure::Late.is_transient() && !Failure::Odd(String::new()).is_transient());
    }
}
