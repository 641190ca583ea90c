//! Topics that recorded messages are published to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::PlayerOptions;
use super::options::is_meant;
use super::reel::Frame;
use crate::std::futex::Deadline;
use crate::tank;
use crate::tank::read::{Recording, Topic};
use crate::tank::record::encapsulation;
use crate::topic::{Error, Observer, Overflow, Pattern, Publisher, PublisherOptions, SlotKind, Timestamps};

/// The longest message that a topic is made for where nothing is known; it is made anew for longer ones.
const USUAL_LEN: usize = 4096;
/// The longest message that is published.
const LONGEST: usize = 1 << 30;
/// How often to ask whether those that are waited for still live.
const LIFE_CHECK: Duration = Duration::from_millis(100);
/// How long a subscriber that has received everything may take to move on to its topic made anew: it may not be able to, or not
/// look for messages.
const MOVE: Duration = Duration::from_secs(1);

/// About as many bytes as the messages of a topic take together, whatever a file says.
const MOST: u64 = 1 << 28;

const GONE: &str = "its topic could not be made as the message needs it";

/// An error if something is asked for that no file has.
fn check_names(files: &[Recording], options: &PlayerOptions) -> Result<(), tank::Error> {
    let names: BTreeSet<&str> = files.iter().flat_map(Recording::topics).map(|topic| topic.name.as_str()).collect();
    let missing = |option, name: String| {
        let there = names.iter().copied().collect::<Vec<_>>().join(", ");
        let reason = format!("nothing was recorded from {name}: the topics are {there}");
        Err(tank::Error::InvalidOption { option, reason })
    };
    let is_there = |pattern: &&Pattern| names.iter().any(|name| is_meant(pattern, name));
    if let Some(pattern) = options.topics.iter().find(|pattern| !is_there(pattern)) {
        return missing("topics", pattern.as_str().into());
    }
    let is_named =
        |from: &str| names.iter().any(|name| name.strip_prefix('/').unwrap_or(name) == from || *name == from);
    if let Some((from, _)) = options.remap.iter().find(|(from, _)| !is_named(from)) {
        return missing("remap", from.clone());
    }
    let is_twice = |name: &&&str| {
        let target = |name| options.target(name);
        options.wants(name)
            && name
                .strip_prefix('/')
                .is_some_and(|bare| names.contains(bare) && options.wants(bare) && target(bare) == target(name))
    };
    match names.iter().find(is_twice) {
        Some(name) => {
            let reason = format!("{name} and {} would be one topic: play one of them elsewhere", &name[1..]);
            Err(tank::Error::InvalidOption { option: "remap", reason })
        }
        None => Ok(()),
    }
}

/// What goes where.
#[derive(Debug)]
pub(super) struct Outlets {
    outlets: Vec<Outlet>,
    shapes: Vec<Shape>,
    /// The shape of each file's channels.
    shape_of: Vec<BTreeMap<u16, usize>>,
    stop: Arc<AtomicBool>,
}

/// A topic that recorded messages are published to.
#[derive(Debug)]
struct Outlet {
    topic: String,
    /// `None` once making it anew has failed.
    publisher: Option<Publisher<[u8]>>,
    /// What it is like now.
    shape: usize,
    /// The file of the last message, when it was published, and its number, by which one is known that is in two files.
    last: Option<(usize, u64, u32)>,
    counts: Played,
}

/// What a topic was like when it was recorded. It may have changed: then it has more than one.
#[derive(Debug)]
struct Shape {
    outlet: usize,
    options: PublisherOptions<[u8]>,
    /// What stands before each message in the file, and is not published.
    prefix: &'static [u8],
    slots: SlotKind,
    latched: bool,
    depth: u32,
    subscribers: u32,
    max_len: usize,
}

/// What became of the messages that were recorded from a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Played {
    /// Published.
    pub published: u64,
    /// Not published, because the topic cannot have them as they are, or is full.
    pub refused: u64,
    /// In a file for the second time, as the last message of a latched topic is where a recording goes on in another file;
    /// and not published again.
    pub repeated: u64,
}

impl Outlets {
    /// Makes the topics that are wanted of the files.
    pub fn open(files: &[Recording], options: &PlayerOptions, stop: &Arc<AtomicBool>) -> Result<Self, tank::Error> {
        check_names(files, options)?;
        let mut outlets = Outlets { outlets: Vec::new(), shapes: Vec::new(), shape_of: Vec::new(), stop: stop.clone() };
        match outlets.make_all(files, options) {
            Ok(()) => Ok(outlets),
            Err(error) => {
                outlets.unmake();
                Err(error.into())
            }
        }
    }

    fn make_all(&mut self, files: &[Recording], options: &PlayerOptions) -> Result<(), Error> {
        let mut known: Vec<(&str, &Topic)> = Vec::new();
        for file in files {
            let mut shape_of = BTreeMap::new();
            for recorded in file.topics().iter().filter(|topic| topic.messages > 0 && options.wants(&topic.name)) {
                let topic = options.target(&recorded.name);
                let is_same = |(other, shape): &(&str, &Topic)| {
                    *other == topic && shape.schema == recorded.schema && shape.metadata == recorded.metadata
                };
                let shape = match known.iter().position(is_same) {
                    Some(shape) => shape,
                    None => {
                        known.push((topic, recorded));
                        self.add_shape(topic, recorded, options)?
                    }
                };
                shape_of.insert(recorded.id, shape);
            }
            self.shape_of.push(shape_of);
        }
        Ok(())
    }

    /// Removes the topics that were not there before.
    fn unmake(self) {
        for publisher in self.outlets.into_iter().filter_map(|outlet| outlet.publisher) {
            if publisher.next_sequence() == 0 {
                // What cannot be removed is closed, and `conduit clean` sees to it.
                let _ = publisher.remove();
            }
        }
    }

    fn add_shape(&mut self, topic: &str, recorded: &Topic, options: &PlayerOptions) -> Result<usize, Error> {
        let number = self.shapes.len();
        let (mut shape, is_new) = match self.outlets.iter().position(|outlet| outlet.topic == topic) {
            Some(outlet) => (Shape::new(outlet, recorded, options), false),
            None => (Shape::new(self.outlets.len(), recorded, options), true),
        };
        if let Some(domain) = &options.domain {
            shape.options = shape.options.domain(domain);
        }
        if is_new {
            let mut publisher = shape.options.clone().open(topic)?;
            publisher.stop_waiting_when(self.stop.clone());
            let (publisher, counts) = (Some(publisher), Played::default());
            self.outlets.push(Outlet { topic: topic.into(), publisher, shape: number, last: None, counts });
        }
        self.shapes.push(shape);
        Ok(number)
    }

    /// Each file's channels that are published.
    pub fn wanted(&self) -> Vec<Vec<u16>> {
        self.shape_of.iter().map(|channels| channels.keys().copied().collect()).collect()
    }

    /// The first topic that has no subscriber within `timeout`.
    pub fn wait_for_subscribers(&self, timeout: Duration) -> Result<Option<&str>, Error> {
        let deadline = Deadline::after(timeout);
        for outlet in &self.outlets {
            let Some(publisher) = &outlet.publisher else { continue };
            if !publisher.wait_for_subscribers_until(1, deadline)? {
                return Ok(Some(&outlet.topic));
            }
        }
        Ok(None)
    }

    /// Publishes a message, unless its topic cannot have it.
    ///
    /// [`Error::Stopped`], and what the system did not let happen.
    pub fn publish(&mut self, frame: &Frame) -> Result<(), Error> {
        let Some(&number) = self.shape_of[frame.file].get(&frame.channel) else { return Ok(()) };
        let shape = &mut self.shapes[number];
        let outlet = &mut self.outlets[shape.outlet];
        // What a file begins with may be older than the last messages of the file before, which end behind its beginning.
        let is_repeated = outlet.last.is_some_and(|(file, publish_time, sequence)| {
            file != frame.file && (frame.publish_time, frame.sequence) <= (publish_time, sequence)
        });
        if is_repeated && shape.latched {
            outlet.counts.repeated += 1;
            return Ok(());
        }
        outlet.last = Some((frame.file, frame.publish_time, frame.sequence));
        if outlet.shape != number {
            outlet.shape = number;
            outlet.make_anew(shape, &self.stop)?;
        }
        let message = match shape.prefix {
            [] => &frame.data[..],
            // The last two bytes are options, which change nothing about how it is read.
            prefix => match frame.data.split_first_chunk::<4>() {
                Some((head, message)) if head[..2] == prefix[..2] => message,
                _ => return outlet.refuse("it is no little-endian CDR"),
            },
        };
        let Some(publisher) = &mut outlet.publisher else { return outlet.refuse(GONE) };
        match publisher.publish(message) {
            Ok(_) => {}
            Err(Error::TooLong { .. }) if message.len() <= LONGEST && shape.slots == SlotKind::Frames => {
                let before = std::mem::replace(&mut shape.max_len, message.len().next_power_of_two());
                shape.bound();
                outlet.make_anew(shape, &self.stop)?;
                match &mut outlet.publisher {
                    Some(publisher) => drop(publisher.publish(message)?),
                    None => {
                        // Of those that are not as long the topic may still have room.
                        shape.max_len = before;
                        shape.bound();
                        outlet.make_anew(shape, &self.stop)?;
                        return outlet.refuse(GONE);
                    }
                }
            }
            Err(Error::TooLong { .. } | Error::WrongLength { .. }) => {
                return outlet.refuse("it has a length that the topic's messages cannot have");
            }
            Err(Error::Full { .. } | Error::AllPinned { .. }) => {
                return outlet.refuse("its subscribers keep the topic full");
            }
            Err(error) => return Err(error),
        }
        outlet.counts.published += 1;
        Ok(())
    }

    /// What became of each topic's messages.
    pub fn counts(&self) -> BTreeMap<String, Played> {
        self.outlets.iter().map(|outlet| (outlet.topic.clone(), outlet.counts)).collect()
    }

    /// That the recording begins again.
    pub fn rewind(&mut self) {
        self.outlets.iter_mut().for_each(|outlet| outlet.last = None);
    }
}

impl Outlet {
    /// Makes the topic anew, as `shape` has it, if there is room. Its subscribers receive what it holds, and go on there; where
    /// the publisher waits for them, it waits until they have.
    fn make_anew(&mut self, shape: &Shape, stop: &Arc<AtomicBool>) -> Result<(), Error> {
        let old = match &self.publisher {
            Some(publisher) if publisher.geometry().overflow == Overflow::Block => Some(publisher.observer()?),
            _ => None,
        };
        // A topic has one publisher at a time.
        self.publisher = None;
        let mut publisher = match shape.options.clone().open(&self.topic) {
            Ok(publisher) => publisher,
            Err(error @ (Error::NoRoom { .. } | Error::InvalidOption { .. })) => {
                tracing::warn!(topic = self.topic, %error, "a topic cannot be made as its next message needs it");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        publisher.stop_waiting_when(stop.clone());
        if let Some(old) = old {
            wait_to_move(&old, &publisher)?;
        }
        self.publisher = Some(publisher);
        Ok(())
    }

    fn refuse(&mut self, reason: &str) -> Result<(), Error> {
        if self.counts.refused == 0 {
            tracing::warn!(topic = self.topic, reason, "a recorded message cannot be published");
        }
        self.counts.refused += 1;
        Ok(())
    }
}

/// Waits until the subscribers of a topic that was made anew have received what it held before, however long that takes, and
/// until they have moved on, if they do.
///
/// [`Error::Stopped`].
fn wait_to_move(old: &Observer, new: &Publisher<[u8]>) -> Result<(), Error> {
    let mut deadline = None;
    loop {
        let (there, behind) = old.subscribers();
        if there == 0 {
            return Ok(());
        }
        let deadline = match behind {
            0 => *deadline.get_or_insert_with(|| Deadline::after(MOVE)),
            _ => {
                deadline = None;
                Deadline::after(LIFE_CHECK)
            }
        };
        if deadline.has_passed() {
            return Ok(());
        }
        // Whoever moves on is one more there.
        let look = Deadline::after(LIFE_CHECK).min(deadline);
        new.wait_for_subscribers_until(new.subscribers() + 1, look)?;
    }
}

impl Shape {
    /// The topic as it was when it was recorded, as far as the file says.
    fn new(outlet: usize, recorded: &Topic, options: &PlayerOptions) -> Self {
        let says = |key: &str| recorded.metadata.get(key).map(String::as_str);
        let number = |key| says(key).and_then(|number| number.parse::<u32>().ok());
        let slots = if says("conduit.slots") == Some("words") { SlotKind::Words } else { SlotKind::Frames };
        let overflow = options.overflow.unwrap_or(match says("conduit.overflow") {
            // What was refused is not in the file, and nothing of what is there is to be refused now.
            Some("block" | "reject") => Overflow::Block,
            _ => Overflow::Overwrite,
        });
        // Longer ones have the topic made anew once they are really there, but in slots that are all of one length.
        let most = if slots == SlotKind::Words { LONGEST } else { (MOST / 16) as usize };
        let max_len = number("conduit.max_len").map_or(USUAL_LEN, |len| len as usize).clamp(1, most);
        let latched = says("conduit.latched") == Some("true");
        let depth = options.depth.or(number("conduit.depth")).unwrap_or(64).max(1);
        let subscribers = number("conduit.subscribers").unwrap_or(16).clamp(1, 64);
        let options = Publisher::<[u8]>::options()
            .schema(recorded.schema.clone())
            .slots(slots)
            .overflow(overflow)
            .timestamps(Timestamps::Clock)
            .latched(latched);
        let prefix = encapsulation(&recorded.schema);
        let mut shape = Shape { outlet, options, prefix, slots, latched, depth, subscribers, max_len };
        shape.bound();
        shape
    }

    /// Takes over what is known of how large it is: as it was recorded, as long as that fits the memory that a topic is given,
    /// and smaller where a file asks for more.
    fn bound(&mut self) {
        // Half of it, as slots and their number are rounded up.
        let most = u32::try_from(MOST / 2 / self.max_len as u64).unwrap_or(u32::MAX);
        // Each subscriber may hold two samples.
        let subscribers = self.subscribers.min(most / 4).max(1);
        let depth = self.depth.min(most.saturating_sub(2 * subscribers + 2)).max(1);
        self.options = self.options.clone().depth(depth).subscribers(subscribers).max_len(self.max_len);
    }
}
