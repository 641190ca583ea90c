//! Sleeping until any of several topics has a message.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::multi_wait::{Bell, MultiWait};
use super::subscriber::Attachment;
use super::{Error, Payload, Subscriber};
use crate::std::futex::Deadline;

/// Sleeps until any of several subscribers has something to receive.
///
/// One system call watches up to 126 topics (`futex_waitv`, Linux 5.16); beyond that, or before that, a helper thread
/// each does. Nothing is polled.
///
/// ```
/// use conduit::{Publisher, Subscriber, WaitSet};
/// # let domain = format!("doc-set-{}", std::process::id());
/// # let mut left = Publisher::<[u8]>::options().domain(&domain).open("left")?;
/// # let right = Publisher::<[u8]>::options().domain(&domain).open("right")?;
///
/// let mut a = Subscriber::<[u8]>::options().domain(&domain).open("left")?;
/// let b = Subscriber::<[u8]>::options().domain(&domain).open("right")?;
/// let mut set = WaitSet::new();
/// let (key_a, key_b) = (set.attach(&a), set.attach(&b));
///
/// left.publish(b"hello")?;
/// assert_eq!(set.wait()?, [key_a]);
/// assert_eq!(&*a.try_recv()?.unwrap(), b"hello");
/// # left.remove()?; right.remove()?;
/// # Ok::<(), conduit::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct WaitSet {
    members: Vec<(Key, Weak<Mutex<Arc<Attachment>>>)>,
    next_key: u64,
    waiter: MultiWait,
    /// Once somebody can wake the set.
    wakes: Option<Arc<Wakes>>,
    /// How many wakes were answered.
    heard: u32,
}

/// Ends the [`wait`](WaitSet::wait) of a set, from any thread; made by [`WaitSet::waker`].
#[derive(Clone, Debug)]
pub struct Waker(Arc<Wakes>);

#[derive(Debug)]
struct Wakes {
    /// How often the set was woken. Incremented by wakers, read by the set.
    count: AtomicU32,
    bell: Arc<Bell>,
}

impl Waker {
    /// Ends the wait that goes on, or else the next one, with nothing. Wakes that come before it returns are answered
    /// together.
    pub fn wake(&self) {
        // Before the bell, whose release the set acquires: who hears it finds the count.
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.bell.ring();
    }
}

/// Names a subscriber within its [`WaitSet`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key(u64);

impl WaitSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a subscriber, which goes on being used as before. It leaves the set when it is dropped.
    pub fn attach<T: Payload + ?Sized>(&mut self, subscriber: &Subscriber<T>) -> Key {
        let key = Key(self.next_key);
        self.next_key += 1;
        self.members.push((key, Arc::downgrade(subscriber.shared())));
        key
    }

    /// Takes a subscriber out. Nothing happens if it is not there.
    pub fn detach(&mut self, key: Key) {
        self.members.retain(|(member, _)| *member != key);
    }

    /// For other threads to end a wait. From now on a wait may return with nothing, and an empty set waits, too.
    pub fn waker(&mut self) -> Waker {
        let bell = self.waiter.bell();
        let wakes = self.wakes.get_or_insert_with(|| Arc::new(Wakes { count: AtomicU32::new(0), bell: bell.clone() }));
        Waker(wakes.clone())
    }

    /// Sleeps until at least one subscriber would receive something; returns which, in the order they were attached.
    /// Receive until there is nothing more before waiting again. An empty set that has no [`waker`](WaitSet::waker)
    /// returns at once, with nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`], [`Error::System`].
    pub fn wait(&mut self) -> Result<Vec<Key>, Error> {
        self.wait_until(None)
    }

    /// [`wait`](WaitSet::wait) for at most `timeout`; nothing is ready then.
    ///
    /// # Errors
    ///
    /// As [`wait`](WaitSet::wait).
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Vec<Key>, Error> {
        self.wait_until(Some(Deadline::after(timeout)))
    }

    fn wait_until(&mut self, deadline: Option<Deadline>) -> Result<Vec<Key>, Error> {
        loop {
            let mut places = Vec::with_capacity(self.members.len());
            self.members.retain(|(key, member)| {
                let Some(member) = member.upgrade() else { return false };
                places.push((*key, member.lock().unwrap_or_else(PoisonError::into_inner).clone()));
                true
            });
            for (_, place) in &places {
                place.region.check_ours()?;
            }
            // Before the look at the wakes: one that comes after it ends the wait.
            let ticket = self.waiter.ticket();
            match &self.wakes {
                None if places.is_empty() => return Ok(Vec::new()),
                Some(wakes) => {
                    let count = wakes.count.load(Ordering::Relaxed);
                    if std::mem::replace(&mut self.heard, count) != count {
                        return Ok(Vec::new());
                    }
                }
                None => {}
            }
            let (keys, places): (Vec<_>, Vec<_>) = places.into_iter().unzip();
            let ready = self.waiter.wait(&places, ticket, None, deadline)?;
            if !ready.is_empty() || deadline.is_some_and(Deadline::has_passed) {
                return Ok(ready.into_iter().map(|at| keys[at]).collect());
            }
        }
    }
}

/// Which of `places` have something for their subscriber.
pub(super) fn ready_of(places: &[Arc<Attachment>]) -> Vec<usize> {
    let is_ready = |place: &Arc<Attachment>| place.is_ready() || place.has_successor();
    places.iter().enumerate().filter(|(_, place)| is_ready(place)).map(|(at, _)| at).collect()
}
