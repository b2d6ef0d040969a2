//! A library served by Milvus or PostgreSQL: pushed there, and asked there.
//!
//! The catalog stays the truth. A collection holds the vectors of one model of one library, which its properties
//! name; what is in it was written down here when the server acknowledged it.

mod find;
mod push;
mod record;

pub use find::{Served, ServedOptions};
pub use push::{PushOptions, PushReport, push};

use crate::error::{Error, Result};
use crate::record::ModelFingerprint;
use crate::remote::{Address, Description};

/// The form of a collection's columns. Raised when they change.
const LAYOUT: &str = "1";

const LAYOUT_KEY: &str = "likeness.layout";
const MODEL_KEY: &str = "likeness.model";
const FINGERPRINT_KEY: &str = "likeness.fingerprint";
const WIDTH_KEY: &str = "likeness.width";
const LIBRARY_KEY: &str = "likeness.library";
const TOKEN_KEY: &str = "likeness.push";

/// What a collection says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    /// The model's name.
    model: String,
    fingerprint: ModelFingerprint,
    width: usize,
    /// The number of the library.
    library: String,
    /// Of the push that made it.
    token: String,
}

impl Label {
    fn properties(&self) -> [(&'static str, String); 6] {
        [
            (LAYOUT_KEY, LAYOUT.to_owned()),
            (MODEL_KEY, self.model.clone()),
            (FINGERPRINT_KEY, self.fingerprint.to_string()),
            (WIDTH_KEY, self.width.to_string()),
            (LIBRARY_KEY, self.library.clone()),
            (TOKEN_KEY, self.token.clone()),
        ]
    }

    fn read(address: &Address, said: &Description) -> Result<Self> {
        let foreign = |reason: String| Error::RemoteForeign { place: address.place(), reason };
        let property = |key: &str| {
            let value = said.properties.get(key).cloned();
            value.ok_or_else(|| foreign(format!("it has no property `{key}`")))
        };
        let layout = property(LAYOUT_KEY)?;
        if layout != LAYOUT {
            return Err(foreign(format!("its layout is {layout}, this one knows {LAYOUT}")));
        }
        let odd = |key: &str| foreign(format!("its property `{key}` is not as it should be"));
        let fingerprint = ModelFingerprint::from_hex(&property(FINGERPRINT_KEY)?);
        Ok(Self {
            model: property(MODEL_KEY)?,
            fingerprint: fingerprint.ok_or_else(|| odd(FINGERPRINT_KEY))?,
            width: property(WIDTH_KEY)?.parse().map_err(|_| odd(WIDTH_KEY))?,
            library: property(LIBRARY_KEY)?,
            token: property(TOKEN_KEY)?,
        })
    }
}
