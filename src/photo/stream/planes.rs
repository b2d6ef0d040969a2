//! A picture whose channels lie one after the other.

use super::{Blocks, Grid};
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
        Some(Self { grid, planes: (0..channels).map(|_| Blocks::of(grid)).collect() })
    }

    /// Takes the next row of a channel, a byte a sample.
    pub(in crate::photo) fn add(&mut self, channel: usize, row: &[u8]) {
        self.planes[channel].add(row);
    }

    /// How many pixels of the small picture lie along one of the whole picture, its width and height, and its samples,
    /// those of a pixel side by side.
    pub(in crate::photo) fn finish(self) -> (f64, (u32, u32), Vec<u8>) {
        let channels = self.planes.len();
        let planes: Vec<Vec<u8>> = self.planes.into_iter().map(Blocks::into_samples).collect();
        let count = planes.first().map_or(0, Vec::len);
        let mut samples = vec![0; count * channels];
        for (channel, plane) in planes.iter().enumerate() {
            let places = samples.chunks_exact_mut(channels);
            places.zip(plane).for_each(|(pixel, sample)| pixel[channel] = *sample);
        }
        let size = (self.grid.width as u32, (count / self.grid.width) as u32);
        (1.0 / self.grid.side as f64, size, samples)
    }
}
