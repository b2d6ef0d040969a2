//! Work that is shared out between this thread and the others of the pool.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The numbers `0..count`, each given to whoever asks next.
pub(super) struct Tasks {
    count: usize,
    next: AtomicUsize,
}

impl Iterator for &Tasks {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|task| *task < self.count)
    }
}

/// Lets this thread and as many of the pool as there are tasks for take tasks out of `0..count`, and gives what each of
/// them made of its own, in no order. This one begins at once: waking another takes as long as comparing the query
/// with thousands of codes does, which rayon's own loops wait for when they are called from outside of the pool.
pub(super) fn share<T: Send>(count: usize, work: impl Fn(&Tasks) -> T + Sync) -> Vec<T> {
    let tasks = Tasks { count, next: AtomicUsize::new(0) };
    let done = Mutex::new(Vec::new());
    let take_part = || {
        let made = work(&tasks);
        done.lock().unwrap_or_else(PoisonError::into_inner).push(made);
    };
    let others = rayon::current_num_threads().min(count).saturating_sub(1);
    if others == 0 {
        take_part();
    } else {
        rayon::in_place_scope(|scope| {
            (0..others).for_each(|_| scope.spawn(|_| take_part()));
            take_part();
        });
    }
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_taken_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for count in [0, 1, 2, 1_000] {
            let take = || share(count, |tasks| tasks.collect::<Vec<usize>>());
            for taken in [take(), pool.install(take)] {
                let mut taken = taken.concat();
                taken.sort_unstable();
                assert_eq!(taken, (0..count).collect::<Vec<_>>());
            }
        }
    }
}
