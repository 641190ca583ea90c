//! The tasks that wait on a link, for as long as no thread sleeps for them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::shared::For;
use crate::core::atomic::{AtomicU64, Ordering};

/// Names whoever waits: what it asked for before is replaced by what it asks for now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Key(u64);

impl Key {
    /// One that nobody else has.
    pub(super) fn new() -> Self {
        /// Counts keys (Relaxed: they are told apart, and nothing else).
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Key(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// For messages, and for room.
    news: [Vec<(Key, Waker)>; 2],
    /// For a time on the monotonic clock.
    alarms: Vec<(Key, u64, Waker)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Wakers(Mutex<Waiting>);

impl Wakers {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, what: For, key: Key, waker: &Waker) {
        let mut waiting = self.waiting();
        let list = &mut waiting.news[what as usize];
        match list.iter_mut().find(|(of, _)| *of == key) {
            Some((_, known)) => known.clone_from(waker),
            None => list.push((key, waker.clone())),
        }
    }

    pub(super) fn add_alarm(&self, key: Key, due: u64, waker: &Waker) {
        let mut waiting = self.waiting();
        waiting.alarms.retain(|(of, ..)| *of != key);
        waiting.alarms.push((key, due, waker.clone()));
    }

    pub(super) fn remove(&self, key: Key) {
        let mut waiting = self.waiting();
        waiting.news.iter_mut().for_each(|list| list.retain(|(of, _)| *of != key));
        waiting.alarms.retain(|(of, ..)| *of != key);
    }

    /// Wakes all that wait for messages or room. What they run then is theirs: called with nothing locked.
    pub(super) fn wake(&self) {
        let news = std::mem::take(&mut self.waiting().news);
        news.into_iter().flatten().for_each(|(_, waker)| waker.wake());
    }

    /// Wakes those whose time has come. Called as [`wake`](Wakers::wake) is.
    pub(super) fn wake_due(&self, now: u64) {
        let mut due = Vec::new();
        self.waiting().alarms.retain(|(_, at, waker)| {
            let is_due = *at <= now;
            if is_due {
                due.push(waker.clone());
            }
            !is_due
        });
        due.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_that_waits_is_woken_once_and_none_that_has_left() {
        let (wakers, counted) = (Wakers::default(), [(); 3].map(|()| Arc::new(Counted::default())));
        let keys = [(); 3].map(|()| Key::new());
        let woken = || counted.each_ref().map(|one| one.0.load(Ordering::Relaxed));
        for _ in 0..2 {
            for (key, counted) in keys.iter().zip(&counted) {
                wakers.add(For::Room, *key, &Waker::from(counted.clone()));
            }
        }
        wakers.remove(keys[1]);
        wakers.wake();
        wakers.wake();
        assert_eq!(woken(), [1, 0, 1]);
        for (at, (key, counted)) in keys.iter().zip(&counted).enumerate() {
            wakers.add_alarm(*key, 10 * at as u64, &Waker::from(counted.clone()));
        }
        wakers.remove(keys[1]);
        wakers.wake();
        wakers.wake_due(10);
        assert_eq!(woken(), [2, 0, 1]);
        wakers.wake_due(20);
        assert_eq!(woken(), [2, 0, 2]);
    }
}
