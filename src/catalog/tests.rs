use super::*;
use crate::embedding::Features;
use crate::network::{FeatureNetwork, sample};
use crate::record::{PathBytes, PhotoDetails, PhotoFacts, SourceFile};

pub(super) fn network() -> FeatureNetwork {
    sample::network(2)
}

fn file(name: &[u8]) -> SourceFile {
    let relative = PathBytes::from_bytes(name.to_vec());
    SourceFile { root: "/photos".into(), relative, size: 3, mtime_ns: -5 }
}

fn hash(name: &[u8]) -> ContentHash {
    ContentHash::from_bytes(*blake3::hash(name).as_bytes())
}

fn facts() -> PhotoFacts {
    let details = PhotoDetails {
        taken_at: Some("2024-05-01T12:34:56".into()),
        latitude: Some(-33.5),
        longitude: Some(18.0),
        rating: Some(-1),
        keywords: vec!["sea".into(), "\"quoted\"".into()],
        ..PhotoDetails::default()
    };
    PhotoFacts { width: 4, height: 3, format: "jpeg", details }
}

/// A catalog with one photo for each name below `root`.
fn catalog(root: &str, names: &[&[u8]]) -> (tempfile::TempDir, Catalog, Scope, ModelId) {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    let (scope, model) = {
        let mut batch = catalog.batch().unwrap();
        let model = batch.add_model(&network()).unwrap();
        let scope = batch.enter(Path::new(root), None).unwrap();
        for name in names {
            let image = batch.add_image(&hash(name), &facts()).unwrap();
            let features = Features::new(vec![1.0, names.len() as f32], 2).unwrap();
            batch.add_features(image, model, &features).unwrap();
            batch.link(scope.root, &file(name), image).unwrap();
        }
        batch.commit().unwrap();
        (scope, model)
    };
    (dir, catalog, scope, model)
}

#[test]
fn what_a_photo_says_of_itself_comes_back() {
    let (_dir, catalog, ..) = catalog("/photos", &[b"1.jpg"]);
    let image = catalog.image(ImageId(1)).unwrap().unwrap();
    assert_eq!((image.width, image.height, image.details), (4, 3, facts().details));
}

#[test]
fn a_name_that_is_not_unicode_comes_back_as_it_was() {
    let name: &[u8] = b"caf\xe9.jpg";
    let (_dir, catalog, scope, model) = catalog("/photos", &[name]);
    let known = catalog.known_files(&scope, model).find(&file(name).relative).unwrap();
    let expected = |id| KnownFile::Indexed { id, size: 3, mtime_ns: -5, embedded: true };
    assert_eq!(known, Some(expected(FileId(1))));
    let image = catalog.image(ImageId(1)).unwrap().unwrap();
    assert_eq!(PathBytes::from_path(&image.path).as_bytes(), b"/photos/caf\xe9.jpg");
}

#[test]
fn a_batch_that_is_not_committed_never_happened() {
    let (_dir, mut catalog, scope, _) = catalog("/photos", &[b"a.jpg"]);
    let mut batch = catalog.batch().unwrap();
    let image = batch.add_image(&hash(b"new"), &facts()).unwrap();
    batch.link(scope.root, &file(b"new.jpg"), image).unwrap();
    drop(batch);
    assert_eq!(catalog.counts().unwrap().files, 1);
}

#[test]
fn an_outer_root_takes_in_the_inner_one_with_all_that_is_known() {
    let (_dir, mut catalog, _, model) = catalog("/photos/2024", &[b"a.jpg", b"may/b.jpg"]);
    let mut batch = catalog.batch().unwrap();
    let outer = batch.enter(Path::new("/photos"), None).unwrap();
    batch.commit().unwrap();
    assert_eq!(catalog.roots().unwrap(), [(outer.root, PathBuf::from("/photos"))]);
    let known =
        |name: &[u8]| catalog.known_files(&outer, model).find(&file(name).relative).unwrap();
    assert!(known(b"2024/a.jpg").is_some());
    assert!(known(b"2024/may/b.jpg").is_some());
    let inner = catalog.scope_of(Path::new("/photos/2024/may")).unwrap().unwrap();
    assert_eq!(inner.below, Path::new("2024/may"));
    assert_eq!(catalog.count_files(&inner).unwrap(), 1);
}

#[test]
fn a_folder_whose_name_begins_like_another_is_not_inside_it() {
    let (_dir, mut catalog, _, _) = catalog("/photos2", &[b"a.jpg"]);
    let mut batch = catalog.batch().unwrap();
    batch.enter(Path::new("/photos"), None).unwrap();
    batch.commit().unwrap();
    assert_eq!(catalog.roots().unwrap().len(), 2);
}

#[test]
fn known_files_are_found_whatever_lies_between_them() {
    // More than a page, and every third of them skipped.
    let names: Vec<Vec<u8>> = (0..9_000).map(|n| format!("{n:05}.jpg").into_bytes()).collect();
    let (_dir, mut catalog, scope, model) = catalog("/photos", &[b"00000.jpg"]);
    let mut batch = catalog.batch().unwrap();
    let skip = Skip { decoder: 1, worth_telling: true, reason: "damaged" };
    for (n, name) in names.iter().enumerate() {
        match n % 3 {
            0 => batch.skip(scope.root, &file(name), &skip).unwrap(),
            _ => batch.link(scope.root, &file(name), ImageId(1)).map(drop).unwrap(),
        }
    }
    batch.commit().unwrap();
    let mut known = catalog.known_files(&scope, model);
    for (n, name) in names.iter().enumerate().filter(|(n, _)| n % 4 != 0) {
        let found = known.find(&file(name).relative).unwrap();
        let skipped = matches!(found, Some(KnownFile::Skipped { .. }));
        assert_eq!((found.is_some(), skipped), (true, n % 3 == 0), "{n}");
        let between = [name.as_slice(), b"x"].concat();
        assert_eq!(known.find(&file(&between).relative).unwrap(), None);
    }
    // Every fourth was not asked for; a third of those are skipped, and 0 is both.
    assert_eq!(known.not_found().unwrap().len(), 9_000 / 4 - 9_000 / 12 + 1);
}

#[test]
fn only_what_a_whole_walk_missed_is_forgotten() {
    let names: [&[u8]; 4] = [b"a.jpg", b"b.jpg", b"locked/c.jpg", b"sub/d.jpg"];
    let (_dir, mut catalog, scope, model) = catalog("/photos", &names);
    let gone = {
        // A whole walk comes upon the first one only.
        let mut known = catalog.known_files(&scope, model);
        assert!(known.find(&file(b"a.jpg").relative).unwrap().is_some());
        known.not_found().unwrap()
    };
    let mut batch = catalog.batch().unwrap();
    let new = batch.add_image(&hash(b"new"), &facts()).unwrap();
    batch.link(scope.root, &file(b"new.jpg"), new).unwrap();
    let locked = [PathBytes::from_bytes(b"locked".to_vec())];
    let gone = batch.forget_files(&gone, &locked).unwrap();
    batch.commit().unwrap();
    assert_eq!(gone, 2);
    assert_eq!(catalog.image(ImageId(2)).unwrap(), None);
    assert!(catalog.image(ImageId(3)).unwrap().is_some());
    assert_eq!(catalog.counts().unwrap(), Counts { files: 3, images: 3, orphans: 2, skipped: 0 });
}

#[test]
fn features_of_images_without_files_are_kept_but_not_given() {
    let (_dir, mut catalog, scope, model) = catalog("/photos", &[b"a.jpg", b"b.jpg"]);
    let mut batch = catalog.batch().unwrap();
    batch.unlink_path(scope.root, &file(b"a.jpg").relative).unwrap();
    batch.commit().unwrap();
    let mut ids = Vec::new();
    catalog
        .each_embedding(model, Sequence(0), |_, id, _| {
            ids.push(id.0);
            Ok(())
        })
        .unwrap();
    assert_eq!(ids, [2]);
    let rows = catalog
        .with_export_rows(model, &Chosen::default(), |chosen| {
            chosen.rows.collect::<Result<Vec<_>>>()
        })
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].path, Path::new("/photos/b.jpg"));
    assert!(catalog.features(model, ImageId(1)).unwrap().is_some());
}

#[test]
fn an_image_that_comes_back_is_newer_than_every_index() {
    let (_dir, mut catalog, scope, model) = catalog("/photos", &[b"a.jpg", b"b.jpg"]);
    let newest = Sequence(2);
    assert_eq!(catalog.count_newer(model, newest).unwrap(), 0);
    let mut batch = catalog.batch().unwrap();
    batch.unlink_path(scope.root, &file(b"a.jpg").relative).unwrap();
    batch.link(scope.root, &file(b"back.jpg"), ImageId(1)).unwrap();
    batch.link(scope.root, &file(b"copy of b.jpg"), ImageId(2)).unwrap();
    batch.commit().unwrap();
    let mut newer = Vec::new();
    let each = |_, id: ImageId, _| {
        newer.push(id.0);
        Ok(())
    };
    catalog.each_embedding(model, newest, each).unwrap();
    assert_eq!(newer, [1]);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.sqlite");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let error = Catalog::open(&path).unwrap_err();
    assert!(matches!(error, Error::NotACatalog { .. }), "{error}");
    std::fs::write(&path, "no database at all, but long enough to be looked at").unwrap();
    assert!(matches!(Catalog::open(&path), Err(Error::Catalog { .. })));
}

#[test]
fn a_catalog_of_a_later_version_is_refused() {
    let (dir, catalog, _, _) = catalog("/photos", &[]);
    catalog.connection.execute_batch("PRAGMA user_version = 99").unwrap();
    let error = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap_err();
    assert!(matches!(error, Error::CatalogTooNew { found: 99, .. }), "{error}");
}

#[test]
fn adding_a_photo_does_not_look_at_all_embeddings() {
    let (_dir, catalog, _, _) = catalog("/photos", &[b"a.jpg"]);
    let plan = format!("EXPLAIN QUERY PLAN {}", batch::OLDER_EMBEDDINGS);
    let mut statement = catalog.connection.prepare(&plan).unwrap();
    let steps = statement.query_map([1], |row| row.get::<_, String>("detail")).unwrap();
    let steps: Vec<String> = steps.map(Result::unwrap).collect();
    let by_index =
        |step: &String| step.starts_with("SEARCH e USING") && step.contains("image_id=?");
    assert!(steps.iter().any(by_index), "{steps:?}");
}

#[test]
fn a_catalog_can_be_read_where_nothing_can_be_written() {
    let (dir, mut catalog, ..) = catalog("/photos", &[b"1.jpg"]);
    let path = dir.path().join("catalog.sqlite");
    // Beside a log that is not empty it is read with that.
    let with_log = Catalog::connect_to_read(&path).unwrap();
    assert_eq!(with_log.counts().unwrap().files, 1);
    with_log.check().unwrap();
    drop(with_log);
    catalog.connection.execute_batch("PRAGMA user_version = 3").unwrap();
    let mut older = Catalog::connect_to_read(&path).unwrap();
    let migrated = super::migrate::migrate(&mut older.connection, &path);
    assert!(matches!(migrated, Err(Error::CatalogTooOld { found: 3, .. })), "{migrated:?}");
    drop(older);
    catalog.batch().unwrap().commit().unwrap();
    drop(catalog);
    let odd = dir.path().join("50% off? #1.sqlite");
    std::fs::rename(path, &odd).unwrap();
    let alone = Catalog::connect_to_read(&odd).unwrap();
    assert_eq!(alone.counts().unwrap().files, 1);
    assert_eq!(alone.models().unwrap().len(), 1);
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 1, "nothing was made beside it");
}
