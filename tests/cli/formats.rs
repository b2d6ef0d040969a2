//! `likeness formats`, and files of the rarer formats on their way into a library.

use std::fs;

use serde_json::Value;

use crate::sandbox::{Sandbox, picture};

#[test]
fn formats_tells_what_works_and_what_to_install() {
    let sandbox = Sandbox::new();
    let formats = sandbox.run(&["formats", "--json"]).exits(0).json();
    let named = |name: &str| -> &Value {
        let found = formats.as_array().unwrap().iter().find(|format| format["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {formats}"))
    };
    assert_eq!(named("jpeg")["extensions"][0], "jpg");
    let text = sandbox.run(&["formats"]).exits(0).text();
    for word in ["JPEG", "OpenEXR", "decoded by"] {
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
    let summary = sandbox.index(&["photos"]);
    assert_eq!((&summary["added"], &summary["skipped"]), (&5.into(), &0.into()), "{summary}");
}
