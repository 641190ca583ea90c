//! Against sets, and a list of what was last used.

extern crate std;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::core::rounds::rounds;

/// Sequences that lie close together, or far apart, or at the ends.
fn sequence() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..5u64,
        4000..5200u64,
        (4000..5200u64).prop_map(|sequence| sequence * 64),
        Just(u64::MAX),
        (0..1100u64).prop_map(|below| u64::MAX - below)
    ]
}

/// What is known of a producer whose recorded sequences are these.
fn look(recorded: &BTreeSet<u64>, sequence: u64) -> Seen {
    let newest = recorded.last().copied().unwrap_or(0);
    if sequence != 0 && sequence < newest && newest - sequence >= 1024 {
        Seen::TooOld
    } else if recorded.contains(&sequence) {
        Seen::Duplicate
    } else {
        Seen::New
    }
}

proptest! {
    #![proptest_config(rounds(2000))]

    #[test]
    fn a_window_knows_what_was_recorded_and_what_it_cannot_know(
        mut sequences in proptest::collection::vec(sequence(), 1..60),
        ascending in 0..60usize,
    ) {
        // At first forwards, as producers count.
        let ascending = ascending.min(sequences.len());
        sequences[..ascending].sort_unstable();
        let (mut window, mut recorded) = (Window::new(), BTreeSet::new());
        for &sequence in &sequences {
            let expected = look(&recorded, sequence);
            prop_assert_eq!(window.look(sequence), expected, "{}", sequence);
            window.record(sequence);
            if expected == Seen::New && sequence != 0 {
                recorded.insert(sequence);
            }
            prop_assert_eq!(window.newest(), recorded.last().copied().unwrap_or(0));
        }
        let newest = window.newest();
        for sequence in newest.saturating_sub(1100)..newest {
            prop_assert_eq!(window.look(sequence), look(&recorded, sequence), "{}", sequence);
        }
    }

    #[test]
    fn the_producer_that_was_used_last_is_the_last_to_be_forgotten(
        ops in proptest::collection::vec((0..7u8, 1..4u64, any::<bool>()), 0..80),
        seed in any::<u64>(),
    ) {
        let mut producers = Producers::<4>::new(seed);
        // The least recently used first.
        let mut model: VecDeque<(u8, BTreeSet<u64>)> = VecDeque::new();
        let mut evicted = 0;
        for (producer, sequence, records) in ops {
            let id = [producer; 16];
            let known = model.iter().position(|(known, _)| *known == producer).map(|at| model.remove(at).unwrap());
            let expected = known.as_ref().map_or(Seen::New, |(_, recorded)| look(recorded, sequence));
            prop_assert_eq!(producers.look(&id, sequence), expected);
            if records {
                producers.record(&id, sequence);
                let mut known = known.unwrap_or((producer, BTreeSet::new()));
                known.1.insert(sequence);
                if model.len() == 4 {
                    model.pop_front();
                    evicted += 1;
                }
                model.push_back(known);
            } else {
                model.extend(known);
            }
            prop_assert_eq!((producers.len(), producers.evicted()), (model.len(), evicted));
            for (producer, recorded) in &model {
                prop_assert_eq!(producers.newest(&[*producer; 16]), *recorded.last().unwrap());
            }
        }
    }
}

#[test]
fn different_ids_have_different_hashes_and_no_bit_counts_for_nothing() {
    let all: BTreeSet<u64> = (0..1000u32).map(|id| hash(1, &id.to_le_bytes())).collect();
    assert_eq!(all.len(), 1000);
    for len in 0..40 {
        let bytes: Vec<u8> = (0..len).collect();
        let plain = hash(1, &bytes);
        assert_ne!(plain, hash(2, &bytes));
        assert_ne!(plain, hash(1, &[&bytes[..], &[0]].concat()), "a zero more at the end");
        for bit in 0..usize::from(len) * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(plain, hash(1, &other), "bit {bit} of {len} bytes");
        }
    }
}

#[cfg(target_has_atomic = "64")]
mod keys {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::scope;

    use super::super::keys::Step;
    use super::*;

    /// What was inserted in each generation, the newest last, and whether it is there still.
    struct Model(Vec<BTreeMap<u64, bool>>);

    impl Model {
        fn live(&mut self, key: u64) -> Option<&mut bool> {
            self.0.iter_mut().rev().take(2).filter_map(|generation| generation.get_mut(&key)).find(|live| **live)
        }

        fn count(&self) -> usize {
            self.0.iter().rev().take(2).flat_map(BTreeMap::values).filter(|live| **live).count()
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Insert(u64),
        Remove(u64),
        Advance,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![8 => (0..24u64).prop_map(Op::Insert), 4 => (0..24u64).prop_map(Op::Remove), 2 => Just(Op::Advance)]
    }

    fn behaves_like_sets<const LINES: usize>(seed: u64, ops: &[Op]) {
        let set = KeySet::<LINES>::new(seed);
        let (keys, mut ager) = set.split().unwrap();
        assert!(set.split().is_none());
        let mut model = Model(std::vec![BTreeMap::new()]);
        let mut refused = 0;
        for op in ops {
            match *op {
                Op::Advance => {
                    ager.advance();
                    model.0.push(BTreeMap::new());
                }
                Op::Remove(key) => {
                    let live = model.live(key);
                    assert_eq!(keys.remove(key), live.is_some(), "{key}");
                    live.into_iter().for_each(|live| *live = false);
                    assert!(!keys.contains(key), "{key}");
                }
                Op::Insert(key) => {
                    let known = model.live(key).is_some();
                    assert_eq!(keys.contains(key), known, "{key}");
                    let present = model.0.last_mut().unwrap();
                    // What was taken back has kept its word.
                    let room = present.len() < LINES * 4 || present.contains_key(&key);
                    let expected = match known {
                        true => Insertion::Duplicate,
                        false if room => Insertion::New,
                        false => Insertion::Full,
                    };
                    assert_eq!(keys.insert(key), expected, "{key}");
                    if expected == Insertion::New {
                        present.insert(key, true);
                    }
                    refused += u64::from(expected == Insertion::Full);
                }
            }
            assert_eq!(keys.refused(), refused);
            assert_eq!(keys.count(), model.count());
        }
    }

    proptest! {
        #![proptest_config(rounds(1000))]

        /// Small enough that chains go round and lines fill up; long enough that tags come round.
        #[test]
        fn it_behaves_like_the_sets_of_two_generations(
            seed in any::<u64>(),
            ops in proptest::collection::vec(op(), 0..400),
            ages in 0..200usize,
        ) {
            let ops = [&std::vec![Op::Advance; ages][..], &ops].concat();
            behaves_like_sets::<1>(seed, &ops);
            behaves_like_sets::<2>(seed, &ops);
            behaves_like_sets::<8>(seed, &ops);
        }
    }

    #[test]
    fn a_key_is_forgotten_for_good_however_long_its_word_stays() {
        let set = KeySet::<64>::new(1);
        let (keys, mut ager) = set.split().unwrap();
        for round in 0..400 {
            assert_eq!(keys.insert(7), Insertion::New, "{round}");
            for age in 0..round % 131 + 2 {
                assert_eq!(keys.contains(7), age < 2, "{round} {age}");
                ager.advance();
            }
        }
    }

    /// However often it is refused and sent again, it takes one word of a generation.
    #[test]
    fn a_key_that_is_taken_back_again_and_again_takes_no_room() {
        let set = KeySet::<1>::new(3);
        let (keys, mut ager) = set.split().unwrap();
        for generation in 0..3 {
            for _ in 0..100 {
                for key in 0..4 {
                    assert_eq!(keys.insert(key), Insertion::New, "{key} in {generation}");
                    assert!(keys.remove(key) && !keys.remove(key));
                }
            }
            assert_eq!((keys.insert(9), keys.count()), (Insertion::Full, 0), "each has its word still");
            ager.advance();
        }
    }

    /// Somebody is late by a generation, in which the key was taken back and is new again.
    #[test]
    fn a_key_that_was_taken_back_is_not_put_back_into_a_generation_that_is_over() {
        let set = KeySet::<1>::new(5);
        let (keys, mut ager) = set.split().unwrap();
        let (key, home) = keys.find(7);
        let late = set.epoch();
        assert_eq!(keys.insert(7), Insertion::New);
        assert!(keys.remove(7));
        ager.advance();
        assert_eq!(keys.insert(7), Insertion::New);
        assert!(matches!(set.find_or_insert(key, home, late), Step::Over));
        assert!(keys.remove(7));
        assert!(matches!(set.find_or_insert(key, home, late), Step::Over));
        assert_eq!((keys.contains(7), keys.insert(7)), (false, Insertion::New));
    }

    /// Its low bits are those of no key; they must not make of it the end of a chain.
    #[test]
    fn any_key_can_be_taken_back_and_those_behind_it_are_found() {
        for key in [0, 1 << 56, 1, u64::MAX] {
            let set = KeySet::<1>::new(5);
            let (keys, mut ager) = set.split().unwrap();
            let epoch = set.epoch();
            assert!(matches!(set.find_or_insert(key, 0, epoch), Step::Done));
            assert!(matches!(set.find_or_insert(5, 0, epoch), Step::Done));
            assert!(set.take_back(key << 8 | epoch.now(), 0, epoch.half()));
            assert!(matches!(set.find_or_insert(5, 0, epoch), Step::Found));
            ager.advance();
            let epoch = set.epoch();
            assert!(matches!(set.find_or_close(5, 0, epoch), Step::Found));
            assert!(matches!(set.find_or_close(key, 0, epoch), Step::Done));
            assert!(matches!(set.find_or_close(5, 0, epoch), Step::Found));
            assert_eq!(keys.count(), 1);
        }
    }

    #[test]
    fn at_half_of_its_words_nothing_is_refused() {
        let set = std::boxed::Box::new(const { KeySet::<1024>::new(9) });
        let (keys, mut ager) = set.split().unwrap();
        for generation in 0..8u64 {
            for key in 0..2048 {
                assert_eq!(keys.insert(generation << 32 | key), Insertion::New);
            }
            ager.advance();
        }
        assert_eq!((keys.refused(), keys.count()), (0, 2048));
    }

    #[test]
    fn keys_that_differ_in_any_few_bits_only_are_told_apart_and_spread_evenly() {
        for seed in 0..40 {
            for shift in 0..57 {
                let set = std::boxed::Box::new(const { KeySet::<32>::new(0) });
                let set = if seed == 0 { set } else { std::boxed::Box::new(KeySet::new(seed)) };
                let (keys, _ager) = set.split().unwrap();
                for number in 0..64u64 {
                    assert_eq!(keys.insert(number << shift), Insertion::New, "{number} << {shift}, seed {seed}");
                }
                let twice: u64 = if shift > 32 { 1 << 20 } else { 1 << 56 };
                let new =
                    (0..64u64).filter(|number| keys.insert(number << shift | twice) == Insertion::Duplicate).count();
                assert_eq!(new, 0, "{twice:#x} more, {shift}, seed {seed}");
            }
        }
    }

    /// Somebody is late by more than two generations, and the sweep of the third has begun.
    #[test]
    fn a_chain_stays_closed_while_what_was_inserted_behind_it_is_remembered() {
        let set = KeySet::<1>::new(5);
        let (keys, mut ager) = set.split().unwrap();
        let (key, home) = keys.find(7);
        let late = set.epoch();
        ager.advance();
        assert_eq!(keys.insert(7), Insertion::New);
        ager.advance();
        ager.sweep();
        assert!(matches!(set.find_or_insert(key, home, late), Step::Over));
        assert_eq!(keys.insert(7), Insertion::Duplicate);
    }

    /// Of each key one thread is told that it is new, though all insert it at about the same time, as long as the
    /// generation advances at most once meanwhile.
    #[test]
    fn one_thread_is_told_of_each_key_that_it_is_new() {
        const KEYS: u64 = 20_000;
        const EACH: u64 = 200; // between two advances
        let set = std::boxed::Box::new(const { KeySet::<256>::new(3) });
        let (keys, mut ager) = set.split().unwrap();
        let new: Vec<AtomicUsize> = (0..KEYS).map(|_| AtomicUsize::new(0)).collect();
        let barrier = std::sync::Barrier::new(3);
        let barrier = &barrier;
        scope(|threads| {
            for _ in 0..2 {
                let new = &new;
                threads.spawn(move || {
                    for first in (0..KEYS).step_by(EACH as usize) {
                        barrier.wait();
                        for key in first..first + EACH {
                            match keys.insert(key) {
                                Insertion::New => _ = new[key as usize].fetch_add(1, Ordering::Relaxed),
                                Insertion::Duplicate => {}
                                Insertion::Full => panic!("there is room for five times as many"),
                            }
                        }
                        barrier.wait();
                    }
                });
            }
            for _ in (0..KEYS).step_by(EACH as usize) {
                barrier.wait();
                ager.advance();
                barrier.wait();
            }
        });
        for (key, new) in new.into_iter().enumerate() {
            assert_eq!(new.into_inner(), 1, "{key}");
        }
    }
}

#[test]
fn a_window_that_was_taken_out_and_put_back_is_as_if_it_had_stayed() {
    let mut stayed = Producers::<4>::new(7);
    let mut taken = Producers::<4>::new(7);
    for (producer, first) in [([1; 16], 5), ([2; 16], 1), ([1; 16], 3), ([3; 16], 0)] {
        let mut window = taken.window(&producer);
        for sequence in (first..first + 4).filter(|sequence| *sequence != 0) {
            assert_eq!(window.look(sequence), stayed.look(&producer, sequence));
            stayed.record(&producer, sequence);
            window.record(sequence);
        }
        taken.put(&producer, window);
        assert_eq!(taken.newest(&producer), stayed.newest(&producer));
    }
    assert_eq!(taken.len(), stayed.len());
    let nothing = taken.window(&[9; 16]);
    taken.put(&[9; 16], nothing);
    assert_eq!((taken.len(), taken.evicted()), (3, 0), "who has nothing recorded takes no place");
}
