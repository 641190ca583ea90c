//! What a topic may be called.

/// Longest topic name, in bytes.
pub const MAX_TOPIC: usize = 200;

/// What is wrong with a topic's name; `None` if nothing is.
pub(crate) fn topic_fault(topic: &[u8]) -> Option<&'static str> {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"_.-/".contains(b);
    if topic.is_empty() || topic.len() > MAX_TOPIC {
        Some("a name has 1 to 200 bytes")
    } else if !topic.iter().all(allowed) {
        Some("only A-Z, a-z, 0-9, _, ., - are allowed, and / between segments")
    } else if topic.split(|b| *b == b'/').any(|segment| matches!(segment, b"" | b"." | b"..")) {
        Some("no segment between slashes may be empty, `.` or `..`")
    } else {
        None
    }
}
