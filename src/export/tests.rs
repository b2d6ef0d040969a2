use super::*;
use crate::embedding::Features;
use crate::network::sample;
use crate::record::{ContentHash, ImageId, ModelFingerprint};

fn about(normalized: bool) -> About {
    About {
        model: "test".into(),
        fingerprint: ModelFingerprint::from_bytes([1; 32]),
        preprocessing: sample::preprocessing(224, 256),
        width: 3,
        normalized,
        library: "0".repeat(32),
    }
}

fn row(id: i64, path: PathBuf, values: [f32; 3]) -> Result<ExportRow> {
    Ok(ExportRow {
        id: ImageId(id),
        path,
        content_hash: ContentHash::from_bytes([id as u8; 32]),
        width: 40,
        height: 30,
        features: Features::new(values.to_vec(), 3).unwrap(),
    })
}

/// Values that a careless writer rounds, and a path that a careless writer breaks.
const FIRST: [f32; 3] = [0.1, 1.0e-40, 16_777_217.0];
const SECOND: [f32; 3] = [3.0, 4.0, 0.0];

fn rows() -> Vec<Result<ExportRow>> {
    vec![row(1, "/a, \"b\"\nc.jpg".into(), FIRST), row(7, "/d.jpg".into(), SECOND)]
}

fn write(out: &Path, format: Format, normalized: bool) -> Summary {
    export(out, format, &mut rows().into_iter(), &about(normalized), &Watch::none()).unwrap()
}

fn left_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_npy_file_holds_every_bit_of_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    assert_eq!(write(&out, Format::Npy, false).count, 2);
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
    let header = std::str::from_utf8(&bytes[10..128]).unwrap();
    assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
    assert!(header.ends_with('\n'));
    let (values, rest) = bytes[128..].as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
    assert_eq!((values, rest.len()), ([FIRST, SECOND].concat(), 0));
    let ids = std::fs::read_to_string(beside(&out, "ids.jsonl")).unwrap();
    let ids: Vec<serde_json::Value> =
        ids.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids[0]["path"], "/a, \"b\"\nc.jpg");
    assert_eq!((ids[1]["id"].as_i64(), ids[1]["height"].as_i64()), (Some(7), Some(30)));
    assert_eq!(left_in(dir.path()), ["out.npy", "out.npy.ids.jsonl", "out.npy.manifest.json"]);
}

#[test]
fn text_formats_read_back_the_same_floats() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.csv");
    write(&out, Format::Csv, false);
    let mut reader = ::csv::Reader::from_path(&out).unwrap();
    assert_eq!(reader.headers().unwrap().iter().nth(5), Some("e0"));
    let first = reader.records().next().unwrap().unwrap();
    assert_eq!(&first[1], "/a, \"b\"\nc.jpg");
    let floats: Vec<f32> = first.iter().skip(5).map(|v| v.parse().unwrap()).collect();
    assert_eq!(floats, FIRST);

    let out = dir.path().join("out.jsonl");
    write(&out, Format::Jsonl, false);
    let text = std::fs::read_to_string(&out).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let floats: Vec<f32> = serde_json::from_value(first["embedding"].clone()).unwrap();
    assert_eq!(floats, FIRST);
}

#[test]
fn normalised_vectors_have_length_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    write(&out, Format::Npy, true);
    let bytes = std::fs::read(&out).unwrap();
    let (values, _) = bytes[128 + 12..].as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
    assert_eq!(values, [0.6, 0.8, 0.0]);
}

#[test]
fn the_manifest_states_what_was_written_and_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    let summary = write(&out, Format::Npy, false);
    let manifest = summary.files.last().unwrap();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    assert_eq!((manifest["count"].as_i64(), manifest["width"].as_i64()), (Some(2), Some(3)));
    let hash = blake3::hash(&std::fs::read(&out).unwrap()).to_string();
    assert_eq!(manifest["files"][0]["blake3"], hash.as_str());
    assert_eq!(manifest["files"][1]["name"], "out.npy.ids.jsonl");
}

#[test]
fn a_failure_in_the_middle_leaves_the_previous_export_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    write(&out, Format::Npy, false);
    let before = std::fs::read(&out).unwrap();
    for format in [Format::Npy, Format::Csv, Format::Jsonl] {
        let mut failing = rows().into_iter().chain([Err(Error::Cancelled)]);
        let result = export(&out, format, &mut failing, &about(false), &Watch::none());
        assert!(matches!(result, Err(Error::Cancelled)));
    }
    assert_eq!(std::fs::read(&out).unwrap(), before);
    assert_eq!(left_in(dir.path()).len(), 3);
}

#[test]
fn an_export_of_nothing_is_a_valid_file() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    let summary =
        export(&out, Format::Npy, &mut std::iter::empty(), &about(false), &Watch::none()).unwrap();
    assert_eq!(summary.count, 0);
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(bytes.len(), 128);
    assert!(std::str::from_utf8(&bytes[10..]).unwrap().contains("'shape': (0, 3)"));
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut none = std::iter::empty();
    let error = export(dir.path(), Format::Npy, &mut none, &about(false), &Watch::none());
    assert!(matches!(error, Err(Error::ExportTarget { .. })));
    let missing = dir.path().join("missing/out.npy");
    let error = export(&missing, Format::Npy, &mut none, &about(false), &Watch::none());
    assert!(matches!(error, Err(Error::ExportFolder { .. })));
    assert!(matches!(Format::of(Path::new("out.xlsx")), Err(Error::ExportFormat { .. })));
}
