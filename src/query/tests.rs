use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::embedding::Features;
use crate::index::{Params, Search};
use crate::network::sample;
use crate::progress::Event;
use crate::record::{ContentHash, PathBytes, PhotoDetails, PhotoFacts, SourceFile};

const WIDTH: usize = 24;

/// The numbers that a seed gives, in [-1, 1).
pub(super) fn numbers(mut seed: u64) -> impl FnMut() -> f32 {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Adds photos with random features, two of three in pairs that look nearly the same.
fn add(library: &mut Library, names: std::ops::Range<usize>, seed: u64) {
    let mut number = numbers(seed);
    let known = library.catalog().scope_of(Path::new("/photos")).unwrap();
    let mut batch = library.catalog_mut().batch().unwrap();
    let model = batch.add_model(&sample::network(WIDTH)).unwrap();
    batch.use_model(Some(model), None).unwrap();
    let scope = batch.enter(Path::new("/photos"), known).unwrap();
    let mut values = vec![0.0; WIDTH];
    for name in names {
        match name % 3 {
            0 => values.iter_mut().for_each(|v| *v += 0.01 * number()),
            _ => values.iter_mut().for_each(|v| *v = number()),
        }
        let relative = PathBytes::from_bytes(format!("{name}.jpg").into_bytes());
        let hash = ContentHash::from_bytes(*blake3::hash(relative.as_bytes()).as_bytes());
        let details = PhotoDetails::default();
        let facts = PhotoFacts { width: 4, height: 3, format: "jpeg", details };
        let image = batch.add_image(&hash, &facts).unwrap();
        let features = Features::new(values.clone(), WIDTH).unwrap();
        batch.add_features(image, model, &features).unwrap();
        let file = SourceFile { root: "/photos".into(), relative, size: 3, mtime_ns: 1 };
        batch.link(scope.root, &file, image).unwrap();
    }
    batch.commit().unwrap();
}

fn remove(library: &mut Library, names: &[usize]) {
    let known = library.catalog().scope_of(Path::new("/photos")).unwrap();
    let mut batch = library.catalog_mut().batch().unwrap();
    let scope = batch.enter(Path::new("/photos"), known).unwrap();
    for name in names {
        let path = PathBytes::from_bytes(format!("{name}.jpg").into_bytes());
        batch.unlink_path(scope.root, &path).unwrap();
    }
    batch.commit().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn no_image_that_is_gone_is_found_and_the_query_itself_always_is(
        indexed in 150usize..700,
        newer in 0usize..40,
        gone in prop::collection::btree_set(0usize..700, 0..200),
        k in 1usize..30,
        seed in any::<u64>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut library = Library::open(dir.path()).unwrap();
        add(&mut library, 0..indexed, seed);
        let model = library.model(None).unwrap();
        let params = Params { code_width: Some(16), recall: 0.9, ..Params::default() };
        library.rebuild_index_as(&model, params, &Watch::none()).unwrap();
        add(&mut library, indexed..indexed + newer, seed ^ 1);
        let gone: Vec<usize> = gone.into_iter().filter(|name| *name < indexed + newer).collect();
        remove(&mut library, &gone);

        let alive: Vec<usize> = (0..indexed + newer).filter(|name| !gone.contains(name)).collect();
        for name in alive.iter().step_by(alive.len() / 20 + 1) {
            // Ids are given in the order of the names, from 1.
            let id = ImageId(*name as i64 + 1);
            let query = library.embedding_of(&model, id).unwrap();
            for search in [Search::Auto, Search::Hnsw, Search::Exact] {
                let options = FindOptions { k, search, ..FindOptions::default() };
                let found = library.find(&model, &query, &options, &Watch::none()).unwrap();
                prop_assert_eq!(found.len(), k.min(alive.len()));
                prop_assert_eq!(found[0].hit.id, id, "{:?}", search);
                prop_assert_eq!(found[0].hit.score, 1.0);
                prop_assert!(found.is_sorted_by(|a, b| a.hit.score >= b.hit.score));
                for found in &found {
                    prop_assert!(!gone.contains(&(found.hit.id.0 as usize - 1)));
                    let stored = library.embedding_of(&model, found.hit.id).unwrap();
                    prop_assert_eq!(found.hit.score, query.cosine(&stored));
                }
            }
            for (filter, threes) in [("path:*3.jpg", true), ("not path:*3.jpg", false)] {
                let passes = |name: &usize| (name % 10 == 3) == threes;
                let passing = alive.iter().filter(|name| passes(name)).count();
                for search in [Search::Auto, Search::Hnsw, Search::Exact] {
                    let filter = Some(filter.parse().unwrap());
                    let options = FindOptions { k, search, filter, ..FindOptions::default() };
                    let found = library.find(&model, &query, &options, &Watch::none()).unwrap();
                    prop_assert_eq!(found.len(), k.min(passing));
                    for found in &found {
                        let name = found.hit.id.0 as usize - 1;
                        prop_assert!(passes(&name) && !gone.contains(&name), "{}", name);
                    }
                    prop_assert!(!passes(name) || found[0].hit.id == id, "{:?}", search);
                }
            }
            for rank in [Ranking::Whitened, Ranking::Expanded] {
                let options = FindOptions { k, rank, ..FindOptions::default() };
                let found = library.find(&model, &query, &options, &Watch::none()).unwrap();
                prop_assert_eq!(found.len(), k.min(alive.len()), "{:?}", rank);
                prop_assert!(found.is_sorted_by(|a, b| a.hit.score >= b.hit.score));
                prop_assert!(found.iter().all(|f| !gone.contains(&(f.hit.id.0 as usize - 1))));
                if rank == Ranking::Whitened {
                    prop_assert!(found[0].hit.score > 0.999, "{} is nearest to itself", id.0);
                }
            }
        }
    }
}

/// A library of `count` photos, all in its index.
fn indexed(count: usize) -> (tempfile::TempDir, Library, ModelRecord) {
    let dir = tempfile::tempdir().unwrap();
    let mut library = Library::open(dir.path()).unwrap();
    add(&mut library, 0..count, 4);
    let model = library.model(None).unwrap();
    library.rebuild_index(&model, &Watch::none()).unwrap();
    (dir, library, model)
}

#[test]
fn whitened_scores_are_the_cosines_of_whitened_vectors() {
    let (_dir, mut library, model) = indexed(300);
    let mut rows = Vec::new();
    let take = |_, embedding: Embedding| {
        rows.extend_from_slice(embedding.as_slice());
        Ok(())
    };
    library.each_newer(&model, Sequence(0), take).unwrap();
    let whitening = Whitening::learn(&rows, WIDTH).unwrap();
    add(&mut library, 300..320, 5);
    let of = |id| whitening.apply(&library.embedding_of(&model, id).unwrap()).unwrap();
    let query = library.embedding_of(&model, ImageId(310)).unwrap();
    let options = FindOptions { k: 320, rank: Ranking::Whitened, ..FindOptions::default() };
    let found = library.find(&model, &query, &options, &Watch::none()).unwrap();
    assert_eq!(found.len(), 320);
    for Match { hit, .. } in found {
        let expected = of(ImageId(310)).cosine(&of(hit.id));
        assert!((hit.score - expected).abs() < 1e-4, "{hit:?}, {expected}");
    }
}

#[test]
fn a_library_of_few_photos_is_ranked_by_plain_cosine_and_says_so() {
    let (_dir, library, model) = indexed(20);
    let query = library.embedding_of(&model, ImageId(3)).unwrap();
    let notes = std::sync::Mutex::new(Vec::new());
    let on_event = |event: Event| {
        if let Event::Note { text } = event {
            notes.lock().unwrap().push(text);
        }
    };
    let cancelled = std::sync::atomic::AtomicBool::new(false);
    let watch = Watch::new(&on_event, &cancelled);
    let ranked = |rank| {
        let options = FindOptions { rank, ..FindOptions::default() };
        library.find(&model, &query, &options, &watch).unwrap()
    };
    assert_eq!(ranked(Ranking::Whitened), ranked(Ranking::Cosine));
    assert_eq!(
        *notes.lock().unwrap(),
        ["too few photos to whiten their features: ranked by plain cosine"]
    );
}
