//! likeness indexes folders of photos, finds similar ones, and exports their embeddings.
#![deny(missing_docs)]

pub mod catalog;
pub mod embedding;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod index;
pub mod library;
pub mod model;
pub mod network;
pub mod photo;
pub mod progress;
pub mod query;
pub mod record;
pub mod runtime;
pub mod scan;
pub mod sync;
