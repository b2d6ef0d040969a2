//! A buffer for pixels that a thread uses again: memory that is fresh from the system costs a page fault
//! every 4 KB, half a millisecond a megapixel.

use std::cell::Cell;

thread_local! {
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// No more is kept, as every worker keeps one: enough for a photo of 12 megapixels that is decoded to 3/8.
const MOST: usize = 8 << 20;

/// `len` zeros, as a decoder that finds fewer pixels than it should must not leave another photo's.
pub(super) fn zeroed(len: usize) -> Vec<u8> {
    let mut buffer = KEPT.take();
    if buffer.capacity() < len {
        return vec![0; len];
    }
    buffer.clear();
    buffer.resize(len, 0);
    buffer
}

/// Keeps a buffer for the thread's next picture.
pub(super) fn keep(buffer: Vec<u8>) {
    if buffer.capacity() <= MOST {
        KEPT.set(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_of_what_was_in_it() {
        keep(vec![7; 100]);
        assert_eq!(zeroed(60), [0; 60]);
        keep(vec![7; 100]);
        assert_eq!(zeroed(140), [0; 140]);
    }

    #[test]
    fn a_giant_is_not_kept() {
        keep(vec![7; MOST + 1]);
        assert_eq!(zeroed(1).capacity(), 1);
    }
}
