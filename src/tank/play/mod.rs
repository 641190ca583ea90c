//! Playing recordings: their messages on topics again, spaced as they were.

mod options;
mod outlet;
mod reel;
mod timeline;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use self::outlet::Outlets;
use self::reel::Reel;
use self::timeline::Timeline;
use crate::std::futex::{self, Deadline};
use crate::tank::Error;
use crate::tank::read::{Problem, Recording};

pub use self::options::PlayerOptions;
pub use self::outlet::Played;

/// Publishes what was recorded, spaced as it was.
///
/// Topics are as they were when they were recorded, as far as the file says: one that Conduit recorded says it all. What others
/// recorded is published as it stands in the file, in topics that grow with their messages. Names such as `/imu`, as in ROS, lose
/// the slash in front.
///
/// As a descriptor it becomes readable at the end of the recording.
///
/// ```no_run
/// use conduit::tank::Player;
///
/// let player = Player::options().rate(2.0).topics(["sensors/**"]).start(["run.mcap"])?;
/// let report = player.finish()?;
/// println!("{} topics", report.topics.len());
/// # Ok::<(), conduit::tank::Error>(())
/// ```
#[derive(Debug)]
pub struct Player {
    control: Arc<Control>,
    thread: Option<JoinHandle<Result<PlayReport, Error>>>,
}

/// What was played.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlayReport {
    /// What became of each topic's messages.
    pub topics: BTreeMap<String, Played>,
    /// Why the files are not all that they could be: without an end, or damaged.
    pub problems: Vec<(PathBuf, Problem)>,
    /// Damaged pieces of the files, which were left out.
    pub damaged: u64,
    /// How late a message was published at most, where time mattered.
    pub latest: Duration,
    /// Whether it was played to the end.
    pub ended: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PlayProgress {
    /// How much of the recording has passed.
    pub position: Duration,
    /// How long the recording is.
    pub duration: Duration,
    /// Messages that were published.
    pub published: u64,
    /// How fast time passes; `None` for as fast as it goes.
    pub rate: Option<f64>,
    /// Whether it is paused.
    pub paused: bool,
}

/// What the player's thread and its owner share.
#[derive(Debug)]
struct Control {
    /// Changes with each of the wishes below; the thread sleeps on it. Incremented by the owner.
    wishes: AtomicU32,
    /// Set once by the owner.
    stop: Arc<AtomicBool>,
    /// Written by the owner.
    paused: AtomicBool,
    /// How many messages are to be published while paused. Added to by the owner, taken from by the thread.
    steps: AtomicU64,
    /// The bits of an `f64`; 0 for as fast as it goes. Written by the owner.
    rate: AtomicU64,
    /// The log time of the last message. Written by the thread, for the owner to read, as is the next one.
    position: AtomicU64,
    published: AtomicU64,
    /// Log times of the beginning and the end.
    span: (u64, u64),
    ended: OwnedFd,
}

impl Player {
    /// Options to play with.
    pub fn options() -> PlayerOptions {
        PlayerOptions::new()
    }

    fn start(options: PlayerOptions, paths: Vec<PathBuf>) -> Result<Self, Error> {
        let system = |what, source: std::io::Error| Error::System { what, source };
        let files = paths.iter().map(Recording::open).collect::<Result<Vec<_>, _>>()?;
        let problems: Vec<_> = paths
            .iter()
            .zip(&files)
            .flat_map(|(path, file)| file.problems().iter().map(|problem| (path.clone(), problem.clone())))
            .collect();
        for (path, problem) in &problems {
            tracing::warn!(path = %path.display(), %problem, "a recording is not complete");
        }
        let times = files.iter().filter_map(Recording::times);
        let (first, last) = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0, 0));
        let ended = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| system("make an eventfd", error.into()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let length = Duration::from_nanos(last.saturating_sub(first));
        if options.from > length {
            return Err(Error::InvalidOption {
                option: "from",
                reason: format!("the recording is over after {length:?}"),
            });
        }
        let outlets = Outlets::open(&files, &options, &stop)?;
        let control = Arc::new(Control {
            wishes: AtomicU32::new(0),
            stop,
            paused: AtomicBool::new(options.paused),
            steps: AtomicU64::new(0),
            rate: AtomicU64::new(options.rate.map_or(0, f64::to_bits)),
            position: AtomicU64::new(first),
            published: AtomicU64::new(0),
            span: (first, last),
            ended,
        });
        let shared = control.clone();
        let run = move || {
            let report =
                Show { files, problems, options, outlets, control: &shared, timeline: None, rate: 0, latest: 0 }.run();
            // Fails only if it was told already.
            let _ = rustix::io::write(&shared.ended, &1u64.to_ne_bytes());
            report
        };
        let thread =
            Builder::new().name("tank-play".into()).spawn(run).map_err(|error| system("start a thread", error))?;
        Ok(Player { control, thread: Some(thread) })
    }

    /// Stays where it is, until [`resume`](Player::resume).
    pub fn pause(&self) {
        self.control.paused.store(true, Relaxed);
        self.control.tell();
    }

    /// Goes on.
    pub fn resume(&self) {
        self.control.paused.store(false, Relaxed);
        self.control.tell();
    }

    /// Publishes the next message while it is paused; nothing happens if it is not.
    pub fn step(&self) {
        if !self.control.paused.load(Relaxed) {
            return;
        }
        self.control.steps.fetch_add(1, Relaxed);
        self.control.tell();
    }

    /// Lets time pass so fast from now on; `None` for as fast as it goes.
    pub fn set_rate(&self, rate: Option<f64>) {
        let rate = rate.map_or(0, |rate| rate.clamp(1e-6, 1e6).to_bits());
        self.control.rate.store(rate, Relaxed);
        self.control.tell();
    }

    /// How far it is.
    pub fn progress(&self) -> PlayProgress {
        let Control { span: (first, last), position, published, rate, paused, .. } = &*self.control;
        let since = |time: u64| Duration::from_nanos(time.saturating_sub(*first));
        let rate = rate.load(Relaxed);
        PlayProgress {
            position: since(position.load(Relaxed)),
            duration: since(*last),
            published: published.load(Relaxed),
            rate: (rate != 0).then_some(f64::from_bits(rate)),
            paused: paused.load(Relaxed),
        }
    }

    /// Ends it where it is.
    ///
    /// # Errors
    ///
    /// As [`finish`](Player::finish).
    pub fn stop(self) -> Result<PlayReport, Error> {
        self.control.stop.store(true, Release);
        self.control.tell();
        self.finish()
    }

    /// Waits for the end. The topics stay, without a publisher, for whoever has not received all of them.
    ///
    /// # Errors
    ///
    /// [`Error::NoSubscriber`]; [`Error::Topic`] if a topic could not be published any longer.
    pub fn finish(mut self) -> Result<PlayReport, Error> {
        match self.thread.take() {
            // What the thread panicked with goes on here.
            Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => unreachable!("it is taken here and by `drop` alone"),
        }
    }
}

impl AsFd for Player {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.ended.as_fd()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.control.stop.store(true, Release);
            self.control.tell();
            // There is nobody to tell.
            let _ = thread.join();
        }
    }
}

impl Control {
    /// Has the thread look at what is wished for.
    fn tell(&self) {
        // Release: pairs with the Acquire load before the thread looks at the wishes.
        self.wishes.fetch_add(1, Release);
        futex::wake_all(&self.wishes);
    }
}

/// What the thread works with.
struct Show<'c> {
    files: Vec<Recording>,
    problems: Vec<(PathBuf, Problem)>,
    options: PlayerOptions,
    outlets: Outlets,
    control: &'c Control,
    /// `None` before the first message, and as long as it goes as fast as it goes.
    timeline: Option<Timeline>,
    /// What the timeline was made for.
    rate: u64,
    latest: u64,
}

impl Show<'_> {
    fn run(mut self) -> Result<PlayReport, Error> {
        precise_sleep();
        let mut report = PlayReport {
            topics: BTreeMap::new(),
            problems: std::mem::take(&mut self.problems),
            damaged: 0,
            latest: Duration::ZERO,
            ended: true,
        };
        if let Some(timeout) = self.options.wait_for {
            match self.outlets.wait_for_subscribers(timeout) {
                Ok(None) => {}
                Ok(Some(topic)) => return Err(Error::NoSubscriber { topic: topic.into() }),
                Err(crate::topic::Error::Stopped { .. }) => report.ended = false,
                Err(error) => return Err(error.into()),
            }
        }
        let (first, _) = self.control.span;
        let after = |time: Duration| first.saturating_add(time.as_nanos().try_into().unwrap_or(u64::MAX));
        let (start, end) = (after(self.options.from), self.options.to.map(after));
        let wanted = self.outlets.wanted();
        let files = std::mem::take(&mut self.files);
        let mut round = 0;
        while report.ended && self.options.rounds.is_none_or(|rounds| round < rounds) {
            let mut reel = Reel::new(&files, &wanted, start, end)?;
            self.timeline = None;
            self.outlets.rewind();
            let mut frames = 0;
            while let Some(frame) = reel.next() {
                frames += 1;
                if !self.wait_for(frame.log_time) {
                    report.ended = false;
                    break;
                }
                match self.outlets.publish(frame) {
                    Ok(()) => {}
                    Err(crate::topic::Error::Stopped { .. }) => {
                        report.ended = false;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
                self.control.position.store(frame.log_time, Relaxed);
                self.control.published.fetch_add(1, Relaxed);
            }
            report.damaged = reel.damaged;
            round += 1;
            if frames == 0 {
                // There is nothing to begin again.
                break;
            }
        }
        report.topics = self.outlets.counts();
        report.latest = Duration::from_nanos(self.latest);
        Ok(report)
    }

    /// Sleeps until the message of this time is due. `false` if it is to end.
    #[inline]
    fn wait_for(&mut self, log_time: u64) -> bool {
        let control = self.control;
        loop {
            // Acquire: pairs with the Release in `tell`.
            let ticket = control.wishes.load(Acquire);
            if control.stop.load(Relaxed) {
                return false;
            }
            if control.paused.load(Relaxed) {
                if control.steps.load(Relaxed) > 0 {
                    control.steps.fetch_sub(1, Relaxed);
                    self.timeline = None;
                    return true;
                }
                self.pause(ticket);
                continue;
            }
            let rate = control.rate.load(Relaxed);
            if rate == 0 {
                self.timeline = None;
                return true;
            }
            let now = futex::now();
            let timeline = match self.timeline {
                Some(timeline) if rate == self.rate => timeline,
                before => {
                    // From where it is; a message that was not waited for is where it begins.
                    let recorded = before.map_or(log_time, |before| before.recorded(now));
                    self.rate = rate;
                    *self.timeline.insert(Timeline::new(recorded, now, f64::from_bits(rate)))
                }
            };
            let due = timeline.due(log_time);
            if now >= due {
                self.latest = self.latest.max(now - due);
                return true;
            }
            futex::wait(&control.wishes, ticket, Some(Deadline::at(due)));
        }
    }

    /// Sleeps until something else is wished for; no recorded time passes.
    fn pause(&mut self, ticket: u32) {
        let recorded = self.timeline.map(|timeline| timeline.recorded(futex::now()));
        futex::wait(&self.control.wishes, ticket, None);
        self.timeline = recorded.map(|recorded| Timeline::new(recorded, futex::now(), f64::from_bits(self.rate)));
    }
}

/// Has this thread's sleeps end when they are due, rather than up to 50 us later, when it suits other timers.
fn precise_sleep() {
    // SAFETY: sets a number of this thread's, and nothing else.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
    }
}
