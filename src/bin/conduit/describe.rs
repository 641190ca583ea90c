//! What is known about a topic, in words and in JSON.

use std::os::unix::fs::MetadataExt;

use conduit::topic::{Overflow, Schema, SlotKind, SubscriberInfo, Timestamps, TopicInfo, WriterState};
use serde_json::{Value, json};

use crate::output::harmless;
use crate::units;

/// What a topic carries, in a word or two.
pub fn type_name(schema: &Schema) -> String {
    let name = [&schema.name, &schema.message_encoding].into_iter().find(|name| !name.is_empty());
    name.map_or_else(|| "bytes".into(), |name| harmless(name))
}

pub fn state(writer: WriterState) -> &'static str {
    match writer {
        WriterState::Alive => "alive",
        WriterState::Closed => "closed",
        WriterState::Gone => "gone",
    }
}

pub fn slots(slots: SlotKind) -> &'static str {
    match slots {
        SlotKind::Words => "words",
        SlotKind::Frames => "frames",
    }
}

pub fn overflow(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Overwrite => "overwrite",
        Overflow::Block => "block",
        Overflow::Reject => "reject",
    }
}

pub fn timestamps(timestamps: Timestamps) -> &'static str {
    match timestamps {
        Timestamps::None => "none",
        Timestamps::Given => "given",
        Timestamps::Clock => "clock",
    }
}

/// Messages that its subscribers lost, of those that are there now.
pub fn lost(info: &TopicInfo) -> u64 {
    info.subscribers.iter().map(|subscriber| subscriber.lost).fold(0, u64::saturating_add)
}

pub fn json(info: &TopicInfo) -> Value {
    let geometry = &info.geometry;
    json!({
        "topic": info.topic,
        "domain": info.domain,
        "file": info.path,
        "bytes": info.bytes,
        "created": units::utc(units::since_1970(info.created)),
        "stale": info.is_stale(),
        "type": {
            "name": info.schema.name,
            "message_encoding": info.schema.message_encoding,
            "schema_encoding": info.schema.schema_encoding,
            "hash": format!("{:016x}", info.schema.hash()),
        },
        "publisher": { "state": state(info.writer), "pid": info.writer_pid, "epoch": info.epoch },
        "geometry": {
            "slots": slots(geometry.slots),
            "overflow": overflow(geometry.overflow),
            "timestamps": timestamps(geometry.timestamps),
            "depth": geometry.depth,
            "capacity": geometry.capacity,
            "max_len": geometry.max_len,
            "subscribers": geometry.subscribers,
            "samples": geometry.samples,
            "latched": geometry.latched,
        },
        "published": info.published,
        "held": info.held,
        "lost": lost(info),
        "skips": info.skips,
        "rejected": info.rejected,
        "blocked": info.blocked,
        "all_pinned": info.all_pinned,
        "subscribers": info.subscribers.iter().map(subscriber_json).collect::<Vec<_>>(),
    })
}

fn subscriber_json(subscriber: &SubscriberInfo) -> Value {
    json!({
        "place": subscriber.place,
        "pid": subscriber.pid,
        "lag": subscriber.lag,
        "lost": subscriber.lost,
        "samples": subscriber.samples,
        "joined": units::utc(units::since_1970(subscriber.joined)),
    })
}

/// A process that says it uses a topic: its number, and its name if it is known to be that process. A number of
/// another PID namespace may stand for somebody else here, who has not mapped the topic's file.
pub fn process(pid: u32, info: &TopicInfo) -> String {
    match name_of(pid, info) {
        Some(name) => format!("{pid} ({name})"),
        None => pid.to_string(),
    }
}

fn name_of(pid: u32, info: &TopicInfo) -> Option<String> {
    let file = std::fs::metadata(&info.path).ok()?;
    let mapped = maps(&pid.to_string())?.into_iter().any(|map| map.inode == file.ino());
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    mapped.then(|| harmless(name.trim_end()))
}

/// A mapping of a process.
pub struct Map {
    pub start: usize,
    pub end: usize,
    pub writable: bool,
    /// Where in the file it begins.
    pub offset: usize,
    pub inode: u64,
}

/// The mappings of a process (`self`, or its number); `None` if they cannot be read. Inode 0 means no file.
pub fn maps(process: &str) -> Option<Vec<Map>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    Some(text.lines().filter_map(map).collect())
}

/// Reads a line such as `7f08-7f09 r--s 00005000 00:19 77   /dev/shm/conduit_imu`.
fn map(line: &str) -> Option<Map> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let writable = fields.next()?.contains('w');
    let offset = fields.next()?;
    let inode = fields.nth(1)?.parse().ok()?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(Map { start: number(start)?, end: number(end)?, writable, offset: number(offset)?, inode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read() {
        let read = map("7f0895ef1000-7f0895f02000 r--s 00005000 00:19 77   /dev/shm/conduit_a b").unwrap();
        assert_eq!((read.start, read.end, read.offset), (0x7f08_95ef_1000, 0x7f08_95f0_2000, 0x5000));
        assert_eq!((read.writable, read.inode), (false, 77));
        assert!(map("7f08-7f09 rw-p 00000000 00:00 0").is_some_and(|map| map.writable && map.inode == 0));
        assert!(map("nonsense").is_none() && map("").is_none());
    }
}
