//! What a frame's header says (ITU T.81, annexes A and B.2.2).

/// A picture of one or three components.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    /// The most samples of any component, across and down.
    pub(super) most: (usize, usize),
    /// Units of the picture, across and down, when all components come side by side.
    pub(super) units: (usize, usize),
    pub(super) components: Vec<Component>,
}

pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks of a unit, across and down.
    pub(super) blocks: (usize, usize),
    /// The table of its divisors.
    pub(super) table: usize,
}

impl Frame {
    /// `None` for what is not 8 bits deep, has no pixels, two or many components, or odd sizes.
    pub(super) fn read(content: &[u8]) -> Option<Self> {
        let &[8, h1, h0, w1, w0, count, ref rest @ ..] = content else { return None };
        let size = |high, low| usize::from(u16::from_be_bytes([high, low]));
        let (width, height) = (size(w1, w0), size(h1, h0));
        let components: Vec<_> = rest
            .chunks_exact(3)
            .take(count.into())
            .map(|part| Component {
                id: part[0],
                blocks: (usize::from(part[1] >> 4), usize::from(part[1] & 15)),
                table: usize::from(part[2] & 3),
            })
            .collect();
        let sound =
            |part: &Component| (1..=4).contains(&part.blocks.0) && (1..=4).contains(&part.blocks.1);
        if !components.iter().all(sound)
            || !matches!(count, 1 | 3)
            || components.len() != usize::from(count)
            || width * height == 0
        {
            return None;
        }
        let most = components.iter().fold((1, 1), |most: (usize, usize), part| {
            (most.0.max(part.blocks.0), most.1.max(part.blocks.1))
        });
        let units = (width.div_ceil(8 * most.0), height.div_ceil(8 * most.1));
        Some(Self { width, height, most, units, components })
    }

    /// Blocks of a component, across and down, those that only fill up a unit left out.
    pub(super) fn blocks_of(&self, component: &Component) -> (usize, usize) {
        let samples = |length: usize, own: usize, most: usize| (length * own).div_ceil(most);
        let (h, v) = component.blocks;
        let across = samples(self.width, h, self.most.0).div_ceil(8);
        (across, samples(self.height, v, self.most.1).div_ceil(8))
    }
}
