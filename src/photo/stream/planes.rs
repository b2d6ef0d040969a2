//! A picture whose channels lie one after the other.

use super::{Averages, Blocks, Grid};
use crate::photo::wanted::Wanted;

/// Each channel in blocks, see [`Blocks`].
pub(in crate::photo) struct Planes {
    grid: Grid,
    planes: Vec<Blocks>,
}

impl Planes {
    /// For so many channels; `None` where blocks save nothing.
    pub(in crate::photo) fn new(
        size: (u32, u32),
        channels: usize,
        wanted: &Wanted<'_>,
    ) -> Option<Self> {
        let grid = Grid::new(size, 1, wanted)?;
        let planes = (0..channels).map(|_| Blocks::of(grid)).collect();
        Some(Self { grid, planes })
    }

    /// Takes the next row of a channel, a byte a sample.
    pub(in crate::photo) fn add(&mut self, channel: usize, row: &[u8]) {
        self.planes[channel].add(row);
    }

    /// What all channels make.
    pub(in crate::photo) fn finish(self) -> Averages {
        let channels = self.planes.len();
        let planes: Vec<Averages> = self.planes.into_iter().map(Blocks::averages).collect();
        let mut samples = vec![0; planes.iter().map(|plane| plane.samples.len()).sum()];
        for (channel, plane) in planes.iter().enumerate() {
            let places = samples.chunks_exact_mut(channels);
            places.zip(&plane.samples).for_each(|(pixel, sample)| pixel[channel] = *sample);
        }
        Grid { channels, ..self.grid }.averages(samples)
    }
}
