//! How well similarity tells labels apart: every labelled image asks for all the others.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::catalog::{ModelRecord, Sequence};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::library::Library;
use crate::record::{Hit, ImageId};

/// How good the rankings are, each the mean over all queries, in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images that asked: those whose label another image shares.
    pub queries: usize,
    /// Images that were ranked, the asking one left out of its own ranking.
    pub images: usize,
    /// Different labels among the images.
    pub labels: usize,
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

/// Where an image's label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The name of the folder that holds it.
    Parent,
}

impl Labels {
    fn of(self, path: &Path) -> Option<String> {
        match self {
            Labels::Parent => Some(path.parent()?.file_name()?.to_string_lossy().into_owned()),
        }
    }
}

impl Library {
    /// Lets every image ask for all others, by exact cosine, and measures the rankings.
    ///
    /// Average precision of one query is the mean, over the images of its label, of the precision at
    /// the rank where each is found (Manning, Raghavan, Schütze, *Introduction to Information
    /// Retrieval*, eq. 8.8). Images whose label nobody shares are ranked but do not ask. All vectors
    /// are held in memory: 4 bytes × width × images.
    ///
    /// # Errors
    /// [`Error::NothingToEvaluate`] when no two images share a label; [`Error::Catalog`].
    pub fn evaluate(&self, model: &ModelRecord, labels: Labels) -> Result<Evaluation> {
        let mut images = Vec::new();
        let mut names: HashMap<String, u32> = HashMap::new();
        let mut sizes: Vec<usize> = Vec::new();
        self.catalog().each_embedding(model.id, Sequence(0), |_, id, features| {
            let image = self.catalog().image(id)?;
            if let Some(label) = image.and_then(|image| labels.of(&image.path)) {
                let next = sizes.len() as u32;
                let label = *names.entry(label).or_insert(next);
                if label == next {
                    sizes.push(0);
                }
                sizes[label as usize] += 1;
                images.push(Labelled { id, label, embedding: features.embedding() });
            }
            Ok(())
        })?;
        let scores: Vec<Score> = images
            .par_iter()
            .filter(|query| sizes[query.label as usize] > 1)
            .map(|query| score(query, &images))
            .collect();
        if scores.is_empty() {
            return Err(Error::NothingToEvaluate { images: images.len() });
        }
        let mean =
            |value: fn(&Score) -> f64| scores.iter().map(value).sum::<f64>() / scores.len() as f64;
        let found_within = |k: usize| {
            let found = scores.iter().filter(|score| score.first_rank <= k).count();
            found as f64 / scores.len() as f64
        };
        Ok(Evaluation {
            queries: scores.len(),
            images: images.len(),
            labels: sizes.len(),
            recall_at_1: found_within(1),
            recall_at_5: found_within(5),
            recall_at_10: found_within(10),
            mean_average_precision: mean(|score| score.average_precision),
        })
    }
}

struct Labelled {
    id: ImageId,
    label: u32,
    embedding: Embedding,
}

struct Score {
    /// The best rank, from 1, of an image with the query's label.
    first_rank: usize,
    average_precision: f64,
}

fn score(query: &Labelled, images: &[Labelled]) -> Score {
    let mut ranking: Vec<(Hit, bool)> = images
        .iter()
        .filter(|image| image.id != query.id)
        .map(|image| {
            let score = query.embedding.cosine(&image.embedding);
            (Hit { id: image.id, score }, image.label == query.label)
        })
        .collect();
    ranking.sort_by(|(a, _), (b, _)| Hit::best_first(a, b));
    let relevant = ranking.into_iter().enumerate().filter(|(_, (_, same))| *same);
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
}
