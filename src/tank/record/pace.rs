//! How long a topic may be left alone while its messages flow; pure.
//!
//! Whoever sleeps until the next message comes has its publisher make a system call for it. A recorder is in no hurry: while
//! messages flow it lets some gather, and takes them together. It must be back before the topic has no room left.

/// Longest nap in nanoseconds. A message waits no longer than this for its chunk.
pub(super) const LONGEST: u64 = 4_000_000;

/// What is known of how fast a topic's messages come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How many messages may gather.
    room: u64,
    /// The shortest time between messages that was seen of late, in nanoseconds.
    interval: u64,
    /// When the topic was looked at last.
    looked: u64,
}

impl Pace {
    /// Of a topic that holds `depth` messages: a quarter of them may gather, and the rest is for what comes faster than
    /// before.
    pub fn new(depth: u32, now: u64) -> Self {
        Pace { room: u64::from(depth / 4).max(1), interval: LONGEST, looked: now }
    }

    /// So many messages came since the last look.
    pub fn came(&mut self, messages: u64, now: u64) {
        let time = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        // Forgets a burst within some hundred looks.
        let forgetting = (self.interval + self.interval / 64 + 1).min(LONGEST);
        self.interval = match messages {
            0 | 1 => forgetting,
            _ => (time / messages).min(forgetting),
        };
    }

    /// Until when there is room, if its messages come as fast as they have.
    pub fn until(&self) -> u64 {
        self.looked.saturating_add(self.room.saturating_mul(self.interval).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_naps_is_back_before_a_topic_is_full() {
        let mut pace = Pace::new(64, 0);
        let mut now = 0;
        for _ in 0..1000 {
            now += 1_000_000;
            pace.came(100, now);
        }
        let nap = pace.until() - now;
        assert!(nap * 100 / 1_000_000 <= 16, "{nap} ns are too long for 64 messages at 10 us");
        assert!(nap >= 100_000, "{nap} ns are no nap");
    }

    #[test]
    fn a_burst_is_remembered_for_a_while_and_then_forgotten() {
        let mut pace = Pace::new(64, 0);
        pace.came(1000, 1_000_000);
        let after_burst = pace.until() - 1_000_000;
        assert!(after_burst <= 16_000);
        let mut now = 1_000_000;
        for _ in 0..10 {
            now += 4_000_000;
            pace.came(1, now);
        }
        assert!(pace.until() - now < 2 * after_burst, "ten looks later it may come again");
        for _ in 0..1000 {
            now += 4_000_000;
            pace.came(1, now);
        }
        assert_eq!(pace.until() - now, LONGEST);
    }

    #[test]
    fn the_smallest_topic_gets_a_nap_of_one_message() {
        let mut pace = Pace::new(1, 0);
        pace.came(2, 2000);
        assert_eq!(pace.until(), 3000);
    }
}
