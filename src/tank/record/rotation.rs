//! When a recording goes on in another file, and what its files are called; pure.

use std::path::{Path, PathBuf};

/// When to begin another file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rotation {
    /// Largest file in bytes.
    pub size: Option<u64>,
    /// Longest span in nanoseconds.
    pub time: Option<u64>,
}

/// What is known of a file before a chunk is added to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    pub bytes: u64,
    /// The time of its first message.
    pub first: u64,
}

impl Rotation {
    /// Whether a chunk of so many bytes, whose last message has this time, goes into another file. `file` is `None` as long
    /// as the file has no messages: a chunk that is too large for any file has one of its own.
    pub fn is_due(&self, file: Option<Filled>, chunk_bytes: u64, last: u64) -> bool {
        let Some(file) = file else { return false };
        self.size.is_some_and(|size| file.bytes.saturating_add(chunk_bytes) > size)
            || self.time.is_some_and(|time| last.saturating_sub(file.first) > time)
    }
}

/// The name of a recording's file.
pub(super) fn part_path(path: &Path, part: u32) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = format!("{stem}_{part:04}");
    if let Some(extension) = path.extension() {
        name.push('.');
        name.push_str(&extension.to_string_lossy());
    }
    path.with_file_name(name)
}

/// Whether a file name is one that [`part_path`] gives for some part of `path`.
pub(super) fn is_part(path: &Path, name: &str) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let number = || {
        let rest = name.strip_prefix(&*stem)?.strip_prefix('_')?;
        match path.extension() {
            Some(extension) => rest.strip_suffix(&*extension.to_string_lossy())?.strip_suffix('.'),
            None => Some(rest),
        }
    };
    number().is_some_and(|number| number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_before_it_gets_larger_or_longer_than_asked_for() {
        let rotation = Rotation { size: Some(1000), time: Some(50) };
        let file = |bytes, first| Some(Filled { bytes, first });
        assert!(!rotation.is_due(None, 5000, 500), "the first chunk is never refused");
        assert!(!rotation.is_due(file(600, 100), 400, 150));
        assert!(rotation.is_due(file(601, 100), 400, 150), "too large");
        assert!(rotation.is_due(file(600, 100), 400, 151), "too long");
        assert!(!rotation.is_due(file(600, 100), 400, 20), "a clock that was set back");
        assert!(!Rotation::default().is_due(file(u64::MAX, 0), u64::MAX, u64::MAX));
    }

    #[test]
    fn parts_are_numbered_before_the_extension() {
        for (path, part, name) in [
            ("run.mcap", 0, "run_0000.mcap"),
            ("dir.d/run", 12, "dir.d/run_0012"),
            ("a.b.mcap", 10_000, "a.b_10000.mcap"),
        ] {
            assert_eq!(part_path(Path::new(path), part), Path::new(name));
            assert!(is_part(Path::new(path), Path::new(name).file_name().unwrap().to_str().unwrap()));
        }
    }

    #[test]
    fn files_of_other_names_are_no_parts() {
        for name in [
            "run.mcap",
            "run_1.mcap",
            "run_0001",
            "run_0001.mcap.bak",
            "run_00x1.mcap",
            "rerun_0001.mcap",
            "run-0001.mcap",
        ] {
            assert!(!is_part(Path::new("dir/run.mcap"), name), "{name}");
        }
    }
}
