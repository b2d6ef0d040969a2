//! Servers that many machines ask: collections made, filled, asked.

mod milvus;

pub use milvus::{
    Address, Client, ClientOptions, Description, Dialect, Facts, FoundRow, IndexKind, MAX_HITS,
    MAX_ROWS, MAX_TEXT, Row, Untranslatable, expression,
};
