//! What servers say of a call, and whether it is worth saying again.

use std::error::Error as _;
use std::ops::RangeInclusive;

use tonic::Code;

use super::super::patience::deepest;
use super::proto;
use crate::error::Error;

/// A server's own numbers, as the `merr` package of Milvus has them.
const NOT_READY: i32 = 1;
const UNAVAILABLE: i32 = 2;
const RATE_LIMIT: i32 = 8;
/// A part of the server that is gone, or another than it was: not found, offline, lacking, not matching, not available.
const NODES: RangeInclusive<i32> = 901..=905;
const INDEX_NOT_FOUND: i32 = 700;
const NOT_PERMITTED: i32 = 1401;

/// The same before 2.3, in an enum of its own.
const OLD_PERMISSION_DENIED: i32 = 3;
const OLD_INDEX_NOT_EXIST: i32 = 25;
const OLD_RATE_LIMIT: i32 = 49;
const OLD_NODE_NOT_MATCH: i32 = 50;
const OLD_NOT_READY: i32 = 56;

/// What a person may do where no server answers, or one lets nobody in.
pub(super) const UNREACHABLE: &str = "see that Milvus runs there, and that `milvus+tls://` is written where it speaks \
                                      TLS; a push goes on where it ended";
const DENIED: &str = "name the right one with `--token USER:PASSWORD` or LIKENESS_MILVUS_TOKEN";

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// gRPC's word, or the connection's.
    Call(tonic::Status),
    /// The server's own word.
    Status(proto::Status),
}

/// An answer that says whether the call succeeded.
pub(super) trait Answer {
    fn status(&self) -> Option<&proto::Status>;
}

impl Answer for proto::Status {
    fn status(&self) -> Option<&proto::Status> {
        Some(self)
    }
}

macro_rules! answers {
    ($($name:ident),*) => {
        $(impl Answer for proto::$name {
            fn status(&self) -> Option<&proto::Status> {
                self.status.as_ref()
            }
        })*
    };
}
answers!(
    BoolResponse,
    DescribeCollectionResponse,
    DescribeIndexResponse,
    FlushResponse,
    GetLoadStateResponse,
    GetVersionResponse,
    MutationResult,
    QueryResults,
    SearchResults
);

/// The answer, if the server does not say that it failed.
pub(super) fn checked<T: Answer>(
    answer: Result<tonic::Response<T>, tonic::Status>,
) -> Result<T, Failure> {
    let answer = answer.map_err(Failure::Call)?.into_inner();
    match answer.status() {
        Some(status) if status.code != 0 || status.error_code != 0 => {
            Err(Failure::Status(status.clone()))
        }
        _ => Ok(answer),
    }
}

impl Failure {
    /// Whether the same call may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            _ if self.is_too_large() => false,
            // A status with a source is the connection's own: it broke, or there was none.
            Failure::Call(status) => {
                status.source().is_some()
                    || matches!(
                        status.code(),
                        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
                    )
            }
            Failure::Status(status) => {
                status.retriable
                    || matches!(status.code, NOT_READY | UNAVAILABLE | RATE_LIMIT)
                    || NODES.contains(&status.code)
                    || matches!(
                        status.error_code,
                        OLD_RATE_LIMIT | OLD_NOT_READY | OLD_NODE_NOT_MATCH
                    )
                    || names_a_lost_node(&status.reason)
            }
        }
    }

    /// Whether somebody answered at all.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Failure::Call(status) => status.source().is_none(),
            Failure::Status(_) => true,
        }
    }

    /// Whether the message was larger than the server takes: `received message larger than max` of gRPC in Go and
    /// in C.
    pub(super) fn is_too_large(&self) -> bool {
        matches!(self, Failure::Call(status)
            if matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange)
                && (status.message().contains("larger than max") || status.message().contains("too large")))
    }

    /// Whether there is no index, which is no failure to who asks for it.
    pub(super) fn is_no_index(&self) -> bool {
        matches!(self, Failure::Status(status)
            if status.code == INDEX_NOT_FOUND || status.error_code == OLD_INDEX_NOT_EXIST)
    }

    /// For people.
    pub(super) fn into_error(self, server: String, action: &'static str) -> Error {
        match self {
            Failure::Call(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => Error::RemoteDenied {
                    server,
                    reason: status.message().to_owned(),
                    remedy: DENIED,
                },
                Code::DeadlineExceeded => Error::RemoteUnreachable {
                    server,
                    reason: format!("it did not {action} in time"),
                    remedy: UNREACHABLE,
                },
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
                    if status.source().is_some() =>
                {
                    Error::RemoteUnreachable {
                        server,
                        reason: deepest(&status),
                        remedy: UNREACHABLE,
                    }
                }
                Code::Unavailable => Error::RemoteUnreachable {
                    server,
                    reason: status.message().to_owned(),
                    remedy: UNREACHABLE,
                },
                Code::Unimplemented => Error::RemoteRefused {
                    server,
                    action,
                    reason: "it knows no such call, and is no Milvus or one before 2.3".into(),
                },
                _ => Error::RemoteRefused { server, action, reason: status.message().to_owned() },
            },
            Failure::Status(status)
                if status.code == NOT_PERMITTED || status.error_code == OLD_PERMISSION_DENIED =>
            {
                Error::RemoteDenied { server, reason: status.reason, remedy: DENIED }
            }
            Failure::Status(status) => {
                Error::RemoteRefused { server, action, reason: status.reason }
            }
        }
    }
}

/// Whether a server that was started anew still looks for what it was before. 2.3.5 says so under the number for all
/// that is unexpected, until the lease of the former has ended.
fn names_a_lost_node(reason: &str) -> bool {
    ["node not match", "node not found", "node offline", "session not found"]
        .iter()
        .any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let call = |code, text: &str| Failure::Call(tonic::Status::new(code, text));
        assert!(call(Code::Unavailable, "").is_transient());
        assert!(call(Code::DeadlineExceeded, "").is_transient());
        assert!(call(Code::ResourceExhausted, "rate limit").is_transient());
        assert!(!call(Code::Unauthenticated, "").is_transient());
        assert!(!call(Code::InvalidArgument, "").is_transient());
        let large =
            call(Code::ResourceExhausted, "grpc: received message larger than max (6 vs. 4)");
        assert!(large.is_too_large() && !large.is_transient());
        let said = |code, retriable| {
            Failure::Status(proto::Status { code, retriable, ..proto::Status::default() })
        };
        assert!(said(RATE_LIMIT, false).is_transient() && said(2200, true).is_transient());
        assert!(!said(1100, false).is_transient());
        let lost = "attempt #0: rpc error: node not match[expectedNodeID=1][actualNodeID=2]";
        let lost = proto::Status { code: 65_535, reason: lost.into(), ..proto::Status::default() };
        assert!(Failure::Status(lost).is_transient());
        assert!(said(INDEX_NOT_FOUND, false).is_no_index());
    }
}
