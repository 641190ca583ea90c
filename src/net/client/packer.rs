//! Whole frames in datagrams, and datagrams in as few system calls as possible.

use super::outbox::Refused;
use crate::frame::EncodeError;

/// The longest datagram that IPv4 carries.
pub(super) const LONGEST: usize = 65_507;
/// Most datagrams of one send with segmentation, as of Linux 4.18.
const MOST_SEGMENTS: usize = 64;

/// Fills datagrams one after another.
#[derive(Debug)]
pub(super) struct Packer {
    /// Datagrams, end to end.
    bytes: Vec<u8>,
    /// Where each ends, but for the last, which may be filled further.
    ends: Vec<usize>,
    /// What each begins with.
    opening: Vec<u8>,
    /// How long one may become that has more than a single frame.
    max: usize,
}

impl Packer {
    pub(super) fn new(opening: Vec<u8>, max: usize) -> Self {
        Packer { bytes: Vec::new(), ends: Vec::new(), opening, max }
    }

    /// Adds a frame of `len` bytes.
    pub(super) fn add(
        &mut self,
        len: usize,
        encode: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), Refused> {
        let most = LONGEST.saturating_sub(self.opening.len());
        if len > most {
            return Err(Refused::TooLarge { len, max: most });
        }
        let before = self.bytes.len();
        let begun = before - self.begin();
        let begins = begun == 0 || begun + len > self.max;
        if begins {
            self.bytes.extend_from_slice(&self.opening);
        }
        let at = self.bytes.len();
        self.bytes.resize(at + len, 0);
        if let Err(error) = encode(&mut self.bytes[at..]) {
            self.bytes.truncate(before);
            return Err(error.into());
        }
        if begins && begun > 0 {
            self.ends.push(before);
        }
        Ok(())
    }

    /// Where the last datagram begins.
    fn begin(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What there is, each in one send if the system cuts it into datagrams (`segmented`), or one datagram each.
    pub(super) fn sends(&self, segmented: bool) -> Vec<Send> {
        let last = (self.begin() < self.bytes.len()).then_some(self.bytes.len());
        let (mut sends, mut start): (Vec<Send>, _) = (Vec::new(), 0);
        for end in self.ends.iter().copied().chain(last) {
            let len = end - start;
            match sends.last_mut() {
                // All but the last one are of the same length, and none is longer than the device takes as it is.
                Some(send) if segmented && send.size <= self.max && send.takes(len) => {
                    send.end = end;
                    send.datagrams += 1;
                }
                _ => sends.push(Send { start, end, size: len, datagrams: 1 }),
            }
            start = end;
        }
        sends
    }

    /// Lets go of what was sent: all before `start`, where a datagram begins.
    pub(super) fn sent(&mut self, start: usize) {
        self.bytes.drain(..start);
        self.ends.retain_mut(|end| {
            let stays = *end > start;
            *end = end.saturating_sub(start);
            stays
        });
    }
}

/// One or more datagrams that are sent at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Send {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Bytes of each datagram; the last one may have fewer.
    pub(super) size: usize,
    pub(super) datagrams: usize,
}

impl Send {
    fn takes(&self, len: usize) -> bool {
        let even = self.end - self.start == self.size * self.datagrams;
        even && len <= self.size && self.datagrams < MOST_SEGMENTS && self.end - self.start + len <= LONGEST
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn add(packer: &mut Packer, len: usize, byte: u8) -> Result<(), Refused> {
        packer.add(len, |buffer| {
            buffer.fill(byte);
            Ok(len)
        })
    }

    #[test]
    fn a_failed_frame_leaves_nothing_behind() {
        let mut packer = Packer::new(b"hi".to_vec(), 100);
        add(&mut packer, 90, 1).unwrap();
        let failed = packer.add(20, |_| Err(EncodeError::TopicLength(0)));
        assert_eq!(failed, Err(Refused::Frame(EncodeError::TopicLength(0))));
        assert_eq!(add(&mut packer, LONGEST - 1, 1), Err(Refused::TooLarge { len: LONGEST - 1, max: LONGEST - 2 }));
        assert_eq!(packer.sends(true), [Send { start: 0, end: 92, size: 92, datagrams: 1 }]);
    }

    #[test]
    fn datagrams_of_one_length_are_one_send() {
        let mut packer = Packer::new(Vec::new(), 100);
        for len in [50, 50, 100, 60, 30, 80] {
            add(&mut packer, len, 7).unwrap();
        }
        let send = |start, end, size, datagrams| Send { start, end, size, datagrams };
        assert_eq!(packer.sends(true), [send(0, 290, 100, 3), send(290, 370, 80, 1)]);
        assert_eq!(packer.sends(false).len(), 4);
        packer.sent(200);
        assert_eq!(packer.sends(true), [send(0, 170, 90, 2)]);
    }

    proptest! {
        /// Cut as the system cuts them, the sends are the datagrams: each of whole frames behind an opening, none too long.
        #[test]
        fn what_is_sent_is_what_was_added(lens in proptest::collection::vec(1..400usize, 0..300), max in 1..1500usize) {
            let mut packer = Packer::new(b"HI".to_vec(), max);
            for (at, len) in lens.iter().enumerate() {
                add(&mut packer, *len, at as u8 | 128).unwrap();
            }
            let mut all: Vec<u8> = Vec::new();
            for send in packer.sends(true) {
                prop_assert!(send.datagrams <= MOST_SEGMENTS && send.end - send.start <= LONGEST);
                let datagrams: Vec<_> = packer.bytes()[send.start..send.end].chunks(send.size).collect();
                prop_assert_eq!(datagrams.len(), send.datagrams);
                for datagram in datagrams {
                    let frames = datagram.strip_prefix(b"HI").expect("an opening");
                    let several = frames.iter().any(|byte| *byte != frames[0]);
                    prop_assert!(!frames.is_empty() && (!several || datagram.len() <= max));
                    all.extend(frames);
                }
            }
            let expected: Vec<u8> =
                lens.iter().enumerate().flat_map(|(at, len)| std::iter::repeat_n(at as u8 | 128, *len)).collect();
            prop_assert_eq!(all, expected);
            let len = packer.len();
            packer.sent(len);
            prop_assert!(packer.sends(true).is_empty());
        }
    }
}
