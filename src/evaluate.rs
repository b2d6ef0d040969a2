//! How well similarity tells labels apart: every labelled image asks for all the others.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::catalog::{ModelRecord, Sequence};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::index::Whitening;
use crate::library::Library;
use crate::query::Ranking;
use crate::query::rank::expand;
use crate::random::split_mix;
use crate::record::{Hit, ImageId};

/// Times the labels are drawn anew for the intervals.
const DRAWS: usize = 1_000;

/// How good the rankings are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images that asked: those whose label another image shares.
    pub queries: usize,
    /// Images that were ranked, the asking one left out of its own ranking.
    pub images: usize,
    /// Different labels among the images.
    pub labels: usize,
    /// The mean over all queries.
    #[serde(flatten)]
    pub all: Quality,
    /// Where 95 % of the means lie when the labels are drawn anew, with replacement, a thousand times
    /// (percentile bootstrap over labels, as images of one label are not independent).
    pub interval_95: Intervals,
    /// Each label that asked, by name.
    pub by_label: Vec<LabelQuality>,
}

/// How good some rankings are, each the mean over their queries, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    /// Share of queries whose best hit has their label.
    #[serde(rename = "recall@1")]
    pub recall_at_1: f64,
    /// Share of queries with a hit of their label among the best 5.
    #[serde(rename = "recall@5")]
    pub recall_at_5: f64,
    /// Share of queries with a hit of their label among the best 10.
    #[serde(rename = "recall@10")]
    pub recall_at_10: f64,
    /// Mean average precision over the whole ranking.
    #[serde(rename = "mAP")]
    pub mean_average_precision: f64,
}

/// The lower and the upper end of each measure's interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Intervals {
    /// Of [`Quality::recall_at_1`].
    #[serde(rename = "recall@1")]
    pub recall_at_1: (f64, f64),
    /// Of [`Quality::recall_at_5`].
    #[serde(rename = "recall@5")]
    pub recall_at_5: (f64, f64),
    /// Of [`Quality::recall_at_10`].
    #[serde(rename = "recall@10")]
    pub recall_at_10: (f64, f64),
    /// Of [`Quality::mean_average_precision`].
    #[serde(rename = "mAP")]
    pub mean_average_precision: (f64, f64),
}

/// The queries of one label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelQuality {
    /// The label.
    pub label: String,
    /// How many images have it.
    pub images: usize,
    /// The mean over them.
    #[serde(flatten)]
    pub quality: Quality,
}

/// Where an image's label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The name of the folder that holds it.
    Parent,
}

impl Labels {
    pub(crate) fn of(self, path: &Path) -> Option<String> {
        match self {
            Labels::Parent => Some(path.parent()?.file_name()?.to_string_lossy().into_owned()),
        }
    }
}

impl Library {
    /// Lets every image ask for all others, compared one by one, and measures the rankings.
    ///
    /// Average precision of one query is the mean, over the images of its label, of the precision at
    /// the rank where each is found (Manning, Raghavan, Schütze, *Introduction to Information
    /// Retrieval*, eq. 8.8). Images whose label nobody shares are ranked but do not ask. All vectors
    /// are held in memory: 4 bytes × width × images.
    ///
    /// # Errors
    /// [`Error::NothingToEvaluate`] when no two images share a label; [`Error::Catalog`].
    pub fn evaluate(
        &self,
        model: &ModelRecord,
        labels: Labels,
        ranking: Ranking,
    ) -> Result<Evaluation> {
        let mut labelled = Vec::new();
        self.catalog().each_embedding(model.id, Sequence(0), |_, id, features| {
            let image = self.catalog().image(id)?;
            if let Some(label) = image.and_then(|image| labels.of(&image.path)) {
                labelled.push((id, label, features.embedding()));
            }
            Ok(())
        })?;
        evaluate(labelled, ranking)
    }
}

/// Lets every image ask for all others, as [`Library::evaluate`].
///
/// # Errors
/// [`Error::NothingToEvaluate`] when no two images share a label.
pub(crate) fn evaluate(
    labelled: Vec<(ImageId, String, Embedding)>,
    ranking: Ranking,
) -> Result<Evaluation> {
    let mut names: HashMap<String, u32> = HashMap::new();
    let mut sizes: Vec<usize> = Vec::new();
    let mut images: Vec<Labelled> = (labelled.into_iter())
        .map(|(id, label, embedding)| {
            let next = sizes.len() as u32;
            let label = *names.entry(label).or_insert(next);
            if label == next {
                sizes.push(0);
            }
            sizes[label as usize] += 1;
            Labelled { id, label, embedding }
        })
        .collect();
    if ranking == Ranking::Whitened {
        whiten(&mut images);
    }
    let mut scores: Vec<(u32, Score)> = images
        .par_iter()
        .filter(|query| sizes[query.label as usize] > 1)
        .map(|query| (query.label, score(query, &images, ranking)))
        .collect();
    if scores.is_empty() {
        return Err(Error::NothingToEvaluate { images: images.len() });
    }
    scores.sort_by_key(|(label, _)| *label);
    let mut names_by_label: Vec<(u32, String)> =
        names.into_iter().map(|(name, label)| (label, name)).collect();
    names_by_label.sort();
    let (mut groups, mut by_label) = (Vec::new(), Vec::new());
    for group in scores.chunk_by(|(a, _), (b, _)| a == b) {
        let sums: Sums = group.iter().map(|(_, score)| score).collect();
        let label = names_by_label[group[0].0 as usize].1.clone();
        by_label.push(LabelQuality { label, images: group.len(), quality: sums.mean() });
        groups.push(sums);
    }
    by_label.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(Evaluation {
        queries: scores.len(),
        images: images.len(),
        labels: sizes.len(),
        all: groups.iter().sum::<Sums>().mean(),
        interval_95: intervals(&groups),
        by_label,
    })
}

struct Labelled {
    id: ImageId,
    label: u32,
    embedding: Embedding,
}

/// Takes the embeddings into the space that they themselves teach; leaves them where they are too few.
fn whiten(images: &mut [Labelled]) {
    let width = images.first().map_or(0, |image| image.embedding.as_slice().len());
    let rows: Vec<f32> = images.iter().flat_map(|i| i.embedding.as_slice()).copied().collect();
    if let Some(whitening) = Whitening::learn(&rows, width) {
        images.par_iter_mut().for_each(|image| {
            // One at the mean of all is as near to everything as to anything.
            let nowhere = || Embedding::normalised(&vec![1.0; whitening.width()]);
            let place = whitening.apply(&image.embedding).or_else(|| nowhere().ok());
            image.embedding = place.expect("ones have a direction");
        });
    }
}

struct Score {
    /// The best rank, from 1, of an image with the query's label.
    first_rank: usize,
    average_precision: f64,
}

fn score(query: &Labelled, images: &[Labelled], ranking: Ranking) -> Score {
    let ranked = |embedding: &Embedding| {
        let others = images.iter().filter(|image| image.id != query.id);
        let mut ranked: Vec<(Hit, &Labelled)> = others
            .map(|image| (Hit { id: image.id, score: embedding.cosine(&image.embedding) }, image))
            .collect();
        ranked.sort_by(|(a, _), (b, _)| Hit::best_first(a, b));
        ranked
    };
    let mut ranking_of_all = ranked(&query.embedding);
    if ranking == Ranking::Expanded {
        let near = ranking_of_all.iter().map(|(hit, image)| (hit.score, &image.embedding));
        ranking_of_all = ranked(&expand(&query.embedding, near));
    }
    let relevant =
        ranking_of_all.iter().enumerate().filter(|(_, (_, image))| image.label == query.label);
    average_precision(relevant.map(|(rank, _)| rank + 1))
}

/// From the ranks, ascending from 1, at which the images of the query's label are found: at least one.
fn average_precision(ranks: impl Iterator<Item = usize>) -> Score {
    let mut first_rank = usize::MAX;
    let (mut sum, mut found) = (0.0, 0);
    for rank in ranks {
        first_rank = first_rank.min(rank);
        found += 1;
        sum += f64::from(found) / rank as f64;
    }
    Score { first_rank, average_precision: sum / f64::from(found) }
}

/// Added up over queries: how many, found within 1, 5 and 10, and the average precisions.
#[derive(Debug, Clone, Copy, Default)]
struct Sums([f64; 5]);

impl Sums {
    fn mean(&self) -> Quality {
        let Sums([count, at_1, at_5, at_10, precision]) = self;
        Quality {
            recall_at_1: at_1 / count,
            recall_at_5: at_5 / count,
            recall_at_10: at_10 / count,
            mean_average_precision: precision / count,
        }
    }
}

impl<'a> std::iter::Sum<&'a Sums> for Sums {
    fn sum<I: Iterator<Item = &'a Sums>>(sums: I) -> Self {
        sums.fold(Sums::default(), |mut all, one| {
            all.0.iter_mut().zip(one.0).for_each(|(all, one)| *all += one);
            all
        })
    }
}

impl<'a> FromIterator<&'a Score> for Sums {
    fn from_iter<I: IntoIterator<Item = &'a Score>>(scores: I) -> Self {
        let of = |score: &Score| {
            let within = |k: usize| f64::from(u8::from(score.first_rank <= k));
            Sums([1.0, within(1), within(5), within(10), score.average_precision])
        };
        scores.into_iter().map(of).collect::<Vec<_>>().iter().sum()
    }
}

/// Draws as many groups as there are, again and again, always the same ones.
fn intervals(groups: &[Sums]) -> Intervals {
    let mut state = 1;
    let mut draw = || &groups[(split_mix(&mut state) % groups.len() as u64) as usize];
    let means: Vec<Quality> =
        (0..DRAWS).map(|_| (0..groups.len()).map(|_| draw()).sum::<Sums>().mean()).collect();
    let inner = middle_95(DRAWS);
    let interval = |value: fn(&Quality) -> f64| {
        let mut values: Vec<f64> = means.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        (values[inner.start], values[inner.end - 1])
    };
    Intervals {
        recall_at_1: interval(|q| q.recall_at_1),
        recall_at_5: interval(|q| q.recall_at_5),
        recall_at_10: interval(|q| q.recall_at_10),
        mean_average_precision: interval(|q| q.mean_average_precision),
    }
}

/// What remains of `count` ordered values without a fortieth at each end.
fn middle_95(count: usize) -> Range<usize> {
    count / 40..count - count / 40
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_is_the_mean_of_the_precisions_at_the_finds() {
        let score = average_precision([1, 3, 6].into_iter());
        assert_eq!(score.first_rank, 1);
        assert!((score.average_precision - (1.0 + 2.0 / 3.0 + 0.5) / 3.0).abs() < 1e-12);
        assert_eq!(average_precision([4].into_iter()).average_precision, 0.25);
    }

    #[test]
    fn an_interval_holds_the_mean_and_is_narrower_with_more_labels() {
        let groups = |count: usize| -> Vec<Sums> {
            let found = |i: usize| f64::from(u8::from(!i.is_multiple_of(4)));
            (0..count).map(|i| Sums([1.0, found(i), 1.0, 1.0, 0.5])).collect()
        };
        let width = |count: usize| {
            let (low, high) = intervals(&groups(count)).recall_at_1;
            assert!((low..=high).contains(&0.75), "{low} to {high} of {count}");
            high - low
        };
        // The binomial's: 2 × 1.96 × √(0.75 × 0.25 / n).
        for count in [40, 400] {
            let expected = 2.0 * 1.96 * (0.75 * 0.25 / count as f64).sqrt();
            assert!((width(count) / expected - 1.0).abs() < 0.15, "{count}: {}", width(count));
        }
        assert_eq!(intervals(&groups(40)).recall_at_5, (1.0, 1.0));
    }
}
