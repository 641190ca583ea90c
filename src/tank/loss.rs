//! What became of the messages of a topic: the sum that has to come out even.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

/// What became of a topic's messages since the recorder joined it, or within a file:
/// `published = recorded + lost + paused + expired`.
///
/// A file says it in metadata of the name `conduit.loss`, with the topic as key and a value such as
/// `published=1000 recorded=998 lost=2 paused=0 expired=0`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counts {
    /// In a file.
    pub recorded: u64,
    /// Overwritten before they were received, or received when there was no memory for them, or not written because the disk
    /// failed.
    pub lost: u64,
    /// Published while the recorder was paused.
    pub paused: u64,
    /// Kept for a snapshot until they were older than it reaches back.
    pub expired: u64,
}

impl Counts {
    /// The name of the metadata.
    pub(crate) const METADATA: &str = "conduit.loss";

    /// All of them.
    pub fn published(&self) -> u64 {
        // A file can say anything.
        [self.recorded, self.lost, self.paused, self.expired].into_iter().fold(0, u64::saturating_add)
    }

    /// What a file's metadata says of each topic. What is no such text is left out.
    pub(crate) fn of_entries(entries: &BTreeMap<String, String>) -> impl Iterator<Item = (String, Counts)> {
        entries.iter().filter_map(|(topic, text)| Some((topic.clone(), text.parse().ok()?)))
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.recorded += other.recorded;
        self.lost += other.lost;
        self.paused += other.paused;
        self.expired += other.expired;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { recorded, lost, paused, expired } = self;
        let published = self.published();
        write!(f, "published={published} recorded={recorded} lost={lost} paused={paused} expired={expired}")
    }
}

/// A text that is no [`Counts`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no counts such as `published=1000 recorded=998 lost=2 paused=0 expired=0`")]
pub struct NoCounts;

impl FromStr for Counts {
    type Err = NoCounts;

    /// Words that are not known are left out, as a later version may say more.
    fn from_str(text: &str) -> Result<Self, NoCounts> {
        let number = |name: &str| {
            let mut words = text.split(' ').filter_map(|word| word.split_once('='));
            words.find(|(found, _)| *found == name)?.1.parse().ok()
        };
        let counts = || {
            Some(Counts {
                recorded: number("recorded")?,
                lost: number("lost")?,
                paused: number("paused")?,
                expired: number("expired")?,
            })
        };
        counts().ok_or(NoCounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_they_were_written() {
        let counts = Counts { recorded: 998, lost: 2, paused: 3, expired: 4 };
        assert_eq!(counts.to_string(), "published=1007 recorded=998 lost=2 paused=3 expired=4");
        assert_eq!(counts.to_string().parse(), Ok(counts));
        for text in ["", "recorded=1", "recorded=x lost=0 paused=0 expired=0", "recorded=1lost=0 paused=0 expired=0"] {
            assert_eq!(text.parse::<Counts>(), Err(NoCounts), "{text}");
        }
        let most = "recorded=18446744073709551615 lost=1 paused=0 expired=0".parse::<Counts>().unwrap();
        assert_eq!(most.published(), u64::MAX);
    }
}
