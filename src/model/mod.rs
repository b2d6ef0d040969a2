//! ONNX file → feature network. The only room that knows model manifests, where models come from,
//! and what a network must look like to be one.
//!
//! [`ModelStore::obtain`] finds a model's file by name, in this program ([`STARTER`]), the model folders, a
//! mirror, or the internet; its SHA-256 decides. [`ModelStore::prepare`] takes the classifier off, keeps the result
//! in a cache, and describes it as a [`FeatureNetwork`](crate::network::FeatureNetwork).
//! For other devices than the CPU, [`fed_pixels`] and [`halved`] make of such a network what suits them.

mod cost;
mod digest;
mod ending;
mod external;
mod fetch;
mod half;
mod head;
mod import;
mod install;
mod installed;
mod manifest;
mod mirror;
mod pixels;
mod prepare;
mod preset;
mod publish;
mod quantise;
mod starter;
mod store;
mod surgery;
mod trace;

pub use cost::Cost;
pub use digest::Sha256;
pub use half::{Halved, halved};
pub use import::ImportOptions;
pub use installed::{Installed, ModelFile};
pub use manifest::{
    FeatureRule, Finds, Manifest, ModelEntry, ModelOutput, Pool, Quantisation, Retrieval,
};
pub use pixels::{PixelFed, fed_pixels};
pub use prepare::NetworkFacts;
pub use preset::Preset;
pub use quantise::{Activations, Quantiser, WeightBits};
pub use starter::{Obtained, STARTER, Wanted};
pub use store::{Listed, ModelStore, Place, StoreConfig, Verdict};
