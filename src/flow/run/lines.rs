//! From bytes to lines.

/// The longest line in bytes; what is longer is cut into several.
pub(super) const LONGEST: usize = 8192;

/// Cuts what one pipe brings into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// A line whose end has not come yet; shorter than [`LONGEST`].
    part: Vec<u8>,
}

impl Lines {
    /// More bytes came.
    pub fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(&str)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.add(&rest[..end], each);
            self.give(each);
            rest = &rest[end + 1..];
        }
        self.add(rest, each);
    }

    /// No more will come: what is there is the last line.
    pub fn end(&mut self, each: &mut dyn FnMut(&str)) {
        if !self.part.is_empty() {
            self.give(each);
        }
    }

    fn add(&mut self, bytes: &[u8], each: &mut dyn FnMut(&str)) {
        let mut rest = bytes;
        while self.part.len() + rest.len() > LONGEST {
            let (now, later) = rest.split_at(LONGEST - self.part.len());
            self.part.extend_from_slice(now);
            let kept = self.part.split_off(boundary(&self.part));
            self.give(each);
            self.part = kept;
            rest = later;
        }
        self.part.extend_from_slice(rest);
    }

    fn give(&mut self, each: &mut dyn FnMut(&str)) {
        let line = self.part.strip_suffix(b"\r").unwrap_or(&self.part);
        each(&String::from_utf8_lossy(line));
        self.part.clear();
    }
}

/// Where to cut so that no character is, as far as there are characters.
fn boundary(bytes: &[u8]) -> usize {
    let tail = bytes.iter().rev().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    let at = bytes.len().saturating_sub(tail + 1);
    let needed = match bytes.get(at) {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => 1,
    };
    if needed > tail + 1 && at > 0 { at } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for part in parts {
            lines.push(part, &mut |line| all.push(line.to_owned()));
        }
        lines.end(&mut |line| all.push(line.to_owned()));
        all
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let text = "one\n\ntwo\r\nthr\u{e9}e\nlast".as_bytes();
        let expected = ["one", "", "two", "thr\u{e9}e", "last"];
        assert_eq!(lines(&[text]), expected);
        assert_eq!(lines(&text.chunks(1).collect::<Vec<_>>()), expected);
        for at in 0..text.len() {
            assert_eq!(lines(&[&text[..at], &text[at..]]), expected);
        }
        assert_eq!(lines(&[b"a\n"]), ["a"], "no empty line at the end");
        assert_eq!(lines(&[b""]), [""; 0]);
    }

    #[test]
    fn what_is_no_utf8_is_told_nevertheless() {
        assert_eq!(lines(&[b"a\xffb\n\xc3\n"]), ["a\u{fffd}b", "\u{fffd}"]);
    }

    #[test]
    fn a_line_without_end_takes_no_more_room_than_the_longest() {
        let long = vec![b'x'; 3 * LONGEST + 5];
        for size in [1, 1000, LONGEST, long.len()] {
            let lengths: Vec<_> = lines(&long.chunks(size).collect::<Vec<_>>()).iter().map(String::len).collect();
            assert_eq!(lengths, [LONGEST, LONGEST, LONGEST, 5]);
        }
        let all = lines(&["\u{20ac}".repeat(LONGEST).as_bytes()]);
        assert!(all.iter().all(|line| line.len() <= LONGEST && !line.contains('\u{fffd}')), "no character is cut");
        assert_eq!(all.concat().len(), 3 * LONGEST);
        let bytes = vec![0x80; 2 * LONGEST];
        assert_eq!(lines(&[&bytes]).iter().map(|line| line.chars().count()).sum::<usize>(), 2 * LONGEST);
    }
}
