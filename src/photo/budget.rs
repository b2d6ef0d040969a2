//! How much memory pictures may take while they are decoded, all together.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that the pictures in flight share. A picture that needs more than there are in all is decoded
/// too, but alone.
#[derive(Debug)]
pub struct Budget {
    total: u64,
    free: Mutex<u64>,
    returned: Condvar,
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: u64) -> Self {
        Self { total, free: Mutex::new(total), returned: Condvar::new() }
    }

    /// Waits until `bytes`, or all there are, can be had.
    pub(super) fn take(&self, bytes: u64) -> Permit<'_> {
        let bytes = bytes.min(self.total);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .returned
            .wait_while(free, |free| *free < bytes)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
        Permit { budget: self, bytes }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn what_is_in_use_never_exceeds_the_total_and_giants_go_alone() {
        let (budget, in_use, most) = (Budget::new(10), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|threads| {
            for worker in 0..4u64 {
                let (budget, in_use, most) = (&budget, &in_use, &most);
                threads.spawn(move || {
                    for turn in 0..50 {
                        // 1 to 7, and now and then 70.
                        let wanted = 1 + (worker + turn) % 7;
                        let wanted = if turn % 9 == 0 { wanted * 10 } else { wanted };
                        let permit = budget.take(wanted);
                        let now = in_use.fetch_add(permit.bytes, Ordering::SeqCst) + permit.bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        in_use.fetch_sub(permit.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 10, "a giant takes all of it, nobody more");
        assert_eq!(*budget.free.lock().unwrap(), 10);
    }
}
