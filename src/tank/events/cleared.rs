//! Which letters of a file were cleared: a file beside it, to which lines such as `0-17` are added.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where it is said which letters of a file were cleared.
pub(super) fn path_of(file: &Path) -> PathBuf {
    file.with_extension("cleared")
}

/// Letters by their place in their file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Places {
    /// Last places by first ones; none touches another.
    ranges: BTreeMap<u32, u32>,
}

impl Places {
    /// What is said beside a file.
    pub fn read(file: &Path) -> io::Result<Self> {
        match std::fs::read(path_of(file)) {
            Ok(bytes) => Ok(Places::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Places::default()),
            Err(error) => Err(error),
        }
    }

    /// A line without its end was not written whole, and one that cannot be read says nothing.
    fn parse(bytes: &[u8]) -> Self {
        let mut places = Places::default();
        for line in bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n")) {
            let range = || {
                let (first, last) = std::str::from_utf8(line).ok()?.split_once('-')?;
                Some((first.parse::<u32>().ok()?, last.parse::<u32>().ok()?))
            };
            if let Some((first, last)) = range().filter(|(first, last)| first <= last) {
                places.add_range(first, last);
            }
        }
        places
    }

    pub fn has(&self, place: u32) -> bool {
        self.ranges.range(..=place).next_back().is_some_and(|(_, last)| *last >= place)
    }

    pub fn add(&mut self, place: u32) {
        self.add_range(place, place);
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn add_range(&mut self, mut first: u32, mut last: u32) {
        // Those that overlap or touch become one.
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            (first, last) = (first.min(start), last.max(end));
            self.ranges.remove(&start);
        }
        self.ranges.insert(first, last);
    }

    /// Adds these to what is said beside a file, and waits until the disk has it.
    pub fn append(&self, file: &Path) -> io::Result<()> {
        // What somebody could not write to the end becomes a line of its own, which says less than it should, but nothing wrong.
        let mut lines = String::from("\n");
        lines.extend(self.ranges.iter().map(|(first, last)| format!("{first}-{last}\n")));
        let mut beside = OpenOptions::new().append(true).create(true).open(path_of(file))?;
        beside.write_all(lines.as_bytes())?;
        beside.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_those_that_were_added(ranges in prop::collection::vec((0..60u32, 0..6u32), 0..20)) {
            let mut lines = String::new();
            let mut model = BTreeSet::new();
            for (first, more) in ranges {
                lines.push_str(&format!("{first}-{}\n", first + more));
                model.extend(first..=first + more);
            }
            let places = Places::parse(lines.as_bytes());
            for place in 0..70 {
                prop_assert_eq!(places.has(place), model.contains(&place), "{} of {:?}", place, &places);
            }
        }
    }

    #[test]
    fn what_is_not_whole_says_nothing() {
        let places = Places::parse(b"3-4\nx\n9-8\n5\n-\n\xff-1\n4294967295-4294967295\n10-12");
        let there: Vec<u32> = (0..20).chain([u32::MAX]).filter(|place| places.has(*place)).collect();
        assert_eq!(there, [3, 4, u32::MAX]);
    }
}
