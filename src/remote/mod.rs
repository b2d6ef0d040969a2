//! Servers that many machines ask: collections made, filled, asked.
//!
//! [`Collection`] is what a server does for likeness, whichever it is: [`milvus`] or [`postgres`], where a table is the
//! collection. Calls wait for their answers; those that fail for a passing reason are said again, with growing waits.
//! What belongs in a collection, and what of it was sent, is the business of who calls.

mod address;
mod collection;
pub mod milvus;
mod patience;
pub mod postgres;
mod row;

pub use address::Address;
pub use collection::{
    ClientOptions, Collection, Description, FoundRow, IndexKind, MAX_HITS, MAX_ROWS, Search,
    connect,
};
pub use row::{Facts, MAX_TEXT, Row};
