//! Topic arguments: names and patterns.

use crate::outcome::Result;

pub use conduit::topic::Pattern;

pub fn all(texts: &[String]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::new(text)).collect()
}

/// The topics of `domain` that a pattern stands for now. A name stands for itself, whether or not there is such a topic.
pub fn expand(pattern: &Pattern, domain: &str) -> Result<Vec<String>> {
    match pattern {
        Pattern::Name(name) => Ok(vec![name.clone()]),
        Pattern::Glob(_) => {
            let topics = topics_of(domain)?;
            Ok(topics.into_iter().filter(|topic| pattern.matches(topic)).collect())
        }
    }
}

/// The names of all topics of `domain`.
pub fn topics_of(domain: &str) -> Result<Vec<String>> {
    Ok(conduit::topic::list(Some(domain))?.into_iter().map(|(_, topic)| topic).collect())
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
    fn distances_count_edits() {
        assert_eq!(distance(b"imu", b"imu"), 0);
        assert_eq!(distance(b"imu", b"inu"), 1);
        assert_eq!(distance(b"imu", b"imus"), 1);
        assert_eq!(distance(b"", b"abc"), 3);
    }
}
