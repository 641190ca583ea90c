//! What events go through: places that are handed on, keys that are new once, and lanes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use conduit::dedup::{Insertion, KeySet};
use conduit::frame::Priority;
use conduit::lanes::{Lane, Lanes, Reason};
use conduit::mpsc;
use conduit::pool::Pool;

use crate::queues::met;
use crate::threads::{Patience, Stream, let_others, rounds, threads};

/// Longer than a word, so that one which nothing orders is torn, too.
type Event = [u64; 8];

pub fn run() {
    pool();
    keys();
    lanes();
}

/// Two producers take places, another thread gives them back, by either way.
fn pool() {
    let pool = Pool::<Event, 1, 6>::new();
    let queue = mpsc::Queue::<_, 8>::new();
    let (producer, mut consumer) = queue.split().expect("split once");
    let mut streams = [Stream::default(), Stream::default()];
    let (mut used_up, mut empty) = ([Patience::default(), Patience::default()], Patience::default());
    let send = |who: u64, used_up: &mut Patience| {
        let mut magazine = pool.magazine();
        let mut n = 0;
        while n < rounds() {
            let event = [n, n, n, n, n, n, n, who];
            let Ok(handle) = magazine.acquire(event) else {
                used_up.saw(false);
                continue;
            };
            used_up.saw(true);
            assert!(producer.push(handle).is_ok(), "pool: more are out than there are places");
            n += 1;
        }
    };
    let [one, other] = &mut used_up;
    threads(&mut [&mut || send(0, one), &mut || send(1, other), &mut || {
        let mut left = 2 * rounds();
        while left > 0 {
            let handle = consumer.pop();
            empty.saw(handle.is_some());
            let Some(handle) = handle else { continue };
            left -= 1;
            let [n @ .., who] = if left.is_multiple_of(2) { *handle } else { handle.into_inner() };
            streams[who as usize].take(n[0], 0, &n);
        }
    }]);
    assert_eq!(pool.free(), pool.capacity(), "pool: all places are back");
    for (stream, used_up) in streams.iter().zip(&used_up) {
        met("pool", stream.received, used_up, &empty);
    }
}

/// Two threads insert each key at the same time, or nearly so, and one of them lets keys age before. Each is new to one of the
/// two, as the generation advances at most once while they are at it; some of them after they were taken back.
fn keys() {
    static SEEN: KeySet<8> = KeySet::new(7);
    let (keys, mut ager) = SEEN.split().expect("split once");
    // How many keys each has inserted. Relaxed on purpose: it orders nothing.
    let done = [const { AtomicU64::new(0) }; 2];
    // How many keys that one had taken back the other had before it came again.
    let taken_over = AtomicU64::new(0);
    let mut new = [vec![], vec![]];
    let insert = |who: usize, new: &mut Vec<u64>, before: &mut dyn FnMut(u64)| {
        let mut patience = Patience::default();
        for n in 0..rounds() {
            let mut looks = 0;
            while done[1 - who].load(Ordering::Relaxed) < n {
                looks += 1;
                // Seldom, so that both go on at the same time.
                if looks % 1024 == 0 {
                    patience.saw(false);
                }
            }
            patience.saw(true);
            before(n);
            let mut is_new = keys.insert(n) == Insertion::New;
            if is_new && n % 3 == 0 {
                assert!(keys.remove(n), "keys: it was there");
                is_new = keys.insert(n) == Insertion::New;
                taken_over.fetch_add((!is_new).into(), Ordering::Relaxed);
            }
            if is_new {
                new.push(n);
            }
            done[who].store(n + 1, Ordering::Relaxed);
        }
    };
    let mut generations = 1;
    let [one, other] = &mut new;
    threads(&mut [
        &mut || {
            insert(0, one, &mut |n| {
                if n.is_multiple_of(4) {
                    ager.advance();
                    generations += 1;
                }
            });
        },
        // Now a little earlier than the other and now a little later.
        &mut || insert(1, other, &mut |n| (0..n % 32).for_each(|_| std::hint::spin_loop())),
    ]);
    let [one, other] = &new;
    let mut all: Vec<u64> = one.iter().chain(other).copied().collect();
    all.sort_unstable();
    let taken_over = taken_over.into_inner();
    println!("keys: {} and {} new, {taken_over} taken over, {generations} generations", one.len(), other.len());
    assert!(all.iter().copied().eq(0..rounds()), "keys: each is new to one of the two");
    assert_eq!(keys.refused(), 0, "keys: there is room");
    assert!(one.len().min(other.len()) as u64 > rounds() / 1000, "keys: the threads hardly met");
}

/// A dispatcher, a producer beside it, and the drain. What is refused for want of room is offered again.
fn lanes() {
    let lanes = Lanes::<Event, 8, 8, 8>::new();
    let (mut dispatcher, mut drain) = lanes.split().expect("split once");
    let beside = dispatcher.producer();
    // One for each lane, and the other producer's.
    let mut streams = [const { Stream { next: 0, received: 0 } }; 4];
    let (mut full, mut others_full, mut empty) = (Patience::default(), Patience::default(), Patience::default());
    let refused = AtomicUsize::new(0);
    threads(&mut [
        &mut || {
            for n in 0..rounds() {
                for (who, priority) in (0..).zip([Priority::Critical, Priority::Medium, Priority::Low]) {
                    let mut event = [n, n, n, n, n, n, n, who];
                    while let Err(back) = dispatcher.offer(priority, event) {
                        assert!(matches!(
                            back.reason,
                            Reason::Full | Reason::Throttled | Reason::DeadLettered | Reason::Dropped
                        ));
                        refused.fetch_add(1, Ordering::Relaxed);
                        event = back.event;
                        full.saw(false);
                    }
                    full.saw(true);
                }
            }
        },
        &mut || {
            for n in 0..rounds() {
                while beside.to_transactional([n, n, n, n, n, n, n, 3]).is_err() {
                    others_full.saw(false);
                }
                others_full.saw(true);
                if n % 8 == 0 {
                    let_others();
                }
            }
        },
        &mut || {
            let mut left = 4 * rounds();
            let mut take = |lane: Lane, [n @ .., who]: Event| {
                assert_eq!(lane as u64, if who == 3 { 1 } else { who }, "lanes: an event of another lane");
                streams[who as usize].take(n[0], 0, &n);
            };
            while left > 0 {
                let popped = if left.is_multiple_of(2) {
                    drain.pop().map(|(lane, event)| take(lane, event)).iter().count()
                } else {
                    drain.pop_batch(3, &mut take)
                };
                left -= popped as u64;
                empty.saw(popped > 0);
            }
        },
    ]);
    assert!(drain.pop().is_none(), "lanes: there is more than was pushed");
    let counts = Lane::ALL.map(|lane| dispatcher.counts(lane));
    assert!(counts.iter().all(|counts| counts.accepted == rounds()), "lanes: each is counted once");
    let others =
        counts.iter().map(|counts| counts.full + counts.throttled + counts.dead_lettered + counts.dropped).sum();
    assert_eq!(refused.into_inner() as u64, others, "lanes: each refusal is counted");
    for stream in &streams {
        met("lanes", stream.received, &full, &empty);
    }
}
