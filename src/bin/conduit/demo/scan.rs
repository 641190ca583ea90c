//! The message of a demo: large enough to be read in place, and able to tell where it was written and whether it is whole.

conduit::message! {
    /// One turn of a laser scanner.
    #[derive(PartialEq)]
    pub struct Scan: "conduit_demo/msg/Scan" {
        /// The topic's file, by the number of its inode.
        pub inode: u64,
        /// Where in that file the publisher wrote this message.
        pub offset: u64,
        /// Of everything else.
        pub checksum: u64,
        /// 1 in the last message of a demo.
        pub last: u32,
        pub turn: u32,
        /// Metres.
        pub ranges: [f32; 1016],
    }
}

impl Scan {
    /// Writes turn number `turn` over this message.
    pub fn fill(&mut self, turn: u64, inode: u64, offset: u64, last: bool) {
        (self.inode, self.offset, self.last, self.turn) = (inode, offset, last.into(), turn as u32);
        for (step, range) in self.ranges.iter_mut().enumerate() {
            *range = 2.0 + (turn as usize * 7 + step) as f32 % 1000.0 * 0.005;
        }
        self.checksum = self.sum();
    }

    pub fn is_whole(&self) -> bool {
        self.checksum == self.sum()
    }

    fn sum(&self) -> u64 {
        let head = [self.inode, self.offset, u64::from(self.last), u64::from(self.turn)];
        let ranges = self.ranges.iter().map(|range| u64::from(range.to_bits()));
        head.into_iter()
            .chain(ranges)
            .fold(0xcbf2_9ce4_8422_2325, |sum, word| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_that_was_changed_is_not_whole() {
        let mut scan = Scan::default();
        scan.fill(3, 77, 4096, false);
        assert!(scan.is_whole());
        for change in [|s: &mut Scan| s.ranges[1015] += 1.0, |s: &mut Scan| s.last = 1, |s: &mut Scan| s.offset += 8] {
            let mut changed = scan;
            change(&mut changed);
            assert!(!changed.is_whole());
        }
    }
}
