//! Insert if absent: keys of 8 bytes into a set that holds 32,768.

use super::super::{Context, Limit::*, Outcome, Row, Unit::*};
use super::leak;
use super::timing::{BLOCK, burst, cost, two_threads};
use dashmap::DashSet;
use foldhash::fast::FixedState;
use scc::HashIndex;
use std::cell::Cell;
use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Mutex;

/// Keys in the set.
const LIVE: u64 = 1 << 15;

const PEERS: &[&str] = &["Mutex<HashSet>", "dashmap", "scc HashIndex", "papaya"];

pub fn rows() -> Vec<Row> {
    vec![
        Row::new(
            "dedup, 32,768 keys",
            "insert if absent: any of the keys, or one that follows the last; what came in goes out between two bursts",
        )
        .column("duplicate", "duplicate", Time)
        .column("new", "new key", Time)
        .column("two", "duplicate, 2 threads, each", Time)
        .cell("conduit", conduit)
        .cell("Mutex<HashSet>", measure::<Mutex<HashSet<u64, FixedState>>>)
        .cell("dashmap", measure::<DashSet<u64, FixedState>>)
        .cell("scc HashIndex", measure::<HashIndex<u64, (), FixedState>>)
        .cell("papaya", measure::<papaya::HashSet<u64, FixedState>>)
        .target("conduit", "duplicate", PEERS, AtMost(1.0))
        .target("conduit", "new", PEERS, AtMost(0.3))
        .target("conduit", "two", PEERS, AtMost(0.9)),
    ]
}

/// A set of keys, all of whose kinds hash alike.
trait Keys: Sync {
    fn new() -> Self;
    /// Puts a key in; returns whether it was new.
    fn insert(&self, key: u64) -> bool;
    fn remove(&self, key: u64);
}

/// The `number`th key (splitmix64's, which visits each number once).
#[inline(always)]
fn key(number: u64) -> u64 {
    let mut key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key = (key ^ key >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ key >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ key >> 31
}

/// One of the first keys, in an order without any.
#[inline(always)]
fn any(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    key(*state >> 32 & (LIVE - 1))
}

fn measure<K: Keys>(context: &Context) -> Outcome {
    let keys = K::new();
    (0..LIVE).for_each(|number| assert!(keys.insert(key(number)), "keys differ"));
    let duplicate = |mut state: u64| {
        let keys = &keys;
        move |_| assert!(!black_box(keys.insert(any(&mut state))), "a duplicate")
    };
    let one = cost(context, duplicate(1))?[0].1;
    let two = two_threads(context, |index| duplicate(index as u64))?;
    // As many as came in during a burst go out behind it.
    let oldest = Cell::new(0);
    let new = burst(
        context,
        |number| assert!(black_box(keys.insert(key(LIVE + number))), "a new key"),
        || {
            for number in oldest.get()..oldest.get() + BLOCK {
                keys.remove(key(number));
            }
            oldest.set(oldest.get() + BLOCK);
        },
    )?;
    Ok(vec![("duplicate", one), ("new", new[0].1), ("two", two)])
}

/// Half of the keys in the generation before, half in the present one: 512 KiB, half full. New keys drive the old ones out by
/// age.
fn conduit(context: &Context) -> Outcome {
    use conduit::dedup::{Insertion, KeySet};
    let full = || {
        let (keys, mut ager) = leak(KeySet::<8192>::new(1)).split().expect("the first split");
        for number in 0..LIVE {
            if number == LIVE / 2 {
                ager.advance();
            }
            assert_eq!(keys.insert(key(number)), Insertion::New, "keys differ");
        }
        (keys, ager)
    };
    let (keys, mut ager) = full();
    let duplicate = |mut state: u64| move |_| assert_eq!(black_box(keys.insert(any(&mut state))), Insertion::Duplicate);
    let one = cost(context, duplicate(1))?[0].1;
    let two = two_threads(context, |index| duplicate(index as u64))?;
    ager.advance();
    let inserted = Cell::new(0);
    let new = burst(
        context,
        |number| assert_eq!(black_box(keys.insert(key(LIVE + number))), Insertion::New),
        || {
            inserted.set(inserted.get() + BLOCK);
            if inserted.get().is_multiple_of(LIVE / 2) {
                ager.advance();
            }
        },
    )?;
    Ok(vec![("duplicate", one), ("new", new[0].1), ("two", two)])
}

impl Keys for Mutex<HashSet<u64, FixedState>> {
    fn new() -> Self {
        Mutex::new(HashSet::with_capacity_and_hasher(2 * LIVE as usize, FixedState::default()))
    }
    #[inline(always)]
    fn insert(&self, key: u64) -> bool {
        self.lock().expect("no panic").insert(key)
    }
    fn remove(&self, key: u64) {
        self.lock().expect("no panic").remove(&key);
    }
}

/// Looks before it inserts: cheaper where most are duplicates.
impl Keys for DashSet<u64, FixedState> {
    fn new() -> Self {
        DashSet::with_capacity_and_hasher(2 * LIVE as usize, FixedState::default())
    }
    #[inline(always)]
    fn insert(&self, key: u64) -> bool {
        !self.contains(&key) && DashSet::insert(self, key)
    }
    fn remove(&self, key: u64) {
        DashSet::remove(self, &key);
    }
}

/// Looks before it inserts: looking takes no lock.
impl Keys for HashIndex<u64, (), FixedState> {
    fn new() -> Self {
        HashIndex::with_capacity_and_hasher(2 * LIVE as usize, FixedState::default())
    }
    #[inline(always)]
    fn insert(&self, key: u64) -> bool {
        !self.contains(&key) && self.insert_sync(key, ()).is_ok()
    }
    fn remove(&self, key: u64) {
        self.remove_sync(&key);
    }
}

/// Looks before it inserts: an insertion allocates first.
impl Keys for papaya::HashSet<u64, FixedState> {
    fn new() -> Self {
        papaya::HashSet::with_capacity_and_hasher(2 * LIVE as usize, FixedState::default())
    }
    #[inline(always)]
    fn insert(&self, key: u64) -> bool {
        let keys = self.pin();
        !keys.contains(&key) && keys.insert(key)
    }
    fn remove(&self, key: u64) {
        self.pin().remove(&key);
    }
}
