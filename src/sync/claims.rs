//! Contents on their way through the pipeline.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::plan::Work;
use crate::record::ContentHash;

/// Contents that are on their way, so that two files with the same bytes are embedded once: the first
/// goes through, the others wait here for what becomes of it.
#[derive(Default)]
pub(super) struct Claims(Mutex<HashMap<ContentHash, Vec<Work>>>);

impl Claims {
    /// Whether this is the first work with this content; else it is kept until that one is dealt with.
    pub(super) fn claim(&self, hash: ContentHash, work: &Work) -> bool {
        match self.lock().entry(hash) {
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push(work.clone());
                false
            }
            Entry::Vacant(first) => {
                first.insert(Vec::new());
                true
            }
        }
    }

    /// Ends the claim and gives the files that waited for it.
    pub(super) fn release(&self, hash: &ContentHash) -> Vec<Work> {
        self.lock().remove(hash).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContentHash, Vec<Work>>> {
        lock(&self.0)
    }
}

/// What a thread that panicked left is as good as what another leaves.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
