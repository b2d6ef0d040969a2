//! `likeness formats`, and files of the rarer formats on their way into a library.

use std::fs;

use serde_json::Value;

use crate::sandbox::{Sandbox, picture};
use crate::shared;

#[test]
fn formats_tells_what_works_and_what_to_install() {
    let sandbox = Sandbox::new();
    let formats = sandbox.run(&["formats", "--json"]).exits(0).json();
    let named = |name: &str| -> &Value {
        let found = formats.as_array().unwrap().iter().find(|format| format["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {formats}"))
    };
    assert_eq!(named("jpeg")["extensions"][0], "jpg");
    assert_eq!(named("raw")["works"], true);
    for name in ["heic", "avif"] {
        let format = named(name);
        let missing = format["missing"].as_str().unwrap_or_default();
        let (works, remedy) = (format["works"] == true, missing.contains(" needs "));
        assert!(works != remedy, "{format}");
        assert!(
            !works || format["decoder"].as_str().unwrap().starts_with("libheif 1."),
            "{format}"
        );
    }
    let text = sandbox.run(&["formats"]).exits(0).text();
    for word in ["JPEG", "camera RAW", "OpenEXR", "cr2", "nef", "decoded by"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn rarer_formats_are_indexed_like_any_photo() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("photos")).unwrap();
    for (seed, extension) in ["qoi", "tga", "ppm", "jpg", "bmp"].into_iter().enumerate() {
        let path = sandbox.path(format!("photos/{seed}.{extension}"));
        picture(seed as u32).save(path).unwrap();
    }
    // A camera's file without a name that a TIFF reader would open, and its preview at the end.
    let mut raw = b"IIRO\x08\0\0\0\0\0\0\0\0\0".to_vec();
    let mut preview = std::io::Cursor::new(Vec::new());
    picture(9).write_to(&mut preview, image::ImageFormat::Jpeg).unwrap();
    raw.extend(preview.into_inner());
    fs::write(sandbox.path("photos/9.orf"), raw).unwrap();
    let summary = sandbox.index(&["photos"]);
    assert_eq!((&summary["added"], &summary["skipped"]), (&6.into(), &0.into()), "{summary}");
}

/// Nothing of what the formats' own test suites hold stops a run, prints a panic, or goes unsaid.
#[test]
fn every_sample_of_a_format_is_decoded_or_named() {
    let Some(shared) = shared::folder("every_sample_of_a_format_is_decoded_or_named") else {
        return;
    };
    let sandbox = Sandbox::new();
    let folders = ["libheif", "libavif", "image-rs"].map(|folder| shared.join("odd").join(folder));
    let mut args = vec!["index", "--json"];
    args.extend(folders.iter().map(|folder| folder.to_str().unwrap()));
    let run = sandbox.run(&args).exits(3);
    assert!(!run.stderr.contains("panicked"), "{run}");
    let summary = run.json();
    let added = summary["added"].as_u64().unwrap();
    assert!(added > 330, "{added} added");
    for file in summary["skipped_files"].as_array().unwrap() {
        let reason = file["reason"].as_str().unwrap();
        assert!(!reason.is_empty() && !reason.ends_with('.') && !reason.contains('\n'), "{file}");
    }
}
