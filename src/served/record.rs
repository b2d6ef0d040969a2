//! An image as a row, and back: the record of a row is all that an answer shows.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::catalog::{FactsHash, ImageRecord, PushImage};
use crate::record::{ImageId, PathBytes, PhotoDetails};
use crate::remote::{Facts, MAX_TEXT};

/// A path: as text, or where it is no UTF-8 by its bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes { bytes: Vec<u8> },
}

impl Name {
    fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Name::Text(text.to_owned()),
            None => Name::Bytes { bytes: PathBytes::from_path(path).as_bytes().to_vec() },
        }
    }

    fn into_path(self) -> PathBuf {
        match self {
            Name::Text(text) => text.into(),
            Name::Bytes { bytes } => PathBytes::from_bytes(bytes).to_path(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    root: Name,
    path: Name,
    width: u32,
    height: u32,
    copies: Vec<Name>,
    #[serde(flatten)]
    details: PhotoDetails,
}

/// What is pushed of an image beside its vector. Of copies and keywords, as many as a column takes.
pub(super) fn facts(image: &PushImage) -> Facts {
    let ImageRecord { width, height, root, path, copies, details, .. } = &image.record;
    let mut record = Record {
        root: Name::of(root),
        path: Name::of(path),
        width: *width,
        height: *height,
        copies: copies.iter().map(|path| Name::of(path)).collect(),
        details: details.clone(),
    };
    let text = loop {
        let text = serde_json::to_string(&record).expect("texts and numbers are plain data");
        if text.len() <= MAX_TEXT {
            break text;
        }
        // What nobody misses first. Half of it: who has a thousand copies does not wait for a thousand texts.
        if !record.copies.is_empty() {
            record.copies.truncate(record.copies.len() / 2);
        } else if !record.details.keywords.is_empty() {
            record.details.keywords.truncate(record.details.keywords.len() / 2);
        } else {
            let PhotoDetails { taken_at, camera, lens, .. } = &mut record.details;
            for text in [taken_at, camera, lens] {
                *text = None;
            }
        }
    };
    Facts {
        path: path.to_string_lossy().into_owned(),
        path_lossy: path.to_str().is_none(),
        root: root.to_string_lossy().into_owned(),
        content_hash: image.content_hash.to_string(),
        width: *width,
        height: *height,
        format: image.format.clone(),
        taken_at: details.taken_at.clone(),
        camera: details.camera.clone(),
        lens: details.lens.clone(),
        place: details.latitude.zip(details.longitude),
        rating: details.rating,
        keywords: details.keywords.clone(),
        record: text,
    }
}

/// A hash of all of them.
pub(super) fn hash(facts: &Facts) -> FactsHash {
    let bytes = serde_json::to_vec(facts).expect("texts and numbers are plain data");
    let hash = blake3::hash(&bytes);
    *hash.as_bytes().first_chunk().expect("it has 32 bytes")
}

/// The image that a record tells of; `None` for what is none of ours.
pub(super) fn image(id: ImageId, record: &str) -> Option<ImageRecord> {
    let Record { root, path, width, height, copies, details } =
        serde_json::from_str(record).ok()?;
    Some(ImageRecord {
        id,
        width,
        height,
        root: root.into_path(),
        path: path.into_path(),
        copies: copies.into_iter().map(Name::into_path).collect(),
        details,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::ContentHash;

    fn pushed(paths: Vec<Vec<u8>>, keywords: Vec<String>, camera: Option<String>) -> PushImage {
        let mut paths = paths.into_iter().map(|path| PathBytes::from_bytes(path).to_path());
        let record = ImageRecord {
            id: ImageId(7),
            width: 4032,
            height: 3024,
            root: "/".into(),
            path: paths.next().unwrap(),
            copies: paths.collect(),
            details: PhotoDetails {
                camera,
                latitude: Some(-0.0),
                longitude: Some(180.0),
                rating: Some(0),
                keywords,
                ..PhotoDetails::default()
            },
        };
        PushImage { record, content_hash: ContentHash::from_bytes([1; 32]), format: "jpeg".into() }
    }

    proptest! {
        #[test]
        fn an_image_survives_its_record(
            paths in prop::collection::vec(prop::collection::vec(1u8.., 1..40), 1..4),
            keywords in prop::collection::vec(".*", 0..3),
            camera in prop::option::of(".*"),
        ) {
            let image_before = pushed(paths, keywords, camera);
            let facts = facts(&image_before);
            prop_assert_eq!(image(ImageId(7), &facts.record), Some(image_before.record));
        }
    }

    #[test]
    fn what_is_too_long_for_a_column_is_shortened() {
        let long = |count: usize| vec![vec![b'a'; 4_000]; count];
        let facts_of = |image: &PushImage| facts(image);
        let many = facts_of(&pushed(long(1_000), vec!["sea".into()], None));
        assert!(many.record.len() <= MAX_TEXT);
        let back = image(ImageId(7), &many.record).unwrap();
        assert!(back.copies.len() > 5 && back.details.keywords == ["sea"]);
        let words = facts_of(&pushed(long(1), vec!["k".repeat(9_000); 20], None));
        assert!(words.record.len() <= MAX_TEXT);
        let camera = facts_of(&pushed(long(1), vec![], Some("c".repeat(70_000))));
        assert!(camera.record.len() <= MAX_TEXT);
    }

    #[test]
    fn a_change_changes_the_hash() {
        let hash_of = |path: &str, keywords: &[&str]| {
            let keywords = keywords.iter().map(|k| (*k).to_owned()).collect();
            hash(&facts(&pushed(vec![path.into()], keywords, None)))
        };
        assert_eq!(hash_of("/a", &["b"]), hash_of("/a", &["b"]));
        assert_ne!(hash_of("/a", &["b"]), hash_of("/b", &["b"]));
        assert_ne!(hash_of("/a", &["b"]), hash_of("/a", &["b", "c"]));
    }
}
