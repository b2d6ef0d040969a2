use super::*;
use crate::embedding::Features;
use crate::network::sample;
use crate::record::{ContentHash, ImageId, ModelFingerprint, PhotoDetails};

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
        format: "jpeg".into(),
        details: PhotoDetails::default(),
        features: Features::new(values.to_vec(), 3).unwrap(),
    })
}

/// Values that a careless writer rounds, and a path that a careless writer breaks.
const FIRST: [f32; 3] = [0.1, 1.0e-40, 16_777_217.0];
const SECOND: [f32; 3] = [3.0, 4.0, 0.0];

fn rows() -> Vec<Result<ExportRow>> {
    vec![row(1, "/a, \"b\"\nc.jpg".into(), FIRST), row(7, "/d.jpg".into(), SECOND)]
}

const FILES: [Format; 9] = [
    Format::Npy,
    Format::Npz,
    Format::Csv,
    Format::Jsonl,
    Format::Parquet,
    Format::MilvusParquet,
    Format::Arrow,
    Format::Safetensors,
    Format::Fvecs,
];
const FOLDERS: [Format; 2] = [Format::Projector, Format::ClipRetrieval];

/// Rows with everything that can be known, every second one with nothing; more than a row group is not needed:
/// the width decides, and that is tested on its own.
fn many(count: i64) -> Vec<ExportRow> {
    let rows = (1..=count).map(|id| {
        let mut row = row(id, format!("/ä/{id}.jpg").into(), [id as f32, 0.25, -1.0e-7]).unwrap();
        if id % 2 == 0 {
            row.details = PhotoDetails {
                taken_at: Some("2024-05-01T12:34:56+02:00".into()),
                camera: Some("Canon EOS R5".into()),
                lens: Some("EF 50mm".into()),
                latitude: Some(48.137),
                longitude: Some(-11.575),
                rating: Some(-1),
                keywords: (0..id % 5).map(|word| format!("word {word}")).collect(),
            };
        }
        row
    });
    rows.collect()
}

fn write_as(out: &Path, rows: &[ExportRow], options: &Options<'_>) -> Result<Summary> {
    let mut each = rows.iter().cloned().map(Ok);
    export(out, rows.len() as u64, &mut each, options, &about(false), &Watch::none())
}

fn manifest_of(path: &Path) -> Manifest {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn write(out: &Path, format: Format, normalized: bool) -> Summary {
    let (mut rows, options) = (rows().into_iter(), Options::new(format));
    export(out, 2, &mut rows, &options, &about(normalized), &Watch::none()).unwrap()
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
    let floats: Vec<f32> = first.iter().skip(5).take(3).map(|v| v.parse().unwrap()).collect();
    assert_eq!((floats, &first[8]), (FIRST.to_vec(), ""));

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
    for format in FILES {
        let mut failing = rows().into_iter().chain([Err(Error::Cancelled)]);
        let options = Options::new(format);
        let result = export(&out, 3, &mut failing, &options, &about(false), &Watch::none());
        assert!(matches!(result, Err(Error::Cancelled)));
    }
    assert_eq!(std::fs::read(&out).unwrap(), before);
    assert_eq!(left_in(dir.path()).len(), 3);
}

#[test]
fn an_export_of_nothing_is_a_valid_file() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    let (mut none, npy) = (std::iter::empty(), Options::new(Format::Npy));
    let summary = export(&out, 0, &mut none, &npy, &about(false), &Watch::none()).unwrap();
    assert_eq!(summary.count, 0);
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(bytes.len(), 128);
    assert!(std::str::from_utf8(&bytes[10..]).unwrap().contains("'shape': (0, 3)"));
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut none, npy) = (std::iter::empty(), Options::new(Format::Npy));
    let error = export(dir.path(), 0, &mut none, &npy, &about(false), &Watch::none());
    assert!(matches!(error, Err(Error::ExportTarget { .. })));
    let missing = dir.path().join("missing/out.npy");
    let error = export(&missing, 0, &mut none, &npy, &about(false), &Watch::none());
    assert!(matches!(error, Err(Error::ExportFolder { .. })));
    assert!(matches!(Format::of(Path::new("out.xlsx")), Err(Error::ExportFormat { .. })));
}

#[test]
fn every_format_reads_back_what_was_written_in_both_types_and_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let rows = many(10);
    for format in FILES.into_iter().chain(FOLDERS) {
        for dtype in [Dtype::F32, Dtype::F16] {
            for shard in [None, NonZeroU64::new(3)] {
                let options = Options { dtype, shard, ..Options::new(format) };
                let out = dir.path().join(format.name());
                let wanted = options.check(10).is_ok();
                let written = write_as(&out, &rows, &options);
                assert_eq!(written.is_ok(), wanted, "{format:?} {dtype:?} {shard:?} {written:?}");
                let Ok(summary) = written else { continue };
                if !format.is_folder() {
                    let place = Place::new(&out, shard.map(|_| 4), &options).unwrap();
                    assert_eq!(place.names(shard.map(|_| 4)), summary.files, "{format:?}");
                }
                let manifest = match format.is_folder() {
                    true => summary.files[0].join("manifest.json"),
                    false => summary.files.last().unwrap().clone(),
                };
                let manifest = manifest_of(&manifest);
                let rows: Vec<u64> = manifest.files.iter().filter_map(|file| file.rows).collect();
                let expected = if shard.is_some() { vec![3, 3, 3, 1] } else { vec![10] };
                assert_eq!((rows, manifest.count), (expected, 10), "{format:?}");
            }
        }
    }
}

#[test]
fn every_format_can_be_empty() {
    let dir = tempfile::tempdir().unwrap();
    for format in FILES.into_iter().chain(FOLDERS) {
        let out = dir.path().join(format.name());
        let summary = write_as(&out, &[], &Options::new(format)).unwrap();
        assert_eq!(summary.count, 0, "{format:?}");
    }
}

#[test]
fn what_reads_back_otherwise_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.fvecs");
    let shape = Shape { rows: 1, width: 3, dtype: Dtype::F32 };
    let row = &many(1)[0];
    let mut encoder = Encoder::new(Dtype::F32, false, 3);
    let vector = encoder.vector(row).unwrap();
    let mut digest = Digest::default();
    digest.id(row.id.0);
    digest.vectors(vector.bytes);
    let written = |at: Option<u64>| {
        let mut writer: Box<dyn Writer> = Box::new(fvecs::Fvecs::create(&out, &shape).unwrap());
        let mut encoder = Encoder::new(Dtype::F32, false, 3);
        writer.write(row, encoder.vector(row).unwrap()).unwrap();
        let files: Vec<Durable> =
            writer.finish().unwrap().into_iter().map(|sink| sink.complete().unwrap()).collect();
        if let Some(at) = at {
            let mut bytes = std::fs::read(files[0].path()).unwrap();
            bytes[at as usize] ^= 1;
            std::fs::write(files[0].path(), bytes).unwrap();
        }
        verify(Format::Fvecs, &files, &shape, &digest)
    };
    assert!(written(None).is_ok());
    for at in [0, 4, 15] {
        let error = written(Some(at)).unwrap_err();
        assert!(matches!(error, Error::ExportReadBack { .. }), "{error}");
    }
    assert!(left_in(dir.path()).is_empty());
}

#[test]
fn another_number_of_rows_than_was_counted_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    for total in [1, 3] {
        let (mut rows, npy) = (rows().into_iter(), Options::new(Format::Npy));
        let error = export(&out, total, &mut rows, &npy, &about(false), &Watch::none());
        assert!(matches!(error, Err(Error::ExportReadBack { .. })), "{error:?}");
    }
    assert!(left_in(dir.path()).is_empty());
}

#[test]
fn a_folder_replaces_an_earlier_export_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("clip");
    let parts = Options { shard: NonZeroU64::new(1), ..Options::new(Format::ClipRetrieval) };
    write_as(&out, &many(12), &parts).unwrap();
    assert_eq!(left_in(&out.join("img_emb")).first().unwrap(), "img_emb_00.npy");
    write_as(&out, &many(2), &Options::new(Format::ClipRetrieval)).unwrap();
    assert_eq!(left_in(&out.join("img_emb")), ["img_emb_0.npy"]);
    assert_eq!(left_in(dir.path()), ["clip"]);

    std::fs::write(out.join("img_emb/mine.txt"), "precious").unwrap();
    let refused = write_as(&out, &many(2), &Options::new(Format::ClipRetrieval));
    assert!(matches!(refused, Err(Error::ExportTarget { .. })), "{refused:?}");
    std::fs::write(dir.path().join("file"), "precious").unwrap();
    let refused = write_as(&dir.path().join("file"), &many(2), &Options::new(Format::Projector));
    assert!(matches!(refused, Err(Error::ExportTarget { .. })), "{refused:?}");
}

#[test]
fn only_an_earlier_export_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (one, parts) = (None, NonZeroU64::new(1));
    for (name, shard) in [
        ("out.npy", one),
        ("out.npy.ids.jsonl", one),
        ("out.npy.manifest.json", one),
        ("out-00001.npy", parts),
        ("out-00001.npy.ids.jsonl", parts),
    ] {
        let foreign = dir.path().join(name);
        std::fs::write(&foreign, "precious").unwrap();
        let options = Options { shard, ..Options::new(Format::Npy) };
        let refused = write_as(&dir.path().join("out.npy"), &many(2), &options).unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
        assert!(refused.hint().unwrap().contains("delete this one first"), "{refused}");
        assert_eq!(left_in(dir.path()), [name]);
        assert_eq!(std::fs::read(&foreign).unwrap(), b"precious");
        std::fs::remove_file(foreign).unwrap();
    }
    for format in FILES {
        let photo = dir.path().join("photo.jpg");
        std::fs::write(&photo, "precious").unwrap();
        let refused = write_as(&photo, &many(2), &Options::new(format));
        assert!(matches!(refused, Err(Error::ExportTarget { .. })), "{refused:?}");
    }
    // What came while the export was written.
    let out = dir.path().join("late.npy");
    let mut rows = many(2).into_iter().map(|row| {
        std::fs::write(&out, "precious").unwrap();
        Ok(row)
    });
    let options = Options::new(Format::Npy);
    let refused = export(&out, 2, &mut rows, &options, &about(false), &Watch::none());
    assert!(matches!(refused, Err(Error::ExportTarget { .. })), "{refused:?}");
    assert_eq!(left_in(dir.path()), ["late.npy", "photo.jpg"]);
}

#[test]
fn files_that_only_the_earlier_export_had_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    let export = |rows, shard| {
        let options = Options { shard: NonZeroU64::new(shard), ..Options::new(Format::Npy) };
        write_as(&out, &many(rows), &options).unwrap();
        left_in(dir.path())
    };
    assert_eq!(export(5, 2).len(), 7);
    // Named as a shard, but not by the manifest; and what a manifest names, but likeness would not.
    std::fs::write(dir.path().join("out-00007.npy"), "precious").unwrap();
    std::fs::write(dir.path().join("photo.jpg"), "precious").unwrap();
    let manifest = beside(&out, "manifest.json");
    let mut altered = manifest_of(&manifest);
    for name in ["photo.jpg", "../photo.jpg"] {
        altered.files.push(FileRecord { name: name.into(), ..altered.files[0].clone() });
    }
    std::fs::write(&manifest, serde_json::to_vec(&altered).unwrap()).unwrap();
    let shard = |n: u32| [format!("out-0000{n}.npy"), format!("out-0000{n}.npy.ids.jsonl")];
    let others = ["out-00007.npy", "out.npy.manifest.json", "photo.jpg"].map(str::to_owned);
    assert_eq!(export(3, 2), [&shard(0)[..], &shard(1), &others].concat());
    let one =
        ["out-00007.npy", "out.npy", "out.npy.ids.jsonl", "out.npy.manifest.json", "photo.jpg"];
    let options = Options::new(Format::Npy);
    write_as(&out, &many(3), &options).unwrap();
    assert_eq!(left_in(dir.path()), one);
    // Another format has no ids beside it.
    write_as(&out, &many(3), &Options::new(Format::Csv)).unwrap();
    assert!(!left_in(dir.path()).contains(&"out.npy.ids.jsonl".to_owned()));
}

#[cfg(unix)]
#[test]
fn a_failure_among_the_names_leaves_no_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    let (disk, gone) = (dir.path().join("disk"), dir.path().join("gone"));
    std::fs::create_dir(&disk).unwrap();
    // The ids lie on a disk that goes when all is written and read back.
    std::os::unix::fs::symlink("disk/ids", beside(&out, "ids.jsonl")).unwrap();
    write_as(&out, &many(1), &Options::new(Format::Npy)).unwrap();
    let goes = |event| {
        if matches!(event, Event::Vectors { done: 2, .. }) {
            std::fs::rename(&disk, &gone).unwrap();
        }
    };
    let (mut rows, options) = (rows().into_iter(), Options::new(Format::Npy));
    let never = std::sync::atomic::AtomicBool::new(false);
    let watch = Watch::new(&goes, &never);
    let failed = export(&out, 2, &mut rows, &options, &about(false), &watch);
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    assert!(!beside(&out, "manifest.json").exists());
    assert!(matches!(Import::open(&out), Err(Error::ImportManifest { .. })));
}

#[test]
fn names_are_not_given_while_somebody_is_about_to_exit() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    let (told, all_written) = std::sync::mpsc::channel();
    let about_to_exit = hold_publishing();
    let tell = |event| told.send(event).unwrap();
    let tell: &(dyn Fn(Event) + Sync) = &tell;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let never = std::sync::atomic::AtomicBool::new(false);
            let (mut rows, options) = (rows().into_iter(), Options::new(Format::Npy));
            let watch = Watch::new(tell, &never);
            export(&out, 2, &mut rows, &options, &about(false), &watch).unwrap();
        });
        all_written.recv().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!out.exists());
        drop(about_to_exit);
    });
    assert!(out.exists());
}

#[test]
fn an_export_does_not_sweep_what_another_writes() {
    let dir = tempfile::tempdir().unwrap();
    let killed = dir.path().join(".likeness-export-AbC123");
    std::fs::write(&killed, "half of it").unwrap();
    let mut outer = many(2).into_iter().map(|row| {
        assert_eq!(killed.exists(), cfg!(not(unix)));
        write_as(&dir.path().join("inner.npy"), &many(3), &Options::new(Format::Npy))?;
        Ok(row)
    });
    let (out, options) = (dir.path().join("outer.npz"), Options::new(Format::Npz));
    export(&out, 2, &mut outer, &options, &about(false), &Watch::none()).unwrap();
    assert_eq!(left_in(dir.path()).len(), 5);
}

#[test]
fn nothing_is_written_into_the_library() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("library");
    std::fs::create_dir_all(library.join("index")).unwrap();
    for format in FILES.into_iter().chain(FOLDERS) {
        let options = Options { library: Some(&library), ..Options::new(format) };
        for out in ["library/out", "library/index/out", "library/../library/out"] {
            let refused = write_as(&dir.path().join(out), &many(1), &options).unwrap_err();
            assert!(refused.to_string().contains("in the library's own folder"), "{refused}");
        }
        write_as(&dir.path().join(format.name()), &many(1), &options).unwrap();
    }
    #[cfg(unix)]
    {
        let link = dir.path().join("link.csv");
        std::os::unix::fs::symlink("library/catalog.sqlite", &link).unwrap();
        let options = Options { library: Some(&library), ..Options::new(Format::Csv) };
        assert!(write_as(&link, &many(1), &options).is_err());
    }
    assert_eq!(left_in(&library), ["index"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_neither_waited_for_nor_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let dir = tempfile::tempdir().unwrap();
    for name in ["out.npy", "out.npy.ids.jsonl", "out.npy.manifest.json"] {
        let pipe = dir.path().join(name);
        let path = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
        // SAFETY: the path ends in a null byte and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let out = dir.path().join("out.npy");
        let refused = write_as(&out, &many(1), &Options::new(Format::Npy)).unwrap_err();
        assert!(refused.to_string().ends_with("it is a pipe"), "{refused}");
        assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
        std::fs::remove_file(pipe).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_and_stays() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("disk")).unwrap();
    let (out, lands) = (dir.path().join("out.npy"), dir.path().join("disk/real.npy"));
    symlink("disk/real.npy", &out).unwrap();
    // First it leads to nothing, then to an earlier export.
    for rows in [1, 2] {
        write_as(&out, &many(rows), &Options::new(Format::Npy)).unwrap();
        assert!(out.symlink_metadata().unwrap().is_symlink());
        assert_eq!(left_in(&dir.path().join("disk")), ["real.npy"]);
        assert_eq!(lands.metadata().unwrap().len(), 128 + 12 * rows as u64);
        Import::open(&out).unwrap().verify(&Watch::none()).unwrap();
    }
    std::fs::write(dir.path().join("photo.jpg"), "precious").unwrap();
    symlink("photo.jpg", dir.path().join("other.npy")).unwrap();
    let other = dir.path().join("other.npy");
    let refused = write_as(&other, &many(1), &Options::new(Format::Npy)).unwrap_err();
    assert!(matches!(refused, Error::ExportTarget { .. }), "{refused}");
    symlink("round.npy", dir.path().join("round.npy")).unwrap();
    let round = dir.path().join("round.npy");
    assert!(write_as(&round, &many(1), &Options::new(Format::Npy)).is_err());
    // A folder, too.
    let (clip, lands) = (dir.path().join("clip"), dir.path().join("disk/clip"));
    symlink("disk/clip", &clip).unwrap();
    for _ in 0..2 {
        write_as(&clip, &many(1), &Options::new(Format::ClipRetrieval)).unwrap();
        assert!(clip.symlink_metadata().unwrap().is_symlink() && lands.is_dir());
    }
}

#[cfg(unix)]
#[test]
fn what_is_replaced_keeps_its_mode() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    for format in [Format::Npy, Format::ClipRetrieval] {
        let out = dir.path().join(format.name());
        let files = write_as(&out, &many(1), &Options::new(format)).unwrap().files;
        for (at, file) in files.iter().enumerate() {
            set_permissions(file, Permissions::from_mode(0o700 + at as u32)).unwrap();
        }
        write_as(&out, &many(2), &Options::new(format)).unwrap();
        for (at, file) in files.iter().enumerate() {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700 + at as u32, "{}", file.display());
        }
    }
}

#[test]
fn halves_that_overflow_are_refused_with_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = many(2);
    rows[1].features = Features::new(vec![65_520.0, 1.0, 1.0], 3).unwrap();
    let options = Options { dtype: Dtype::F16, ..Options::new(Format::Npy) };
    let error = write_as(&dir.path().join("out.npy"), &rows, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a feature of image 2 is 65520, more than 16-bit floats hold (65504)"
    );
    rows[1].features = Features::new(vec![65_519.0, 1.0, 1.0], 3).unwrap();
    write_as(&dir.path().join("out.npy"), &rows, &options).unwrap();
}

#[test]
fn the_projector_is_not_given_more_points_than_it_takes() {
    let options = Options::new(Format::Projector);
    assert!(options.check(MOST_POINTS).is_ok());
    let error = options.check(MOST_POINTS + 1).unwrap_err();
    assert!(error.to_string().contains("100000 points, and these are 100001"), "{error}");
    assert!(error.hint().unwrap().contains("--where"));
}

#[test]
fn an_export_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let rows = many(7);
    for format in [Format::Npy, Format::Parquet] {
        for shard in [None, NonZeroU64::new(4)] {
            let out = dir.path().join(format!("out.{}", format.name()));
            let options = Options { shard, ..Options::new(format) };
            let summary = write_as(&out, &rows, &options).unwrap();
            let import = Import::open(summary.files.last().unwrap()).unwrap();
            let mut read = Vec::new();
            import
                .verify(&Watch::none())
                .unwrap()
                .each(&mut |image| {
                    read.push(image);
                    Ok(())
                })
                .unwrap();
            let expected = rows.iter().map(|row| ImportedImage {
                content_hash: row.content_hash,
                width: row.width,
                height: row.height,
                format: row.format.clone(),
                details: row.details.clone(),
                features: row.features.clone(),
            });
            assert_eq!(read, expected.collect::<Vec<_>>(), "{format:?} {shard:?}");
        }
    }
}

#[test]
fn numbers_in_parquet_have_the_types_that_they_have_in_arrow() {
    use ::parquet::basic::ConvertedType;
    use ::parquet::file::reader::FileReader;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.parquet");
    write_as(&out, &many(2), &Options::new(Format::Parquet)).unwrap();
    let file = std::fs::File::open(&out).unwrap();
    let reader = ::parquet::file::serialized_reader::SerializedFileReader::new(file).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr();
    for (name, expected) in [
        ("width", ConvertedType::UINT_32),
        ("height", ConvertedType::UINT_32),
        ("rating", ConvertedType::INT_8),
    ] {
        let column = schema.columns().iter().find(|column| column.name() == name).unwrap();
        assert_eq!(column.converted_type(), expected, "{name}");
    }
}

#[test]
fn row_groups_are_bounded_and_read_back_across_their_ends() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.parquet");
    // As wide as makes a row group of a few rows.
    let width = 3 << 20;
    let wide = About { width, ..about(false) };
    let mut rows = many(7);
    for (at, row) in rows.iter_mut().enumerate() {
        let values = (0..width).map(|i| (i + at + 1) as f32).collect();
        row.features = Features::new(values, width).unwrap();
    }
    let mut each = rows.iter().cloned().map(Ok);
    let options = Options::new(Format::Parquet);
    export(&out, 7, &mut each, &options, &wide, &Watch::none()).unwrap();
    let mut at = 0;
    Import::open(&out)
        .unwrap()
        .verify(&Watch::none())
        .unwrap()
        .each(&mut |image| {
            assert_eq!(image.features, rows[at].features);
            at += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(at, 7);
}

#[test]
fn a_manifest_cannot_name_files_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npy");
    let summary = write_as(&out, &many(1), &Options::new(Format::Npy)).unwrap();
    let path = summary.files.last().unwrap();
    for name in ["../out.npy", "/etc/passwd", ""] {
        let mut manifest = manifest_of(path);
        manifest.files[0].name = name.into();
        std::fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
        let error = Import::open(path).unwrap().verify(&Watch::none()).unwrap_err();
        assert!(matches!(error, Error::ImportManifest { .. }), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_unicode_survives_in_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.npz");
    let mut rows = many(1);
    rows[0].path = crate::record::PathBytes::from_bytes(b"/caf\xe9".to_vec()).to_path();
    write_as(&out, &rows, &Options::new(Format::Npz)).unwrap();
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&out).unwrap()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut zip.by_name("paths.npy").unwrap(), &mut bytes).unwrap();
    let (points, _) = bytes[128..].as_chunks();
    let points: Vec<u32> = points.iter().map(|point| u32::from_le_bytes(*point)).collect();
    assert_eq!(points, [0x2f, 0x63, 0x61, 0x66, 0xdce9]);
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_unicode_leaves_a_table_readable_and_can_be_had_back() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.csv");
    let mut rows = many(2);
    rows[0].path = crate::record::PathBytes::from_bytes(b"/caf\xe9".to_vec()).to_path();
    write_as(&out, &rows, &Options::new(Format::Csv)).unwrap();
    let mut text = std::fs::read(&out).unwrap();
    let mut reader = ::csv::Reader::from_reader(std::str::from_utf8(&text).unwrap().as_bytes());
    assert_eq!(reader.headers().unwrap().iter().next_back(), Some("path_bytes"));
    let found: Vec<(String, String)> =
        reader.records().map(Result::unwrap).map(|row| (row[1].into(), row[8].into())).collect();
    assert_eq!(found[0], ("/caf\u{fffd}".into(), "2f636166e9".into()));
    assert_eq!(found[1], ("/ä/2.jpg".into(), String::new()));
    // What others could not read does not pass as read back.
    let at = text.windows(4).position(|bytes| bytes == b"/caf").unwrap();
    text[at] = 0xe9;
    std::fs::write(&out, text).unwrap();
    assert!(csv::read_back(&out, 3, &mut Digest::default()).is_err());
}
