//! What can go wrong with a topic, and what to do about it.

use std::io;

use super::Schema;

/// [`Result`](std::result::Result) with this module's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// As `Display`: what a `main` that returns it prints is for people.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

fn name(schema: &Schema) -> &str {
    if schema.name.is_empty() { "bytes" } else { &schema.name }
}

/// What went wrong, where, and what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The topic's name is not one.
    #[error("`{topic}` is no topic name: {reason}")]
    InvalidTopic {
        /// The name.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The domain's name is not one.
    #[error("`{domain}` is no domain name: {reason}")]
    InvalidDomain {
        /// The name.
        domain: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The node's name is not one.
    #[error("`{node}` is no node name: {reason}")]
    InvalidNode {
        /// The name.
        node: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A node of this name runs already.
    #[error("node {node} runs already (process {pid}): a name stands for one node of a domain at a time")]
    NodeExists {
        /// The node.
        node: String,
        /// Its process, as it was numbered in its own PID namespace.
        pid: u32,
    },
    /// No node of this name runs.
    #[error("node {node} does not run")]
    NodeNotFound {
        /// The node.
        node: String,
    },
    /// The file of this name is no node's that this version can read.
    #[error("{path} is no node's file: {reason} (`conduit clean` removes it once nobody uses it)")]
    CorruptNode {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another node of this process is ended by signals.
    #[error(
        "node {node} cannot have SIGINT and SIGTERM, which another node of this process has: make it with \
         `signals(false)` and end it by its `Stopper`"
    )]
    SignalsTaken {
        /// The node that does not run.
        node: String,
    },
    /// An option has a value that cannot work.
    #[error("option {option}: {reason}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// Nobody has created the topic.
    #[error("topic {topic} does not exist: start its publisher, or open the subscriber with `wait`")]
    NotFound {
        /// The topic.
        topic: String,
    },
    /// The topic has a live publisher already.
    #[error("topic {topic} already has a publisher (process {pid}): a topic has one at a time")]
    PublisherExists {
        /// The topic.
        topic: String,
        /// The publisher's process, as it was numbered in its own PID namespace.
        pid: u32,
    },
    /// Every place for a subscriber is taken.
    #[error(
        "topic {topic} has its {limit} subscribers: close one, or have the publisher open it with more `subscribers` \
         (at most 64); `conduit echo` needs no place"
    )]
    TooManySubscribers {
        /// The topic.
        topic: String,
        /// How many it allows.
        limit: u32,
    },
    /// The subscriber declares more samples than the topic has slots to spare.
    #[error(
        "topic {topic} has room for {left} more samples, {wanted} were declared: declare fewer, or have the publisher \
         open it with more `samples` or `subscribers`"
    )]
    TooManySamplesDeclared {
        /// The topic.
        topic: String,
        /// What the subscriber declared.
        wanted: u32,
        /// What the topic can still give.
        left: u32,
    },
    /// The subscriber already holds all the samples it declared.
    #[error("topic {topic}: all {declared} declared samples are in use: drop one, or open with more `samples`")]
    TooManySamples {
        /// The topic.
        topic: String,
        /// How many were declared.
        declared: u32,
    },
    /// The topic carries another type.
    #[error(
        "topic {topic} carries {}, this program expects {}\n--- topic\n{found}\n--- program\n{expected}",
        name(found),
        name(expected)
    )]
    SchemaMismatch {
        /// The topic.
        topic: String,
        /// What this program would read.
        expected: Box<Schema>,
        /// What the topic says it carries.
        found: Box<Schema>,
    },
    /// The file of this name is not a topic that this version can use.
    #[error("{path} is no usable topic: {reason}")]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file belongs to somebody else.
    #[error(
        "topic {topic} belongs to user {owner}: open it with `any_owner` if you trust whoever can write it with this \
         program's memory"
    )]
    ForeignOwner {
        /// The topic.
        topic: String,
        /// The owner of the file.
        owner: u32,
    },
    /// The message is longer than the topic's slots.
    #[error("a message of {len} bytes does not fit topic {topic}, which takes {max}: open it with a larger `max_len`")]
    TooLong {
        /// The topic.
        topic: String,
        /// The message's length.
        len: usize,
        /// The longest that fits.
        max: usize,
    },
    /// The value cannot be written in the topic's encoding.
    #[error("topic {topic}: the message cannot be serialised: {reason}")]
    Unserializable {
        /// The topic.
        topic: String,
        /// Why not.
        reason: String,
    },
    /// The message's length is not the one that every message of the topic has.
    #[error("a message of {len} bytes on topic {topic}, whose Words slots hold exactly {expected}")]
    WrongLength {
        /// The topic.
        topic: String,
        /// The message's length.
        len: usize,
        /// The length it must have.
        expected: usize,
    },
    /// A subscriber of a lossless topic has not taken the oldest message yet.
    #[error("topic {topic} is full: subscriber {subscriber} has not taken its oldest message; nothing was overwritten")]
    Full {
        /// The topic.
        topic: String,
        /// The subscriber that is furthest behind.
        subscriber: u32,
    },
    /// Subscribers hold every slot.
    #[error("subscribers of topic {topic} hold all of its slots: have them drop samples, or open it deeper")]
    AllPinned {
        /// The topic.
        topic: String,
    },
    /// The time is up.
    #[error("topic {topic}: the time is up, and it has not come, or its subscribers have made no room")]
    TimedOut {
        /// The topic.
        topic: String,
    },
    /// The publisher was told to stop waiting for room.
    #[error("topic {topic}: told to stop while its subscribers made no room; nothing was published")]
    Stopped {
        /// The topic.
        topic: String,
    },
    /// `/dev/shm` has no room for the topic.
    #[error(
        "topic {topic} takes {} KiB, for which /dev/shm is too full: make it smaller, run `conduit clean`, or enlarge \
         /dev/shm",
        bytes.div_ceil(1024)
    )]
    NoRoom {
        /// The topic.
        topic: String,
        /// What it takes.
        bytes: u64,
    },
    /// A new publisher has replaced the topic by one of another shape, and this handle cannot follow it.
    #[error("topic {topic} was replaced by one that this handle cannot use: {reason}")]
    Superseded {
        /// The topic.
        topic: String,
        /// Why not.
        reason: String,
    },
    /// The handle was inherited by a forked child; the parent still has it.
    #[error("this handle of topic {topic} belongs to the parent process: open the topic again in the child")]
    Forked {
        /// The topic.
        topic: String,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}{}", hint(action, source))]
    System {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The `action` of inotify's calls, whose errors mean other limits than those of files.
pub(super) const WATCH: &str = "watch for";

/// The `action` of what decides where a thread runs, and how urgently.
pub(crate) const PIN: &str = "choose";
pub(crate) const PRIORITY: &str = "set";

/// What to do about the errors that people meet, which depends on what was tried.
fn hint(action: &str, error: &io::Error) -> &'static str {
    match (action, error.raw_os_error()) {
        (WATCH, Some(libc::EMFILE)) => " (raise fs.inotify.max_user_instances, or the limit on open files)",
        (WATCH, Some(libc::ENOSPC)) => " (raise fs.inotify.max_user_watches)",
        (WATCH, Some(libc::EACCES | libc::EPERM)) => " (a sandbox may forbid inotify)",
        (PIN, Some(libc::EINVAL)) => " (this process may not use that CPU: see `taskset -p` and `nproc --all`)",
        (PRIORITY, Some(libc::EACCES | libc::EPERM)) => {
            " (it takes CAP_SYS_NICE: run it as root, give it that by `setcap cap_sys_nice+ep PROGRAM`, or raise `rtprio` and \
             `nice` in /etc/security/limits.conf)"
        }
        (_, Some(libc::ENOSPC)) => {
            " (/dev/shm is full: make the topic smaller, run `conduit clean`, or enlarge /dev/shm)"
        }
        (_, Some(libc::EACCES | libc::EPERM)) => {
            " (whose topic is it? its publisher sets who may open it with `permissions`)"
        }
        (_, Some(libc::EMFILE | libc::ENFILE)) => " (raise the limit on open files)",
        (_, Some(libc::ENOMEM)) => " (no memory left to map or lock: see `ulimit -l`)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_depends_on_what_was_tried() {
        let text = |action, code| {
            let source = io::Error::from_raw_os_error(code);
            Error::System { action, path: "/dev/shm/conduit_t".into(), source }.to_string()
        };
        let full = text("open", libc::EMFILE);
        assert!(full.contains("limit on open files") && !full.contains("inotify"), "{full}");
        assert!(text(WATCH, libc::EMFILE).contains("fs.inotify.max_user_instances"));
        let watches = text(WATCH, libc::ENOSPC);
        assert!(watches.contains("fs.inotify.max_user_watches") && !watches.contains("is full"), "{watches}");
    }
}
