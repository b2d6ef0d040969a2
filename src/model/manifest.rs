//! What is said of a model: where it comes from, what it takes, what it gives.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::digest::Sha256;
use crate::error::{Error, Result};
use crate::network::Preprocessing;

/// A list of models, as a mirror's `models.toml` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name of the model to take when the user named none.
    pub default: Option<String>,
    /// The models, each name once.
    #[serde(rename = "model", default)]
    pub models: Vec<ModelEntry>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// The name it is asked for by: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The name of its ONNX file in a mirror, relative to the manifest.
    pub file: String,
    /// The hash of that file. Whatever the source, it decides.
    pub sha256: Sha256,
    /// The size of that file.
    pub bytes: u64,
    /// Where the file can be downloaded, first to last.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Under what terms it may be used, for a person to read.
    #[serde(default)]
    pub licence: String,
    /// One line for a person to read.
    #[serde(default)]
    pub description: String,
    /// What happens to pixels before the network sees them.
    pub input: Preprocessing,
    /// What is taken from the network.
    pub output: ModelOutput,
    /// How it was made, when it is another model in 8 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantised: Option<Quantisation>,
    /// Whether somebody said at an import what is said here: then it holds for this model, and not for its file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
}

/// How a model in 8 bits was made, and how it did on the machine that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantisation {
    /// The name of the model it was made of.
    pub of: String,
    /// Photos that chose its scales.
    pub images: usize,
    /// Other photos, on which it was compared with the model it was made of.
    pub checked: usize,
    /// The mean cosine between the features of the two, in [-1, 1].
    pub cosine_mean: f32,
    /// The least cosine.
    pub cosine_min: f32,
    /// How many times as fast it ran, one thread.
    pub speed: f32,
    /// Bits of a weight: 8, or 7 where the processor would overflow.
    pub weight_bits: u8,
    /// How well either finds photos of the same label, where labelled ones were at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<Retrieval>,
}

/// How well a model in 8 bits, and the one it was made of, find labelled photos: every photo asks for all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retrieval {
    /// Photos that asked.
    pub queries: usize,
    /// Of the model it was made of.
    pub before: Finds,
    /// In 8 bits.
    pub after: Finds,
}

/// Means over the photos that asked, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finds {
    /// The share of photos whose nearest has their label.
    pub recall_at_1: f64,
    /// The mean average precision over the whole ranking.
    pub mean_average_precision: f64,
}

/// What is taken from a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelOutput {
    /// Which tensor holds the features.
    pub features: FeatureRule,
    /// How they are pooled, where that is not as the network has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// The number of features of one picture.
    pub width: usize,
}

/// How one value is made of each channel of a map of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Their mean.
    Average,
    /// The greatest.
    Max,
    /// The cube root of the mean of their cubes, negative ones as 0: generalised mean pooling with p = 3
    /// (Radenović, Tolias and Chum, *Fine-tuning CNN Image Retrieval with No Human Annotation*, 2018).
    Gem,
}

/// Which tensor of a network holds the features. In TOML `"pooled"`, or the tensor's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum FeatureRule {
    /// What feeds the last linear layer; the output where there is no such layer.
    Pooled,
    /// The tensor of this name.
    Tensor(String),
}

impl From<String> for FeatureRule {
    fn from(text: String) -> Self {
        if text == "pooled" { FeatureRule::Pooled } else { FeatureRule::Tensor(text) }
    }
}

impl From<FeatureRule> for String {
    fn from(rule: FeatureRule) -> Self {
        match rule {
            FeatureRule::Pooled => "pooled".into(),
            FeatureRule::Tensor(name) => name,
        }
    }
}

impl Manifest {
    /// The models likeness knows by itself.
    pub fn builtin() -> Self {
        Self::parse(include_str!("builtin.toml"), "builtin.toml").expect("a test reads it")
    }

    /// Reads a manifest; `origin` says where it lies, for the error.
    ///
    /// # Errors
    /// [`Error::ModelManifest`] when the TOML, or what it says, makes no sense.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let wrong = |source| Error::ModelManifest { origin: origin.to_owned(), source };
        let manifest: Self = toml::from_str(text).map_err(|e| wrong(Box::new(e)))?;
        for (i, entry) in manifest.models.iter().enumerate() {
            let twice = manifest.models[..i].iter().any(|earlier| earlier.name == entry.name);
            let sane = if twice { Err("its name is given twice".into()) } else { entry.check() };
            sane.map_err(|reason| wrong(format!("model `{}`: {reason}", entry.name).into()))?;
        }
        Ok(manifest)
    }

    /// The model of this name.
    pub fn find(&self, name: &str) -> Option<&ModelEntry> {
        self.models.iter().find(|entry| entry.name == name)
    }
}

impl ModelEntry {
    /// Reads the entry that lies beside an installed model.
    pub(crate) fn parse(text: &str, origin: &Path) -> Result<Self> {
        let wrong = |source| Error::ModelManifest { origin: origin.display().to_string(), source };
        let entry: Self = toml::from_str(text).map_err(|e| wrong(Box::new(e)))?;
        entry.check().map_err(|reason| wrong(reason.into()))?;
        Ok(entry)
    }

    /// The reason why this cannot be a model.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(
                "its name holds other characters than letters, digits, `.`, `_`, `-`".into()
            );
        }
        let inside = |part| matches!(part, Component::Normal(_));
        if self.file.is_empty() || !Path::new(&self.file).components().all(inside) {
            return Err(format!("its file `{}` is not below the manifest's folder", self.file));
        }
        self.check_values()
    }

    /// The reason why no network can work with these numbers.
    pub(crate) fn check_values(&self) -> Result<(), String> {
        match self.output.width {
            0 => Err("its width is 0".into()),
            width if width > WIDEST => Err(format!(
                "{width} features a picture are more than {WIDEST}: pool the map with `--pool average`, or name \
                 another tensor with `--output`"
            )),
            _ => check_preprocessing(&self.input),
        }
    }
}

/// The most features that a picture may have. Wider than what any network gives to compare pictures by; a map of
/// features that nobody pooled may have a million, of which each photo takes megabytes, and searches no index can do.
const WIDEST: usize = 1 << 16;

/// The reason why pixels cannot be prepared like this.
fn check_preprocessing(input: &Preprocessing) -> Result<(), String> {
    // Larger than any published network takes; bounds the memory a manifest can ask for.
    const LARGEST: u32 = 4096;
    if input.size == 0 || input.size > input.resize || input.resize > LARGEST {
        return Err(format!(
            "it resizes to {} and crops to {}; expected 0 < size ≤ resize ≤ {LARGEST}",
            input.resize, input.size
        ));
    }
    let finite = input.mean.iter().chain(&input.std).chain([&input.scale]).all(|v| v.is_finite());
    if !finite || input.scale == 0.0 || input.std.contains(&0.0) {
        return Err("its scale and std must be finite and not 0, its mean finite".into());
    }
    Ok(())
}

/// Whether `name` can be a model's name, and so a folder's on every file system.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.ends_with('.')
        && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_manifest_pins_six_models_and_the_starter() {
        let manifest = Manifest::builtin();
        assert_eq!(manifest.models.len(), 7);
        assert_eq!(manifest.default.as_deref(), Some("resnet50-v1-12"));
        let starter = manifest.find("starter").unwrap();
        assert!(starter.urls.is_empty(), "it is part of the program");
        for entry in manifest.models.iter().filter(|entry| *entry != starter) {
            assert_eq!(entry.file, format!("{}.onnx", entry.name));
            assert_eq!(entry.urls.len(), 2, "{}", entry.name);
            assert!(entry.urls.iter().all(|url| url.ends_with(&entry.file)), "{}", entry.name);
            assert_eq!((entry.output.width, &entry.output.features), (2048, &FeatureRule::Pooled));
        }
        let default = manifest.find("resnet50-v1-12").unwrap();
        assert_eq!(default.bytes, 102_576_593);
        assert!(default.sha256.to_string().starts_with("3f03fdef724b"));
    }

    #[test]
    fn an_entry_survives_its_toml() {
        for entry in Manifest::builtin().models {
            let text = toml::to_string(&entry).unwrap();
            assert_eq!(ModelEntry::parse(&text, Path::new("model.toml")).unwrap(), entry, "{text}");
        }
    }

    #[test]
    fn a_manifest_that_makes_no_sense_is_refused() {
        let good = include_str!("builtin.toml");
        let refused = |from: &str, to: &str| {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            let error = Manifest::parse(&text, "models.toml").unwrap_err();
            std::error::Error::source(&error).unwrap().to_string()
        };
        for (from, to, reason) in [
            ("\"resnet50-v1-12\"\nfile", "\"../evil\"\nfile", "its name holds other characters"),
            ("\"resnet50-v1-12.onnx\"", "\"../../passwd\"", "is not below the manifest's folder"),
            ("\"resnet50-v1-12.onnx\"", "\"/etc/passwd\"", "is not below the manifest's folder"),
            ("name = \"resnet50-v1-7\"", "name = \"resnet50-v1-12\"", "its name is given twice"),
            ("size = 224", "size = 0", "expected 0 < size"),
            ("resize = 256", "resize = 100", "expected 0 < size"),
            ("std = [0.229", "std = [0.0", "must be finite and not 0"),
            ("mean = [0.485", "mean = [nan", "must be finite and not 0"),
            ("width = 2048", "width = 0", "its width is 0"),
            ("width = 2048", "width = 65537", "65537 features a picture are more than 65536"),
            ("3f03fdef", "3f03", "expected 64 hexadecimal digits"),
            ("licence", "license", "unknown field"),
        ] {
            let found = refused(from, to);
            assert!(found.contains(reason), "{to}: {found}");
        }
    }

    #[test]
    fn a_name_is_never_a_path() {
        for name in ["resnet50", "a.b_c-1", "7"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", "trailing.", "C:"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
