use std::collections::HashSet;

use super::*;
use crate::index::manifest::FILES;
use crate::index::{Beam, Depth, Search, Unusable, open, synthetic};
use crate::record::Hit;

const WIDTH: usize = 64;
const MODEL: ModelFingerprint = ModelFingerprint::from_bytes([3; 32]);

fn embeddings(count: usize, seed: u64) -> Vec<Embedding> {
    let vectors = synthetic::vectors(count, WIDTH, seed);
    vectors.map(|values| Embedding::normalised(&values).unwrap()).collect()
}

fn build_from(folder: &Path, embeddings: &[Embedding]) -> Index {
    build_with(folder, embeddings, Params::default())
}

fn build_with(folder: &Path, embeddings: &[Embedding], params: Params) -> Index {
    let width = embeddings.first().map_or(WIDTH, Embedding::width);
    let each = |take: &mut dyn FnMut(i64, ImageId, Embedding) -> Result<()>| {
        for (embedding, number) in embeddings.iter().zip(1..) {
            take(number, ImageId(number * 10), embedding.clone())?;
        }
        Ok(())
    };
    let contents = Contents { fingerprint: MODEL, width, embeddings: &each };
    build(folder, &contents, params, &Watch::none()).unwrap()
}

/// What a search of the graph finds, whatever the size.
fn by_graph(index: &Index, query: &Embedding, k: usize, ef: usize) -> Vec<Hit> {
    index.search_to(query, k, Depth { beam: Some(Beam::of_width(ef)), rerank: ef }).unwrap()
}

/// What a search of the graph finds that goes as far as was found to be enough.
fn as_calibrated(index: &Index, query: &Embedding, k: usize) -> Vec<Hit> {
    let calibration = index.calibration();
    let depth = Depth { beam: Some(calibration.beam(k)), rerank: calibration.rerank };
    index.search_to(query, k, depth).unwrap()
}

fn exact(embeddings: &[Embedding], query: &Embedding, k: usize) -> Vec<i64> {
    let mut all: Vec<(f32, i64)> =
        embeddings.iter().zip(1..).map(|(e, n)| (query.cosine(e), n * 10)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(k).map(|(_, id)| id).collect()
}

#[test]
fn the_graph_finds_what_exact_search_finds() {
    let seed = 20_261_124;
    let all = embeddings(6_000, seed);
    let dir = tempfile::tempdir().unwrap();
    let index = build_from(dir.path(), &all);
    let mut found = 0;
    let queries: Vec<_> = all.iter().step_by(60).collect();
    for query in &queries {
        let expected = exact(&all, query, 10);
        let hits = by_graph(&index, query, 10, 64);
        found += expected.iter().filter(|id| hits.iter().any(|hit| hit.id.0 == **id)).count();
    }
    let recall = found as f64 / (queries.len() * 10) as f64;
    assert!(recall >= 0.99, "recall@10 {recall} with seed {seed}");
}

#[test]
fn as_many_links_are_made_as_the_count_or_a_person_asks_for() {
    assert_eq!([0, 10, Params::MANY - 1, Params::MANY].map(Params::m_among), [16, 16, 16, 32]);
    let all = embeddings(300, 4);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(build_from(dir.path(), &all).m(), 16);
    let params = Params { m: Some(5), ..Params::default() };
    let index = build_with(dir.path(), &all, params);
    assert_eq!((index.m(), index.params()), (5, params));
    // The next is made so, too.
    assert_eq!(crate::index::params(dir.path(), MODEL), Some(params));
}

#[test]
fn of_wide_codes_what_their_beginning_rules_out_is_not_missed() {
    const VECTOR: usize = 512;
    let vectors = synthetic::vectors(3_000, VECTOR, 2);
    let all: Vec<Embedding> = vectors.map(|v| Embedding::normalised(&v).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let params = Params { code_width: Some(256), ..Params::default() };
    let index = build_with(dir.path(), &all, params);
    let growth = index.calibration().growth.expect("codes of 256 have a beginning");
    assert!(growth > 1.0 && growth < 2.0, "{growth}");
    let queries: Vec<_> = all.iter().step_by(30).collect();
    let found = queries.iter().map(|query| {
        let (expected, hits) = (exact(&all, query, 10), as_calibrated(&index, query, 10));
        hits.iter().filter(|hit| expected.contains(&hit.id.0)).count()
    });
    let recall = found.sum::<usize>() as f64 / (10 * queries.len()) as f64;
    assert!(recall >= 0.98, "{recall}");
}

#[test]
fn every_point_finds_itself() {
    let seed = 7;
    let all = embeddings(3_000, seed);
    let dir = tempfile::tempdir().unwrap();
    let index = build_from(dir.path(), &all);
    for (query, number) in all.iter().zip(1..) {
        let found = [by_graph(&index, query, 10, 16), as_calibrated(&index, query, 1)];
        let itself = |hits: &Vec<Hit>| hits.iter().any(|hit| hit.id == ImageId(number * 10));
        assert!(found.iter().all(itself), "{number} with seed {seed}");
    }
}

#[test]
fn thousands_of_copies_are_all_reachable() {
    let mut all = embeddings(500, 1);
    all.extend(std::iter::repeat_n(all[0].clone(), 2_500));
    let dir = tempfile::tempdir().unwrap();
    let index = build_from(dir.path(), &all);
    let found = by_graph(&index, &all[499], 3_000, 3_000);
    assert_eq!(found.iter().map(|c| c.id).collect::<HashSet<_>>().len(), 3_000);
}

#[test]
fn none_one_and_two_points_are_an_index_too() {
    for count in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let all = embeddings(count, 5);
        let index = build_from(dir.path(), &all);
        assert_eq!(index.len(), count);
        let found = index.search(&embeddings(1, 5)[0], 10, Search::Auto).unwrap();
        assert_eq!(found.len(), count);
        assert!(open(dir.path(), MODEL, WIDTH).is_ok());
    }
}

#[test]
fn an_index_of_another_model_or_width_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    build_from(dir.path(), &embeddings(10, 1));
    let other = ModelFingerprint::from_bytes([4; 32]);
    assert!(matches!(open(dir.path(), other, WIDTH), Err(Unusable::OtherModel)));
    assert!(matches!(open(dir.path(), MODEL, 65), Err(Unusable::OtherModel)));
    let nowhere = dir.path().join("nowhere");
    assert!(matches!(open(&nowhere, MODEL, WIDTH), Err(Unusable::Missing)));
}

#[test]
fn a_new_generation_replaces_the_old_one_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let old = build_from(dir.path(), &embeddings(10, 1));
    std::fs::create_dir(dir.path().join("generation-left-by-a-killed-build")).unwrap();
    let new = build_from(dir.path(), &embeddings(20, 1));
    assert_ne!(old.generation(), new.generation());
    // The old one is still mapped and still answers.
    assert_eq!(old.search(&embeddings(1, 1)[0], 3, Search::Auto).unwrap().len(), 3);
    let mut left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [new.generation(), "manifest.json"]);
}

#[test]
fn a_build_that_is_cancelled_leaves_the_old_index() {
    let dir = tempfile::tempdir().unwrap();
    let old = build_from(dir.path(), &embeddings(10, 1));
    let cancelled = std::sync::atomic::AtomicBool::new(true);
    let all = embeddings(5, 1);
    let each = |take: &mut dyn FnMut(i64, ImageId, Embedding) -> Result<()>| {
        all.iter().try_for_each(|e| take(1, ImageId(1), e.clone()))
    };
    let contents = Contents { fingerprint: MODEL, width: WIDTH, embeddings: &each };
    let watch = Watch::new(&|_| {}, &cancelled);
    let error = build(dir.path(), &contents, Params::default(), &watch).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert_eq!(open(dir.path(), MODEL, WIDTH).unwrap().generation(), old.generation());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let index = build_from(dir.path(), &embeddings(30, 1));
    let generation = dir.path().join(index.generation());
    drop(index);
    for name in FILES {
        let path = generation.join(name);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 20 + 1) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            let opened = open(dir.path(), MODEL, WIDTH).and_then(|index| index.verify());
            assert!(matches!(opened, Err(Unusable::Damaged { .. })), "{name} flipped at {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            let opened = open(dir.path(), MODEL, WIDTH);
            assert!(matches!(opened, Err(Unusable::Damaged { .. })), "{name} cut at {at}");
        }
        std::fs::write(&path, &whole).unwrap();
    }
    let manifest = dir.path().join("manifest.json");
    let whole = std::fs::read_to_string(&manifest).unwrap();
    for bad in [
        "",
        "{}",
        "[1]",
        &whole[..whole.len() / 2],
        &whole.replace("\"count\": 30", "\"count\": 29"),
    ] {
        std::fs::write(&manifest, bad).unwrap();
        let opened = open(dir.path(), MODEL, WIDTH);
        assert!(matches!(opened, Err(Unusable::Damaged { .. })), "manifest {bad}");
    }
    std::fs::remove_file(&manifest).unwrap();
    assert!(matches!(open(dir.path(), MODEL, WIDTH), Err(Unusable::Missing)));
}

/// Photos come in bursts: twenty scenes, shot 150 times each, among 4,000 others.
#[test]
fn bursts_of_near_copies_hide_nothing() {
    const SEED: u64 = 3;
    let mut random = synthetic::Random(SEED);
    let mut vectors: Vec<Vec<f32>> = synthetic::vectors(4_000, WIDTH, SEED).collect();
    for shot in 0..20 * 150 {
        let scene = &vectors[shot / 150];
        let noise = |v: &f32| (v + 0.004 * (random.next() % 1_000) as f32 / 1_000.0).max(0.0);
        vectors.push(scene.iter().map(noise).collect());
    }
    for i in (1..vectors.len()).rev() {
        vectors.swap(i, random.next() as usize % (i + 1));
    }
    let all: Vec<Embedding> = vectors.iter().map(|v| Embedding::normalised(v).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let index = build_from(dir.path(), &all);

    let (mut found, mut wanted) = ([0, 0], 0);
    for query in all.iter().step_by(20) {
        let tenth = index.search(query, 10, Search::Exact).unwrap()[9].score;
        let searched = [by_graph(&index, query, 10, 64), as_calibrated(&index, query, 10)];
        for (found, near) in found.iter_mut().zip(searched) {
            // Shots of a scene are as near as each other, but for less than codes tell apart; what is hidden
            // leaves its place to another scene.
            *found += near.iter().filter(|hit| hit.score >= tenth - 0.001).count();
        }
        wanted += 10;
    }
    let recall = found.map(|found| f64::from(found as u32) / f64::from(wanted));
    assert!(
        recall.iter().all(|recall| *recall >= 0.98),
        "recall@10 {recall:?} of the scan's, seed {SEED}"
    );
}
