use proptest::prelude::*;

use super::*;
use crate::error::Result;
use crate::index::{Beam, Contents, Params, build, synthetic};
use crate::progress::Watch;
use crate::record::ModelFingerprint;

const WIDTH: usize = 64;

/// An index of made vectors, with ids from 0.
fn index(count: usize, seed: u64) -> (tempfile::TempDir, Vec<Embedding>, Index) {
    let vectors = synthetic::vectors(count, WIDTH, seed);
    let all: Vec<Embedding> = vectors.map(|v| Embedding::normalised(&v).unwrap()).collect();
    let each = |take: &mut dyn FnMut(i64, ImageId, Embedding) -> Result<()>| {
        all.iter().zip(0..).try_for_each(|(e, number)| take(number, ImageId(number), e.clone()))
    };
    let fingerprint = ModelFingerprint::from_bytes([4; 32]);
    let contents = Contents { fingerprint, width: WIDTH, embeddings: &each };
    let dir = tempfile::tempdir().unwrap();
    let index = build(dir.path(), &contents, Params::default(), &Watch::none()).unwrap();
    (dir, all, index)
}

fn exact(all: &[Embedding], query: &Embedding, k: usize, passes: &dyn Fn(i64) -> bool) -> Vec<Hit> {
    let hit = |(e, id): (&Embedding, i64)| Hit { id: ImageId(id), score: query.cosine(e) };
    let mut hits: Vec<Hit> = all.iter().zip(0..).filter(|(_, id)| passes(*id)).map(hit).collect();
    hits.sort_by(Hit::best_first);
    hits.truncate(k);
    hits
}

/// Of the true hits, how many are found, by the graph and by whatever is chosen.
fn recall(
    (all, index): (&[Embedding], &Index),
    queries: &[usize],
    passes: &dyn Fn(i64) -> bool,
) -> [f64; 2] {
    let among = index.among(|id| passes(id.0));
    let Depth { beam, rerank } = index.depth(10, Search::Hnsw);
    assert!(beam.is_some());
    let graph = Depth { beam, rerank: rerank.max(RERANK) };
    let (mut found, mut wanted) = ([0, 0], 0);
    for query in queries {
        let query = &all[*query];
        let expected = exact(all, query, 10, passes);
        wanted += expected.len();
        let chosen = index.search_among(query, 10, Search::Hnsw, &among).unwrap();
        let by_graph = index.search_all(&[query], 10, graph, Some(&among)).unwrap().remove(0);
        for (found, hits) in found.iter_mut().zip([by_graph, chosen]) {
            assert_eq!(hits.len(), expected.len());
            assert!(hits.iter().all(|hit| passes(hit.id.0)), "{hits:?}");
            assert!(hits.is_sorted_by(|a, b| Hit::best_first(a, b).is_lt()));
            let same =
                |a: &Hit, b: &Hit| a.id == b.id && (a.score - b.score).abs() <= Embedding::ROUNDING;
            *found += expected.iter().filter(|hit| hits.iter().any(|h| same(h, hit))).count();
        }
    }
    found.map(|found| found as f64 / wanted as f64)
}

#[test]
fn those_that_pass_are_found_however_few_they_are_and_wherever_they_lie() {
    const COUNT: usize = 20_000;
    let (_dir, all, index) = index(COUNT, 11);
    let queries: Vec<usize> = (0..100).map(|i| i * 150).collect();
    // Half, a hundredth and a ten-thousandth, spread by chance.
    for (part, share) in [(2, "50 %"), (10, "10 %"), (100, "1 %"), (10_000, "0.01 %")] {
        let passes = |id: i64| crate::random::split_mix(&mut { id as u64 }).is_multiple_of(part);
        let [graph, chosen] = recall((&all, &index), &queries, &passes);
        assert!(graph >= 0.98 && chosen >= 0.98, "{share}: {graph} by the graph, {chosen}");
    }
    // As many, those that are farthest from one of them, asked by the nearest to it.
    let mut by_cosine: Vec<usize> = (0..COUNT).collect();
    by_cosine.sort_by(|a, b| all[0].cosine(&all[*b]).total_cmp(&all[0].cosine(&all[*a])));
    let mut rank = vec![0; COUNT];
    by_cosine.iter().zip(0..).for_each(|(point, place)| rank[*point] = place);
    for pass in [COUNT / 2, COUNT / 10, COUNT / 100, 2] {
        let passes = |id: i64| rank[id as usize] >= COUNT - pass;
        let [graph, chosen] = recall((&all, &index), &by_cosine[..100], &passes);
        assert!(graph >= 0.98 && chosen >= 0.98, "{pass} far: {graph} by the graph, {chosen}");
    }
}

#[test]
fn the_graph_is_searched_while_that_costs_less_than_a_scan() {
    let (_dir, _all, index) = index(20_000, 12);
    let depth = |how, part: i64| index.depth_among(10, how, &index.among(|id| id.0 % part == 0));
    assert!(depth(Search::Hnsw, 1).beam.is_some());
    assert_eq!(depth(Search::Hnsw, 10).beam, None);
    assert_eq!(depth(Search::Auto, 2).beam, None, "10,000 are scanned");
    assert_eq!(depth(Search::Exact, 1).beam, None);
    assert_eq!(depth(Search::Auto, 100).rerank, 200, "all that pass");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn never_fewer_than_k_when_so_many_pass(
        count in 1usize..900, k in 0usize..50, part in 1i64..40, seed in any::<u64>(),
    ) {
        let (_dir, all, index) = index(count, seed);
        let passes = |id: i64| (id.wrapping_mul(7) + seed as i64 % 1_000) % part == 0;
        let among = index.among(|id| passes(id.0));
        let query = &all[count / 2];
        for depth in [
            index.depth_among(k, Search::Auto, &among),
            Depth { beam: None, rerank: k.max(5) },
            Depth { beam: Some(Beam::of_width(k.max(3))), rerank: k.max(3) },
        ] {
            let hits = index.search_all(&[query], k, depth, Some(&among)).unwrap().remove(0);
            prop_assert_eq!(hits.len(), k.min(among.len()), "{:?}", depth);
            prop_assert!(hits.iter().all(|hit| passes(hit.id.0)));
            if k > 0 && passes(count as i64 / 2) {
                prop_assert_eq!(hits[0].score, 1.0, "the query itself");
            }
        }
    }
}
