//! The transports under test, behind one interface. A new one is a module that implements [`Peer`].
//!
//! Everything is generic and static, because a virtual call costs about as much as a fast publish.

pub mod bare;
pub mod brokers;
pub mod bytes;
pub mod conduit;
pub mod iceoryx2;
pub mod link;
pub mod ringfire;
pub mod signals;
pub mod socket;
#[cfg(feature = "zenoh")]
pub mod zenoh;

use crate::message::Message;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The parent's process number: part of every file's name, so that two runs stay apart.
static RUN: AtomicU32 = AtomicU32::new(0);

/// Call it once, before the first fork.
pub fn begin() {
    RUN.store(std::process::id(), Relaxed);
}

fn prefix(peer: &str) -> String {
    format!("bench_{peer}_{}_", RUN.load(Relaxed))
}

/// Removes what participants left, by design or because they were killed.
pub fn sweep() {
    let files = [
        <conduit::Frames as Peer<8>>::files(),
        <ringfire::Ringfire as Peer<8>>::files(),
        <iceoryx2::Iceoryx2 as Peer<8>>::files(),
        files_in("/tmp", &prefix("zenoh")),
    ];
    for file in files.into_iter().flatten() {
        let _ = std::fs::remove_file(file);
    }
    let _ = std::fs::remove_dir_all(iceoryx2::root());
}

/// How a cell wants its topic.
#[derive(Clone)]
pub struct Setup {
    /// Unique to the cell and the topic.
    pub name: String,
    /// Messages the topic holds.
    pub depth: usize,
    /// Whether the publisher waits for slow subscribers instead of overtaking them.
    pub lossless: bool,
    /// Whether subscribers will sleep: only then need a publisher look for sleepers.
    pub sleepers: bool,
    pub subscribers: usize,
}

/// A transport that carries messages of `N` words from one publisher to some subscribers.
pub trait Peer<const N: usize> {
    /// Made by the parent before it forks, for transports whose ends are inherited.
    type Shared;
    type Publisher: Publisher<N>;
    type Subscriber: Subscriber<N>;

    /// Whether `receive` can poll. If not, it sleeps, and the report calls the figure blocking.
    const POLLS: bool = true;

    fn prepare(setup: &Setup) -> Self::Shared;
    /// Either end may be opened first; whoever needs the other waits for it.
    fn publisher(shared: &Self::Shared, setup: &Setup) -> Self::Publisher;
    fn subscriber(shared: &Self::Shared, setup: &Setup, index: usize) -> Self::Subscriber;

    /// The files that exist because of topics made by this run.
    fn files() -> Vec<PathBuf> {
        Vec::new()
    }
}

pub trait Publisher<const N: usize> {
    fn send(&mut self, message: &Message<N>);

    fn send_batch(&mut self, messages: &[Message<N>]) {
        for message in messages {
            self.send(message);
        }
    }

    /// Hands a message over in place and leaves its payload alone, or only numbers its first word.
    fn hand_over(&mut self, _number: Option<u64>) {
        unreachable!("this transport lends no memory")
    }
}

pub trait Subscriber<const N: usize> {
    /// Copies the next message out, if there is one, without waiting.
    fn receive(&mut self, into: &mut Message<N>) -> bool;

    /// Copies out as many as there are and `into` holds.
    fn receive_batch(&mut self, into: &mut [Message<N>]) -> usize {
        let mut received = 0;
        while received < into.len() && self.receive(&mut into[received]) {
            received += 1;
        }
        received
    }

    /// Sleeps until there is a message, and copies it out.
    fn wait(&mut self, into: &mut Message<N>);

    /// Takes the next message in place; returns its first word only if asked to look.
    fn take(&mut self, _look: bool) -> Option<u64> {
        unreachable!("this transport lends no memory")
    }
}

/// Files in a folder whose names start with `prefix`.
fn files_in(folder: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}
