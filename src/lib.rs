//! likeness indexes folders of photos, finds similar ones, and exports their embeddings.
//!
//! The `likeness` command is a thin layer over this crate. Data flows one way: [`scan`] walks folders,
//! [`photo`] decodes, [`model`] prepares a network, [`runtime`] runs it, [`catalog`] keeps what came out,
//! [`index`] chooses candidates; [`library`], [`sync`] and [`query`] put them together.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use likeness::engine::Engine;
//! use likeness::library::Library;
//! use likeness::model::{ModelStore, StoreConfig};
//! use likeness::photo::DecodeOptions;
//! use likeness::progress::Watch;
//! use likeness::query::FindOptions;
//! use likeness::record::ImageId;
//! use likeness::runtime::{Device, RuntimeConfig};
//! use likeness::sync::{self, SyncOptions};
//!
//! # fn main() -> likeness::error::Result<()> {
//! let data = Path::new("/var/lib/pictures");
//! let watch = Watch::none();
//!
//! // A network without classifier; fetched, checked and prepared where need be.
//! let models = ModelStore::new(StoreConfig {
//!     folder: data.join("models"),
//!     library_folder: None,
//!     mirror: None,
//!     offline: false,
//!     cache: data.join("networks"),
//! });
//! let network = models.prepare(&models.obtain(None, &watch)?, &watch)?;
//! let runtime = RuntimeConfig {
//!     explicit: None,
//!     data: data.to_path_buf(),
//!     offline: false,
//!     device: Device::Auto,
//! };
//! let engine = Engine::new(network, runtime, DecodeOptions::default());
//!
//! let mut library = Library::open(&data.join("library"))?;
//! let folders = vec!["/srv/photos".into()];
//! let report = sync::sync(&mut library, &engine, &SyncOptions::new(folders), &watch)?;
//! println!("{} added, {} skipped", report.added, report.skipped.len());
//!
//! let model = library.model(None)?;
//! let query = library.embedding_of(&model, ImageId(1))?;
//! for found in library.find(&model, &query, &FindOptions::default(), &watch)? {
//!     println!("{:.4} {}", found.hit.score, found.image.path.display());
//! }
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

pub mod catalog;
pub mod embedding;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod filter;
pub mod import;
pub mod index;
pub mod library;
pub mod model;
pub mod network;
mod onnx;
pub mod photo;
pub mod progress;
mod proxy;
pub mod quantise;
pub mod query;
mod random;
pub mod record;
#[cfg(feature = "remote")]
pub mod remote;
pub mod runtime;
pub mod scan;
#[cfg(feature = "remote")]
pub mod served;
pub mod sync;
pub mod thumbnail;
pub mod web;
