//! Squares between those who decode and those who embed.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::claims::lock;

/// How long a device waits for a batch to fill while photos still come: short for who watches, and long beside
/// what a batch takes, lest a device compute a few photos over and over that are worth one batch.
const PATIENCE: Duration = Duration::from_millis(250);

/// Squares that wait for the network, each a `T`, in the order they were decoded.
pub(super) struct Squares<T> {
    state: Mutex<State<T>>,
    /// There are more of them, or fewer who bring more.
    filled: Condvar,
    /// There are fewer of them.
    room: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// Threads that may bring more.
    decoding: usize,
    /// Nobody may take any more.
    is_over: bool,
}

impl<T> Squares<T> {
    /// Nothing yet, from so many threads that decode.
    pub(super) fn new(decoding: usize) -> Self {
        let state = Mutex::new(State { waiting: VecDeque::new(), decoding, is_over: false });
        Self { state, filled: Condvar::new(), room: Condvar::new() }
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    pub(super) fn push(&self, square: T) {
        lock(&self.state).waiting.push_back(square);
        self.filled.notify_one();
    }

    /// Up to `count` of those that are there.
    pub(super) fn take(&self, count: usize) -> Vec<T> {
        self.taken(lock(&self.state), count)
    }

    /// Returns when fewer than `most` are there, or it is over.
    pub(super) fn wait_for_room(&self, most: usize) {
        let is_full = |state: &mut State<T>| state.waiting.len() >= most && !state.is_over;
        drop(self.room.wait_while(lock(&self.state), is_full));
    }

    /// Waits for `count` of them, though not long where some are there. None means that there will be no more.
    pub(super) fn wait_for(&self, count: usize) -> Vec<T> {
        let mut state = lock(&self.state);
        let mut until = None;
        while state.waiting.len() < count && state.decoding > 0 {
            if state.waiting.is_empty() {
                until = None;
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            let waited = self.filled.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        self.taken(state, count)
    }

    /// One thread less brings squares.
    pub(super) fn one_less(&self) {
        lock(&self.state).decoding -= 1;
        self.filled.notify_all();
    }

    /// Lets nobody wait for room any more: who made it may be gone.
    pub(super) fn end(&self) {
        lock(&self.state).is_over = true;
        self.room.notify_all();
    }

    fn taken(&self, mut state: MutexGuard<'_, State<T>>, count: usize) -> Vec<T> {
        let count = state.waiting.len().min(count);
        let taken = state.waiting.drain(..count).collect();
        drop(state);
        self.room.notify_all();
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn batches_are_full_while_squares_come_and_the_last_is_what_is_left() {
        const THREADS: usize = 3;
        const EACH: usize = 1_000;
        let squares = Squares::new(THREADS);
        let batches: Vec<Vec<usize>> = thread::scope(|threads| {
            for _ in 0..THREADS {
                threads.spawn(|| {
                    for square in 0..EACH {
                        squares.wait_for_room(20);
                        squares.push(square);
                    }
                    squares.one_less();
                });
            }
            std::iter::from_fn(|| Some(squares.wait_for(7)).filter(|b| !b.is_empty())).collect()
        });
        let (last, full) = batches.split_last().unwrap();
        assert_eq!(batches.concat().len(), THREADS * EACH);
        assert_eq!(last.len(), THREADS * EACH % 7);
        assert!(full.iter().all(|batch| batch.len() == 7));
    }

    #[test]
    fn a_device_is_not_kept_waiting_for_a_batch_to_fill() {
        let squares = Squares::new(1);
        (0..3).for_each(|square| squares.push(square));
        assert_eq!(squares.wait_for(2), [0, 1], "the first ones first");
        assert_eq!(squares.wait_for(2), [2], "though a thread may still bring more");
        squares.one_less();
        assert!(squares.wait_for(2).is_empty());
    }

    #[test]
    fn who_would_fill_the_memory_waits_for_room() {
        let squares = Squares::new(1);
        squares.push(0);
        thread::scope(|threads| {
            let waiting = threads.spawn(|| squares.wait_for_room(1));
            thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            assert_eq!(squares.take(5), [0]);
        });
        assert_eq!(squares.len(), 0);
        squares.push(1);
        squares.end();
        squares.wait_for_room(1);
    }
}
