use std::path::Path;

use super::tests::numbers;
use super::*;
use crate::catalog::FileId;
use crate::embedding::Features;
use crate::network::sample;
use crate::record::{ContentHash, PathBytes, PhotoDetails, PhotoFacts, SourceFile};

const WIDTH: usize = 16;

/// A library of `count` images around 50 centres; the number of each is its width in pixels.
fn library(count: u32) -> (tempfile::TempDir, Library, ModelRecord) {
    let dir = tempfile::tempdir().unwrap();
    let mut library = Library::open(dir.path()).unwrap();
    let mut number_in = numbers(7);
    let centres: Vec<Vec<f32>> =
        (0..50).map(|_| (0..WIDTH).map(|_| number_in()).collect()).collect();
    let mut batch = library.catalog_mut().batch().unwrap();
    let model = batch.add_model(&sample::network(WIDTH)).unwrap();
    batch.use_model(Some(model), None).unwrap();
    let scope = batch.enter(Path::new("/photos"), None).unwrap();
    for number in 1..=count {
        let name = format!("{}/{number}.jpg", number % 50);
        let hash = ContentHash::from_bytes(*blake3::hash(name.as_bytes()).as_bytes());
        let details = PhotoDetails::default();
        let facts = PhotoFacts { width: number, height: number % 50, format: "jpeg", details };
        let image = batch.add_image(&hash, &facts).unwrap();
        let values =
            centres[(number % 50) as usize].iter().map(|c| c + 0.5 * number_in()).collect();
        batch.add_features(image, model, &Features::new(values, WIDTH).unwrap()).unwrap();
        let relative = PathBytes::from_bytes(name.into_bytes());
        let file = SourceFile { root: "/photos".into(), relative, size: 1, mtime_ns: 1 };
        batch.link(scope.root, &file, image).unwrap();
    }
    batch.commit().unwrap();
    let model = library.model(None).unwrap();
    (dir, library, model)
}

/// Half, a hundredth and a ten-thousandth of the images, spread evenly, in one cluster, and far from the
/// query: what is found is what comparing all of them finds.
#[test]
fn a_filter_gives_what_comparing_all_that_pass_gives() {
    let (_dir, mut library, model) = library(10_000);
    let watch = Watch::none();
    library.rebuild_index(&model, &watch).unwrap();
    // One is gone.
    let mut batch = library.catalog_mut().batch().unwrap();
    batch.unlink(FileId(1)).unwrap();
    batch.commit().unwrap();
    for (filter, passing) in [
        ("width <= 5000", 4_999),
        ("path:1?/*.jpg or path:2?/*.jpg or height:30..34", 5_000),
        ("width:101..200", 100),
        ("height:7 width<=5000", 100),
        ("width:1234", 1),
        ("width:20000", 0),
    ] {
        let filter: Filter = filter.parse().unwrap();
        assert_eq!(
            library.catalog().passing(model.id, &filter).unwrap().len(),
            passing,
            "{filter:?}"
        );
        for id in [2, 507, 1_234, 9_999] {
            let query = library.embedding_of(&model, ImageId(id)).unwrap();
            let options = FindOptions { filter: Some(filter.clone()), ..FindOptions::default() };
            let found = library.find(&model, &query, &options, &watch).unwrap();
            let hnsw = FindOptions { search: index::Search::Hnsw, ..options.clone() };
            let by_graph = library.find(&model, &query, &hnsw, &watch).unwrap();
            assert_eq!(by_graph.len(), found.len());
            let same = by_graph.iter().filter(|hit| found.contains(hit)).count();
            assert!(same + 1 >= found.len(), "image {id}, {filter:?}: {same} by the graph");
            let exact = FindOptions { exact: true, ..options };
            let expected = library.find(&model, &query, &exact, &watch).unwrap();
            assert_eq!(found.len(), passing.min(10));
            assert_eq!(found, expected, "image {id}, {filter:?}");
        }
    }
}

#[test]
fn a_check_compares_the_index_with_everything() {
    let (_dir, library, model) = library(3_000);
    let watch = Watch::none();
    let check = || library.check_search(&model, 40, 1, &watch).unwrap();
    assert!(matches!(check(), Err(Unusable::Missing)), "looking makes nothing");
    library.rebuild_index(&model, &watch).unwrap();
    let found = check().unwrap();
    assert_eq!((found.queries, found.k, found.lost), (40, 10, 0));
    assert!(found.recall >= 0.99, "{found:?}");
    assert_eq!(check().unwrap(), found, "the same in every run");
}
