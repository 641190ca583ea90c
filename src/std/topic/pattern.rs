//! Patterns of topic names.

/// A topic, or all topics whose names match: `*` stands for any number of characters but `/`, `**` for any, `?` for one
/// but `/`.
///
/// ```
/// use conduit::topic::Pattern;
///
/// assert!(Pattern::new("sensors/*").matches("sensors/imu"));
/// assert!(!Pattern::new("sensors/*").matches("sensors/left/imu"));
/// assert!(Pattern::new("**/imu").matches("sensors/left/imu"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// One topic.
    Name(String),
    /// All topics that match.
    Glob(String),
}

impl Pattern {
    /// A pattern if there is a `*` or a `?` in it, else a name.
    pub fn new(text: &str) -> Self {
        if text.contains(['*', '?']) { Pattern::Glob(text.into()) } else { Pattern::Name(text.into()) }
    }

    /// The name, or the pattern as it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Pattern::Name(text) | Pattern::Glob(text) => text,
        }
    }

    /// Whether the topic is one that is meant. Takes no longer than the pattern's length times the name's.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Pattern::Name(name) => name == topic,
            Pattern::Glob(glob) => matches(glob.as_bytes(), topic.as_bytes()),
        }
    }
}

fn matches(glob: &[u8], text: &[u8]) -> bool {
    // Which suffixes of the pattern may match from here: time is glob x text, whatever they are.
    let mut states = vec![false; glob.len() + 1];
    let step = |states: &mut Vec<bool>| {
        for at in 0..glob.len() {
            if states[at] && glob[at] == b'*' {
                states[at + 1] = true;
            }
        }
    };
    states[0] = true;
    step(&mut states);
    for &byte in text {
        let mut next = vec![false; glob.len() + 1];
        for at in (0..glob.len()).filter(|&at| states[at]) {
            match glob[at] {
                b'*' => {
                    let double = glob.get(at + 1) == Some(&b'*') || (at > 0 && glob[at - 1] == b'*');
                    next[at] |= double || byte != b'/';
                }
                b'?' => next[at + 1] |= byte != b'/',
                literal => next[at + 1] |= literal == byte,
            }
        }
        step(&mut next);
        states = next;
    }
    states[glob.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        for (glob, yes, no) in [
            ("sensors/*", vec!["sensors/imu", "sensors/"], vec!["sensors", "sensors/left/imu", "other/imu"]),
            ("**", vec!["a", "a/b/c"], vec![]),
            ("*", vec!["imu"], vec!["a/b"]),
            ("**/imu", vec!["a/imu", "a/b/imu"], vec!["imu", "a/imu2"]),
            ("a*b*c", vec!["abc", "aXbYc", "abbc"], vec!["ab", "acb", "a/bc"]),
            ("joint_?", vec!["joint_1"], vec!["joint_", "joint_12", "joint_/"]),
            ("*imu*", vec!["imu", "left_imu", "imu2"], vec!["a/imu"]),
            ("s**u", vec!["s/i/mu", "su"], vec!["s/i/m"]),
        ] {
            for topic in yes {
                assert!(Pattern::new(glob).matches(topic), "{glob} {topic}");
            }
            for topic in no {
                assert!(!Pattern::new(glob).matches(topic), "{glob} {topic}");
            }
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_its_length_times_the_name() {
        let (glob, name) = (format!("{}b", "*a".repeat(500)), "a".repeat(200));
        assert!(!Pattern::new(&glob).matches(&name));
    }
}
