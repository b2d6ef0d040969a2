//! Collections of a Milvus server: made, filled, asked.
//!
//! A thin client over the part of Milvus's protocol that is used here, whose code was generated once
//! (`tools/milvus-proto`). Calls wait for their answers; those that fail for a passing reason are said again, with
//! growing waits. What belongs in a collection, and what of it was sent, is the business of who calls.

mod address;
mod client;
mod expression;
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, dead_code)]
mod proto;
mod read;
mod row;
mod status;
mod write;

pub use address::Address;
pub use client::{Client, ClientOptions, Description};
pub use expression::{Dialect, Untranslatable, expression};
pub use read::{FoundRow, MAX_HITS};
pub use row::{Facts, MAX_TEXT, Row};
pub use write::{IndexKind, MAX_ROWS};
