//! Sleeping on the words of several topics at once, with or without the kernel's help.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::subscriber::Attachment;
use super::wait_set::ready_of;
use super::{Error, watch};
use crate::std::fork;
use crate::std::futex::{self, Deadline, WAIT_ANY_MAX};

/// Sleeps until any of several places has news. Where the kernel cannot (`futex_waitv`), a thread sleeps on each word.
#[derive(Debug, Default)]
pub(crate) struct MultiWait {
    /// Changes when a helper's word has changed, or when somebody [rings](Bell::ring).
    bell: Arc<Bell>,
    helpers: Vec<Helper>,
}

/// A word of this process to sleep on. Incremented by whoever has news; the waiter sleeps on it.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    pub(crate) const fn new() -> Self {
        Bell(AtomicU32::new(0))
    }

    /// May be called by a signal handler.
    pub(crate) fn ring(&self) {
        self.0.fetch_add(1, Ordering::Release);
        futex::wake_all(&self.0);
    }

    /// What to hand to [`wait`](Bell::wait): rings from now on end it.
    pub(crate) fn ticket(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Sleeps until the bell has rung since `ticket`. May return early.
    pub(crate) fn wait(&self, ticket: u32) {
        futex::wait(&self.0, ticket, None);
    }
}

impl MultiWait {
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// What to hand to [`wait`](MultiWait::wait): rings from now on end it.
    pub(crate) fn ticket(&self) -> u32 {
        self.bell.ticket()
    }

    /// Sleeps until at least one of `places` is ready, the bell has rung since `ticket`, or `deadline` passes; with `changes`,
    /// also until a topic may have come or gone since [`watch::changes`] had that value. Returns the indices of the places
    /// that are ready. May return early, with none.
    pub(crate) fn wait(
        &mut self,
        places: &[Arc<Attachment>],
        ticket: u32,
        changes: Option<u32>,
        mut deadline: Option<Deadline>,
    ) -> Result<Vec<usize>, Error> {
        let ready = ready_of(places);
        if !ready.is_empty() {
            return Ok(ready);
        }
        let mut sources = Vec::with_capacity(places.len() + 1);
        let mut watches = changes.is_some();
        sources.extend(changes.map(|changes| (Source::Watch, changes)));
        for place in places {
            if !place.region.is_superseded() {
                let sleep = place.region.prepare_to_sleep();
                deadline = futex::earlier(deadline, sleep.limit);
                sources.push((Source::Place(place.clone()), sleep.ticket));
            } else if !watches {
                // Nothing more comes here, but something may take its name.
                watches = true;
                deadline = futex::earlier(deadline, watch::start_or_look());
                sources.push((Source::Watch, watch::changes().load(Ordering::Acquire)));
            }
        }
        let ready = ready_of(places);
        if !ready.is_empty() || deadline.is_some_and(Deadline::has_passed) {
            return Ok(ready);
        }
        let mut words: Vec<_> = sources.iter().map(|(source, ticket)| (source.word(), *ticket)).collect();
        words.push((&self.bell.0, ticket));
        if words.len() > WAIT_ANY_MAX || futex::wait_any(&words, deadline).is_err() {
            self.arm_helpers(sources)?;
            futex::wait(&self.bell.0, ticket, deadline);
        }
        Ok(ready_of(places))
    }

    /// Has a thread sleep on each source and ring the bell when its word changes. Those that are not woken sleep on for the
    /// next wait; those whose source is gone are sent away from it.
    fn arm_helpers(&mut self, sources: Vec<(Source, u32)>) -> Result<(), Error> {
        // A forked child has its parent's list, and none of the threads.
        self.helpers.retain(Helper::is_ours);
        for helper in &self.helpers {
            helper.job.leave_unless(|armed| sources.iter().any(|(source, _)| source.is(armed)));
        }
        for (source, ticket) in sources {
            if self.helpers.iter().any(|helper| helper.job.sleeps_on(&source)) {
                continue;
            }
            let idle = self.helpers.iter().position(|helper| helper.job.is_idle());
            let helper = match idle {
                Some(at) => &self.helpers[at],
                None => {
                    self.helpers.push(Helper::start(self.bell.clone())?);
                    &self.helpers[self.helpers.len() - 1]
                }
            };
            helper.job.arm(source, ticket);
        }
        Ok(())
    }
}

/// Something with a word to sleep on.
#[derive(Clone, Debug)]
enum Source {
    Place(Arc<Attachment>),
    /// The coming and going of topics.
    Watch,
}

impl Source {
    fn word(&self) -> &AtomicU32 {
        match self {
            Source::Place(place) => place.region.wait_page().messages.word(),
            Source::Watch => watch::changes(),
        }
    }

    fn is(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Place(a), Source::Place(b)) => Arc::ptr_eq(a, b),
            (Source::Watch, Source::Watch) => true,
            _ => false,
        }
    }

    /// Changes the word, so that nobody sleeps on: harmless to others, who look again and go back to sleep.
    fn disturb(&self) {
        match self {
            Source::Place(place) => place.region.wait_page().messages.announce(),
            Source::Watch => {
                watch::changes().fetch_add(1, Ordering::Release);
            }
        }
        futex::wake_all(self.word());
    }
}

/// A thread that sleeps on one word at a time.
#[derive(Debug)]
struct Helper {
    job: Arc<Job>,
    thread: Option<JoinHandle<()>>,
    generation: u32,
}

#[derive(Debug)]
struct Job {
    /// `IDLE`, `ARMED` or `STOP`. The waiter arms and stops; the helper becomes idle.
    state: AtomicU32,
    target: Mutex<Option<(Source, u32)>>,
}

const IDLE: u32 = 0;
const ARMED: u32 = 1;
const STOP: u32 = 2;

impl Job {
    fn is_idle(&self) -> bool {
        self.state.load(Ordering::Acquire) == IDLE
    }

    fn target(&self) -> std::sync::MutexGuard<'_, Option<(Source, u32)>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleeps_on(&self, source: &Source) -> bool {
        self.target().as_ref().is_some_and(|(armed, _)| armed.is(source))
    }

    fn arm(&self, source: Source, ticket: u32) {
        *self.target() = Some((source, ticket));
        // Release: pairs with the helper's Acquire load.
        self.state.store(ARMED, Ordering::Release);
        futex::wake_all(&self.state);
    }

    fn leave_unless(&self, wanted: impl Fn(&Source) -> bool) {
        let target = self.target().clone();
        if let Some((source, _)) = target.filter(|(source, _)| !wanted(source)) {
            source.disturb();
        }
    }

    fn run(&self, bell: &Bell) {
        loop {
            match self.state.load(Ordering::Acquire) {
                IDLE => futex::wait(&self.state, IDLE, None),
                STOP => return,
                _ => {
                    let target = self.target().clone();
                    if let Some((source, ticket)) = target {
                        while source.word().load(Ordering::Acquire) == ticket {
                            futex::wait(source.word(), ticket, None);
                        }
                    }
                    *self.target() = None;
                    // Fails only if it says stop.
                    let _ = self.state.compare_exchange(ARMED, IDLE, Ordering::AcqRel, Ordering::Relaxed);
                    bell.ring();
                }
            }
        }
    }
}

impl Helper {
    fn start(bell: Arc<Bell>) -> Result<Self, Error> {
        let job = Arc::new(Job { state: AtomicU32::new(IDLE), target: Mutex::new(None) });
        let run = job.clone();
        let thread = std::thread::Builder::new().name("conduit-wait".into()).spawn(move || run.run(&bell)).map_err(
            |source| Error::System { action: "start a thread to wait for", path: "several topics".into(), source },
        )?;
        Ok(Helper { job, thread: Some(thread), generation: fork::generation() })
    }

    /// Whether the thread runs in this process, rather than in the parent that forked it.
    fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !self.is_ours() {
            // There is nothing to stop and nobody to wait for, and the thread may have left anything locked.
            std::mem::forget((self.thread.take(), self.job.clone()));
            return;
        }
        self.job.state.store(STOP, Ordering::Release);
        futex::wake_all(&self.job.state);
        self.job.leave_unless(|_| false);
        if let Some(thread) = self.thread.take() {
            // The helper does not panic; if it did, there is nothing left to stop.
            let _ = thread.join();
        }
    }
}
