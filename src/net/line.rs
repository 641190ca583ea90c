//! Connections that wait for the same: told one by one, in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tcp::News;
use crate::frame::Priority;

/// Those who wait for the same.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<Arc<News>>);

impl Line {
    /// Whether it is this one's turn, or would be.
    pub(super) fn is_first(&self, news: &Arc<News>) -> bool {
        self.0.front().is_none_or(|first| Arc::ptr_eq(first, news))
    }

    /// Has one wait behind the others, unless it waits already.
    pub(super) fn join(&mut self, news: &Arc<News>) {
        if !self.0.iter().any(|waiting| Arc::ptr_eq(waiting, news)) {
            self.0.push_back(news.clone());
        }
    }

    /// Has one wait no more. If it was its turn, it is the next one's: there may be more than the one took.
    pub(super) fn leave(&mut self, news: &Arc<News>) {
        let was_first = self.is_first(news);
        self.0.retain(|waiting| !Arc::ptr_eq(waiting, news));
        if was_first {
            self.call();
        }
    }

    /// Tells the first.
    pub(super) fn call(&self) {
        if let Some(first) = self.0.front() {
            first.told.notify_one();
        }
    }
}

/// Those whose events are held: a line for each priority, as the lanes take them differently.
#[derive(Debug, Default)]
pub(super) struct Held([Mutex<Line>; 5]);

impl Held {
    fn of(&self, priority: Priority) -> MutexGuard<'_, Line> {
        self.0[priority as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be room.
    pub(super) fn call(&self) {
        self.0.iter().for_each(|line| line.lock().unwrap_or_else(PoisonError::into_inner).call());
    }
}

/// A connection's place among them.
pub(super) struct Place {
    held: Arc<Held>,
    news: Arc<News>,
    of: Option<Priority>,
}

impl Place {
    pub(super) fn new(held: Arc<Held>, news: Arc<News>) -> Self {
        Place { held, news, of: None }
    }

    /// Waits with events of this priority from here on, or no more; returns whether it has joined a line.
    pub(super) fn wait(&mut self, of: Option<Priority>) -> bool {
        if of == self.of {
            return false;
        }
        if let Some(before) = std::mem::replace(&mut self.of, of) {
            self.held.of(before).leave(&self.news);
        }
        if let Some(priority) = of {
            self.held.of(priority).join(&self.news);
        }
        of.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.wait(None);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_told(news: &News) -> bool {
        pin!(news.told.notified()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn room_is_told_to_the_first_alone_and_to_the_next_when_that_one_is_done() {
        let held = Arc::new(Held::default());
        let all: [Arc<News>; 4] = Default::default();
        let mut places = all.each_ref().map(|news| Place::new(held.clone(), news.clone()));
        let told = || all.each_ref().map(|news| is_told(news));
        for (place, priority) in places.iter_mut().zip([Priority::Low, Priority::Low, Priority::High, Priority::Low]) {
            assert!(place.wait(Some(priority)));
        }
        held.call();
        assert_eq!(told(), [true, false, true, false]);
        assert!(!places[0].wait(Some(Priority::Low)), "it is still held");
        assert_eq!(told(), [false; 4]);
        // Somebody behind goes, after a second or with its connection, and nobody in front is disturbed.
        places[1].wait(None);
        assert_eq!(told(), [false; 4]);
        drop(places);
        assert_eq!(told(), [false, false, false, true]);
    }
}
