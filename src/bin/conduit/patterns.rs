//! Topic arguments: names and patterns.

use crate::outcome::Result;

/// A topic argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// One topic.
    Name(String),
    /// All topics that match.
    Glob(String),
}

impl Pattern {
    pub fn new(text: &str) -> Self {
        if text.contains(['*', '?']) { Pattern::Glob(text.into()) } else { Pattern::Name(text.into()) }
    }

    pub fn all(texts: &[String]) -> Vec<Self> {
        texts.iter().map(|text| Pattern::new(text)).collect()
    }

    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Pattern::Name(name) => name == topic,
            Pattern::Glob(glob) => matches(glob.as_bytes(), topic.as_bytes()),
        }
    }

    /// The topics of `domain` that this stands for now. A name stands for itself, whether or not there is such a topic.
    pub fn expand(&self, domain: &str) -> Result<Vec<String>> {
        match self {
            Pattern::Name(name) => Ok(vec![name.clone()]),
            Pattern::Glob(_) => {
                let topics = topics_of(domain)?;
                Ok(topics.into_iter().filter(|topic| self.matches(topic)).collect())
            }
        }
    }
}

/// The names of all topics of `domain`.
pub fn topics_of(domain: &str) -> Result<Vec<String>> {
    Ok(conduit::topic::list(Some(domain))?.into_iter().map(|(_, topic)| topic).collect())
}

/// `*` stands for any number of characters but `/`, `**` for any, `?` for one but `/`.
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

/// That a topic does not exist, with the names that it may have meant.
pub fn not_found(domain: &str, topic: &str) -> String {
    let mut near: Vec<(usize, String)> = topics_of(domain)
        .unwrap_or_default()
        .into_iter()
        .map(|known| (distance(topic.as_bytes(), known.as_bytes()), known))
        .filter(|(distance, known)| {
            *distance <= 1 + known.len().min(topic.len()) / 4 || known.ends_with(&format!("/{topic}"))
        })
        .collect();
    near.sort();
    let hint = match near.first() {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => "`conduit topics` lists those that do".into(),
    };
    let place = if domain.is_empty() { String::new() } else { format!(" in domain {domain}") };
    format!("topic {topic} does not exist{place}: {hint}")
}

/// How many characters to insert, remove or replace to get from one to the other.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
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

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance(b"imu", b"imu"), 0);
        assert_eq!(distance(b"imu", b"inu"), 1);
        assert_eq!(distance(b"imu", b"imus"), 1);
        assert_eq!(distance(b"", b"abc"), 3);
    }
}
