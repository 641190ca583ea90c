//! Looking on: what an observer sees of a topic, and that nobody on the topic notices it.
#![cfg(feature = "std")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use conduit::topic::{self, Observer, Overflow, PublisherOptions, Schema, SlotKind, Start, Timestamps, WriterState};
use conduit::{Error, Publisher};
use support::{
    Domain, KINDS, LEN, Noise, PATIENCE, Process, SHORTEST, Stream, eventually, fill, hear, in_time, is_asleep,
    kind_name, kind_of, publish, rounds, run_role, say, thread_id,
};

/// Longer than any test: who waits that long is woken, or hangs.
const LONG: Duration = Duration::from_secs(3600);

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    run_role(&[("publisher", publisher), ("looker", looker), ("stranger", stranger)]);
}

fn observe(domain: &Domain, start: Start) -> Observer {
    Observer::open_in(domain.name(), "t", start).unwrap()
}

/// Takes in all there is.
fn drain(observer: &mut Observer, stream: &mut Stream) {
    while let Some(seen) = observer.try_next().unwrap() {
        stream.take(seen.sequence, seen.lagged, seen.data).unwrap();
    }
}

/// (sequence, lagged) of the next message, which must be there and whole.
fn next(observer: &mut Observer) -> (u64, u64) {
    let seen = observer.try_next().unwrap().expect("no message");
    assert_eq!(support::number(seen.data), Ok(seen.sequence));
    (seen.sequence, seen.lagged)
}

/// All that can be seen of a topic from outside.
fn info(domain: &Domain) -> String {
    format!("{:?}", topic::inspect(Some(domain.name()), "t").unwrap())
}

// ---------------------------------------------------------------------------------------------------------------------
// Nobody notices

#[test]
fn an_observer_takes_no_subscribers_place() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).subscribers(64).samples(1).open("t").unwrap();
        let subscriber = || domain.subscriber().samples(1).open("t");
        let mut subscribers: Vec<_> = (0..64).map(|_| subscriber().unwrap()).collect();
        publish(&mut publisher, 3);
        let before = info(&domain);
        let mut observers: Vec<_> = (0..100).map(|_| observe(&domain, Start::Oldest)).collect();
        for observer in &mut observers {
            let mut stream = Stream::from(0);
            drain(observer, &mut stream);
            assert_eq!((stream.received, stream.lost), (3, 0));
            assert!(observer.next_timeout(Duration::ZERO).unwrap().is_none());
        }
        assert_eq!(info(&domain), before, "somebody can tell that there are observers");
        // As many places as before, neither more nor less.
        assert!(matches!(subscriber(), Err(Error::TooManySubscribers { limit: 64, .. })));
        subscribers.truncate(63);
        subscribers.push(subscriber().unwrap());
        assert!(subscriber().is_err());
        drop((subscribers, observers));
        publisher.remove().unwrap();
    }
}

#[test]
fn a_topic_that_is_only_observed_may_be_taken_over_and_cleaned_up() {
    let domain = Domain::new();
    for slots in KINDS {
        let open = || domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut publisher = open();
        let mut observer = observe(&domain, Start::New);
        publish(&mut publisher, 1);
        assert_eq!(observer.publisher(), WriterState::Alive);
        drop(publisher);
        assert_eq!((next(&mut observer), observer.publisher()), ((0, 0), WriterState::Closed));
        let mut publisher = open();
        publish(&mut publisher, 1);
        assert_eq!((next(&mut observer), observer.publisher()), ((1, 0), WriterState::Alive));
        drop(publisher);
        assert!(topic::inspect(Some(domain.name()), "t").unwrap().is_stale());
        let removed = topic::clean(Some(domain.name()), false).unwrap();
        assert!(removed.len() == 1 && removed[0].error.is_none(), "{removed:?}");
        assert!(observer.next_timeout(Duration::from_millis(1)).unwrap().is_none());
        open().remove().unwrap();
    }
}

#[test]
fn a_lossless_publisher_never_waits_for_an_observer() {
    let domain = Domain::new();
    for slots in KINDS {
        for overflow in [Overflow::Block, Overflow::Reject] {
            let mut publisher = domain.publisher_of(slots, LEN).overflow(overflow).open("t").unwrap();
            let mut idle = observe(&domain, Start::New);
            publish(&mut publisher, 1);
            let mut busy = observe(&domain, Start::Oldest);
            let mut seen = Stream::from(0);
            for _ in 0..20 {
                publisher = in_time("publishing beside observers", move || {
                    publish(&mut publisher, 10);
                    publisher
                });
                drain(&mut busy, &mut seen);
            }
            assert!(u64::from(publisher.geometry().capacity) < 100, "the ring goes round");
            assert_eq!((seen.received, seen.lost), (201, 0));
            let info = topic::inspect(Some(domain.name()), "t").unwrap();
            assert_eq!((info.blocked, info.rejected, info.skips, info.all_pinned), (0, 0, 0, 0));
            // Nothing was kept for the one that does not read, and it is told so.
            let mut stream = Stream::from(0);
            drain(&mut idle, &mut stream);
            assert!(stream.lost > 0 && stream.received + stream.lost == publisher.next_sequence(), "{stream:?}");
            publisher.remove().unwrap();
        }
    }
}

/// Looks on for ever, and says so if what it sees is wrong.
fn looker(args: &[&str]) {
    let mut observer = Observer::open_in(args[0], "t", Start::New).unwrap();
    say("ready");
    let mut stream = Stream::default();
    loop {
        let Some(seen) = observer.next_timeout(LONG).unwrap() else { continue };
        if let Err(error) = stream.take(seen.sequence, seen.lagged, seen.data) {
            say(error);
            return;
        }
    }
}

#[test]
fn an_observer_that_is_stopped_or_killed_holds_nobody_up() {
    let mut noise = Noise::seeded("an_observer_that_is_stopped_or_killed_holds_nobody_up");
    for slots in KINDS {
        for overflow in [Overflow::Overwrite, Overflow::Block] {
            let domain = Domain::new();
            let mut publisher = domain.publisher_of(slots, 256).overflow(overflow).depth(4).open("t").unwrap();
            let mut bytes = [0; 256];
            let mut publish = move |count: u64| {
                for _ in 0..count {
                    let sequence = publisher.next_sequence();
                    fill(&mut bytes, sequence);
                    publisher.publish(&bytes).unwrap();
                }
            };
            for _ in 0..rounds(50) {
                let mut looker = Process::start("looker", &[domain.name()]);
                looker.expect("ready");
                // Wherever it is in its work.
                publish(noise.below(2000));
                looker.signal(libc::SIGSTOP);
                publish(2000);
                looker.signal(libc::SIGCONT);
                publish(noise.below(2000));
                assert_eq!(looker.line_now(), None, "the observer has something to complain of");
                looker.kill();
                publish = in_time("publishing after an observer's death", move || {
                    publish(2000);
                    publish
                });
            }
            let info = topic::inspect(Some(domain.name()), "t").unwrap();
            assert_eq!((info.skips, info.blocked, info.all_pinned), (0, 0, 0), "{slots:?}");
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Beside a publisher at full speed

/// The length of message `sequence` on a topic of messages of up to `max_len` bytes.
fn len_of(slots: SlotKind, max_len: usize, sequence: u64) -> usize {
    match slots {
        SlotKind::Words => max_len,
        SlotKind::Frames => max_len - (sequence % 64) as usize * (max_len - SHORTEST) / 64,
    }
}

/// Publishes `count` messages as fast as it can while observers look on, and checks what each of them saw.
fn race(domain: &Domain, slots: SlotKind, max_len: usize, count: u64, observers: u32) {
    let options = domain.publisher_of(slots, max_len).depth(1).subscribers(1).samples(1);
    let mut publisher = options.open("t").unwrap();
    let threads: Vec<_> = (0..observers)
        .map(|_| {
            let mut observer = observe(domain, Start::New);
            thread::spawn(move || {
                let mut stream = Stream::from(0);
                while stream.expected != Some(count) {
                    // None if it was overtaken again and again.
                    let Some(seen) = observer.next_timeout(PATIENCE).unwrap() else { continue };
                    assert_eq!(seen.data.len(), len_of(slots, max_len, seen.sequence));
                    stream.take(seen.sequence, seen.lagged, seen.data).unwrap();
                }
                stream
            })
        })
        .collect();
    // Filled beforehand, so that the publisher is at full speed while it publishes.
    let mut burst = vec![vec![0; max_len]; if max_len > 256 { 32 } else { 1024 }];
    for first in (0..count).step_by(burst.len()) {
        let messages = burst.iter_mut().zip(first..count).map(|(bytes, sequence)| {
            let bytes = &mut bytes[..len_of(slots, max_len, sequence)];
            fill(bytes, sequence);
            &*bytes
        });
        let messages: Vec<_> = messages.collect();
        assert_eq!(publisher.publish_batch(messages.iter().copied()).unwrap(), messages.len());
    }
    in_time("the observers", move || {
        for thread in threads {
            let stream = thread.join().unwrap();
            assert_eq!(stream.received + stream.lost, count, "{slots:?} {stream:?}");
        }
    });
}

#[test]
fn what_is_copied_while_it_is_overwritten_is_never_torn_and_what_is_lost_is_counted() {
    let domain = Domain::new();
    for (slots, max_len, count) in [
        (SlotKind::Words, 256, 4_000_000),
        (SlotKind::Words, 24, 4_000_000),
        (SlotKind::Frames, 64, 2_000_000),
        (SlotKind::Frames, 3000, 400_000),
        (SlotKind::Frames, 100_000, 20_000),
    ] {
        race(&domain, slots, max_len, rounds(count).into(), 2);
        domain.publisher_of(slots, max_len).open("t").unwrap().remove().unwrap();
    }
}

#[test]
fn no_slot_is_skipped_for_an_observer() {
    let domain = Domain::new();
    let skips = || {
        let info = topic::inspect(Some(domain.name()), "t").unwrap();
        assert_eq!(info.all_pinned, 0);
        info.skips
    };
    race(&domain, SlotKind::Frames, LEN, rounds(500_000).into(), 3);
    assert_eq!(skips(), 0);
    // For a subscriber's sample they are.
    let mut publisher =
        domain.publisher_of(SlotKind::Frames, LEN).depth(1).subscribers(1).samples(1).open("t").unwrap();
    let mut subscriber = domain.subscriber().samples(1).open("t").unwrap();
    publish(&mut publisher, 1);
    let _sample = subscriber.recv().unwrap();
    let laps = 3 * u64::from(publisher.geometry().capacity);
    publish(&mut publisher, laps);
    assert!(skips() > 0);
}

/// Publishes for ever.
fn publisher(args: &[&str]) {
    let slots = kind_of(args[0]);
    let options = Publisher::<[u8]>::options().domain(args[1]).slots(slots).max_len(256).depth(8);
    let mut publisher = options.open("t").unwrap();
    say("ready");
    let mut bytes = [0; 256];
    loop {
        let sequence = publisher.next_sequence();
        let bytes = &mut bytes[..len_of(slots, 256, sequence)];
        fill(bytes, sequence);
        publisher.publish(bytes).unwrap();
    }
}

#[test]
fn what_a_killed_process_left_is_read_to_the_end() {
    let mut noise = Noise::seeded("what_a_killed_process_left_is_read_to_the_end");
    for slots in KINDS {
        let domain = Domain::new();
        for _ in 0..rounds(100) {
            let mut process = Process::start("publisher", &[kind_name(slots), domain.name()]);
            process.expect("ready");
            let mut early = observe(&domain, Start::Oldest);
            let mut stream = Stream::default();
            for _ in 0..1 + noise.below(3000) {
                let Some(seen) = early.next_timeout(PATIENCE).unwrap() else { continue };
                stream.take(seen.sequence, seen.lagged, seen.data).unwrap();
            }
            process.kill();
            eventually("the kernel drops a dead process's locks", || early.publisher() == WriterState::Gone);
            drain(&mut early, &mut stream);
            let end = stream.expected.unwrap();
            // It may have died between a message and its count.
            let counted = topic::inspect(Some(domain.name()), "t").unwrap().published;
            assert!(counted == end || counted + 1 == end, "{counted} of {end}");
            // Nobody has been here since: a late observer finds the same.
            let mut late = Stream::default();
            drain(&mut observe(&domain, Start::Oldest), &mut late);
            assert!(late.received >= end.min(8), "{late:?}");
            assert_eq!((late.lost, late.expected), (0, Some(end)));
            let held = end - end.min(8);
            assert_eq!(next(&mut observe(&domain, Start::Sequence(held))), (held, 0));
            for (start, first) in [(Start::Latest, counted - 1), (Start::New, counted)] {
                let mut stream = Stream::from(first);
                drain(&mut observe(&domain, start), &mut stream);
                assert_eq!((stream.lost, stream.expected), (0, Some(end)), "{start:?}");
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Where it starts, and what it is told

fn modes() -> impl Iterator<Item = (SlotKind, Overflow)> {
    KINDS.into_iter().flat_map(|slots| [Overflow::Overwrite, Overflow::Block].map(|overflow| (slots, overflow)))
}

#[test]
fn an_observer_starts_where_it_is_told() {
    let domain = Domain::new();
    for (slots, overflow) in modes() {
        let mut publisher = domain.publisher_of(slots, LEN).overflow(overflow).open("t").unwrap();
        let mut early =
            [Start::New, Start::Latest, Start::Oldest, Start::Sequence(0)].map(|start| observe(&domain, start));
        let mut later = observe(&domain, Start::Sequence(5));
        for observer in &mut early {
            assert!(observer.try_next().unwrap().is_none());
        }
        publish(&mut publisher, 3);
        for observer in &mut early {
            for sequence in 0..3 {
                assert_eq!(next(observer), (sequence, 0));
            }
            assert!(observer.try_next().unwrap().is_none());
        }
        // What comes before is not wanted, and so not lost.
        assert!(later.try_next().unwrap().is_none());
        publish(&mut publisher, 4);
        assert_eq!([next(&mut later), next(&mut later)], [(5, 0), (6, 0)]);
        publish(&mut publisher, 1000);
        let published = publisher.next_sequence();
        let mut new = observe(&domain, Start::New);
        let mut latest = observe(&domain, Start::Latest);
        let mut oldest = observe(&domain, Start::Oldest);
        assert!(new.try_next().unwrap().is_none());
        assert_eq!(next(&mut latest), (published - 1, 0));
        let mut stream = Stream::default();
        drain(&mut oldest, &mut stream);
        assert!(stream.received >= 16, "a topic of depth 16: {stream:?}");
        assert_eq!((stream.lost, stream.expected), (0, Some(published)));
        assert_eq!(next(&mut observe(&domain, Start::Sequence(published - 16))), (published - 16, 0));
        for gone in [0, 1, 500] {
            let (sequence, lagged) = next(&mut observe(&domain, Start::Sequence(gone)));
            assert_eq!(gone + lagged, sequence);
            assert!(sequence < published && lagged > 0);
        }
        publish(&mut publisher, 1);
        for observer in [&mut new, &mut latest, &mut oldest] {
            assert_eq!(next(observer), (published, 0));
        }
        publisher.remove().unwrap();
    }
}

#[test]
fn what_a_topic_is_said_to_hold_is_what_an_observer_finds() {
    for (slots, overflow) in modes() {
        let domain = Domain::new();
        let held = || topic::inspect(Some(domain.name()), "t").unwrap().held;
        let found = || {
            let mut stream = Stream::default();
            drain(&mut observe(&domain, Start::Oldest), &mut stream);
            stream.received
        };
        let mut publisher = domain.publisher_of(slots, LEN).depth(5).overflow(overflow).open("t").unwrap();
        assert_eq!((held(), found()), (0, 0), "{slots:?} {overflow:?}");
        let _subscriber = domain.subscriber().open("t").unwrap();
        let mut published = 0;
        while published < 100 && publisher.publish_timeout(&support::message(LEN, published), Duration::ZERO).is_ok() {
            published += 1;
            assert_eq!(held(), found(), "{slots:?} {overflow:?} after {published}");
        }
        let capacity = u64::from(publisher.geometry().capacity);
        match overflow {
            Overflow::Overwrite => assert_eq!(held(), capacity - 1, "{slots:?}: one slot is claimed ahead"),
            _ => assert_eq!(held(), published, "{slots:?} {overflow:?}: nothing is overwritten"),
        }
    }
}

#[test]
fn an_observer_that_is_lapped_is_told_exactly_what_it_lost() {
    let domain = Domain::new();
    let mut noise = Noise::seeded("an_observer_that_is_lapped_is_told_exactly_what_it_lost");
    for slots in KINDS {
        for round in 0..rounds(300) {
            let topic = format!("t{round}");
            let options = domain.publisher_of(slots, LEN).depth(1 + noise.below(30) as u32).subscribers(2).samples(1);
            let mut publisher = options.open(&topic).unwrap();
            // Samples have the publisher skip slots, which are no losses.
            let mut subscriber = domain.subscriber().samples(1).open(&topic).unwrap();
            let mut sample = None;
            let before = noise.below(100);
            publish(&mut publisher, before);
            let mut observer = Observer::open_in(domain.name(), &topic, Start::New).unwrap();
            let mut stream = Stream::from(before);
            for _ in 0..50 {
                let most = 2 * u64::from(publisher.geometry().capacity);
                publish(&mut publisher, noise.below(most));
                for _ in 0..noise.below(40) {
                    let Some(seen) = observer.try_next().unwrap() else { break };
                    stream.take(seen.sequence, seen.lagged, seen.data).unwrap();
                }
                if noise.below(4) == 0 {
                    drop(sample.take());
                    sample = subscriber.try_recv().unwrap();
                }
            }
            // Nothing can be missing behind the last message.
            publish(&mut publisher, 1);
            drain(&mut observer, &mut stream);
            assert_eq!(stream.expected, Some(publisher.next_sequence()));
            assert_eq!(before + stream.received + stream.lost, publisher.next_sequence());
            drop((sample, subscriber));
            publisher.remove().unwrap();
        }
    }
}

#[test]
fn an_observer_sees_lengths_and_times_as_they_were_published() {
    let domain = Domain::new();
    for slots in KINDS {
        let options = domain.publisher_of(slots, 100).timestamps(Timestamps::Given);
        let mut publisher = options.open("t").unwrap();
        let mut observer = observe(&domain, Start::New);
        let lengths: &[usize] = if slots == SlotKind::Frames { &[100, 0, 1, 7, 8, 99, 100] } else { &[100, 100] };
        for (at, &len) in lengths.iter().enumerate() {
            let time = Duration::from_nanos(1 + 1_000_000_007 * at as u64);
            publisher.publish_at(&vec![at as u8; len], time.as_nanos() as u64).unwrap();
            let seen = observer.try_next().unwrap().unwrap();
            assert_eq!((seen.data, seen.timestamp), (&*vec![at as u8; len], Some(time)));
        }
        assert_eq!(observer.geometry(), publisher.geometry());
        assert_eq!(observer.schema(), publisher.schema());
        assert!(observer.clock_offset().is_some());
        publisher.remove().unwrap();
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut observer = observe(&domain, Start::New);
        publish(&mut publisher, 1);
        assert_eq!(observer.try_next().unwrap().unwrap().timestamp, None);
        publisher.remove().unwrap();
    }
    let error = Observer::open_in(domain.name(), "t", Start::New).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Asleep

/// An observer in a thread of its own that hands on what it sees, as (sequence, lagged).
fn watcher(mut observer: Observer) -> (u64, std::sync::mpsc::Receiver<(u64, u64)>) {
    let (sender, seen) = channel();
    let (told, id) = channel();
    thread::spawn(move || {
        told.send(thread_id()).unwrap();
        loop {
            let seen = observer.next_timeout(LONG).unwrap().expect("an hour has passed");
            assert_eq!(support::number(seen.data), Ok(seen.sequence));
            // Until nobody wants to know any more.
            if sender.send((seen.sequence, seen.lagged)).is_err() {
                return;
            }
        }
    });
    (id.recv().unwrap(), seen)
}

/// Each message comes when the observer is about to sleep, or sleeps, or anywhere in between.
#[test]
fn an_observer_sleeps_until_there_is_a_message_and_misses_none() {
    let domain = Domain::new();
    let mut noise = Noise::seeded("an_observer_sleeps_until_there_is_a_message_and_misses_none");
    for slots in KINDS {
        let open = || domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut publisher = open();
        let (id, seen) = watcher(observe(&domain, Start::New));
        for sequence in 0..rounds(20_000).into() {
            match noise.below(100) {
                0 => eventually("the observer sleeps", || is_asleep(id)),
                1 => {
                    // The next one has yet to find out that somebody sleeps.
                    drop(publisher);
                    publisher = open();
                }
                _ => {}
            }
            (0..noise.below(300)).for_each(|_| std::hint::spin_loop());
            publish(&mut publisher, 1);
            // Who slept would always come too late to meet the observer on its way to sleep.
            let answer = (0..20_000).find_map(|_| seen.try_recv().ok());
            let answer = answer.map_or_else(|| seen.recv_timeout(PATIENCE), Ok);
            assert_eq!(answer, Ok((sequence, 0)), "{slots:?}");
        }
        drop(seen);
        publish(&mut publisher, 1);
        publisher.remove().unwrap();
    }
}

#[test]
fn one_message_wakes_all_observers() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let watchers: Vec<_> = (0..5).map(|_| watcher(observe(&domain, Start::New))).collect();
        for sequence in 0..rounds(200).into() {
            for (id, _) in &watchers {
                eventually("an observer sleeps", || is_asleep(*id));
            }
            publish(&mut publisher, 1);
            for (_, seen) in &watchers {
                assert_eq!(seen.recv_timeout(PATIENCE), Ok((sequence, 0)));
            }
        }
        drop(watchers);
        publish(&mut publisher, 1);
        publisher.remove().unwrap();
    }
}

#[test]
fn a_timeout_ends_the_wait_also_on_a_topic_that_is_gone() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut observer = observe(&domain, Start::New);
        let mut check = |what| {
            assert!(observer.try_next().unwrap().is_none());
            for timeout in [0, 1, 30].map(Duration::from_millis) {
                let start = Instant::now();
                assert!(observer.next_timeout(timeout).unwrap().is_none(), "{what}");
                assert!(start.elapsed() >= timeout, "{what}");
            }
        };
        check("silent");
        publish(&mut publisher, 1);
        assert_eq!(next(&mut observer), (0, 0));
        let mut check = |what| {
            for timeout in [0, 1, 30].map(Duration::from_millis) {
                let start = Instant::now();
                assert!(observer.next_timeout(timeout).unwrap().is_none(), "{what}");
                assert!(start.elapsed() >= timeout, "{what}");
            }
        };
        check("read to the end");
        drop(publisher);
        check("closed");
        domain.publisher_of(slots, LEN).open("t").unwrap().remove().unwrap();
        check("removed");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Replaced

fn shapes(domain: &Domain) -> Vec<PublisherOptions<[u8]>> {
    vec![
        domain.publisher_of(SlotKind::Frames, LEN),
        domain.publisher_of(SlotKind::Frames, LEN).depth(64),
        domain.publisher_of(SlotKind::Words, LEN),
        domain.publisher_of(SlotKind::Words, LEN).timestamps(Timestamps::Clock),
        domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block),
        domain.publisher_of(SlotKind::Frames, 40 * LEN).overflow(Overflow::Reject),
        domain.publisher_of(SlotKind::Frames, LEN).schema(Schema { name: "other".into(), ..Schema::opaque() }),
        domain.publisher_of(SlotKind::Words, LEN).schema(Schema { name: "other".into(), ..Schema::opaque() }),
    ]
}

#[test]
fn an_observer_follows_a_topic_that_gets_another_shape() {
    let domain = Domain::new();
    let shapes = shapes(&domain);
    let mut publisher = shapes[0].clone().open("t").unwrap();
    let mut awake = observe(&domain, Start::New);
    let (id, asleep) = watcher(observe(&domain, Start::New));
    let mut noise = Noise::seeded("an_observer_follows_a_topic_that_gets_another_shape");
    let mut stream = Stream::from(0);
    for round in 0..rounds(300).max(2 * shapes.len() as u32) as usize {
        let at = if round < shapes.len() { round } else { noise.below(shapes.len() as u64) as usize };
        let first = publisher.next_sequence();
        // Some are left for it to find when it gets there.
        let unread = noise.below(3);
        publish(&mut publisher, unread);
        if round % 4 == 0 {
            for _ in 0..unread {
                asleep.recv_timeout(PATIENCE).unwrap();
            }
            eventually("the observer sleeps", || is_asleep(id));
        }
        drop(publisher);
        publisher = shapes[at].clone().open("t").unwrap();
        // Up to what a topic of depth 16 keeps.
        let messages = 1 + noise.below(12);
        publish(&mut publisher, messages);
        drain(&mut awake, &mut stream);
        assert_eq!((stream.expected, stream.lost), (Some(publisher.next_sequence()), 0));
        assert_eq!((awake.geometry(), awake.schema()), (publisher.geometry(), publisher.schema()));
        let skip = if round % 4 == 0 { unread } else { 0 };
        for sequence in first + skip..publisher.next_sequence() {
            assert_eq!(asleep.recv_timeout(PATIENCE), Ok((sequence, 0)), "round {round}");
        }
    }
    drop(asleep);
    publish(&mut publisher, 1);
    publisher.remove().unwrap();
}

#[test]
fn what_a_replaced_topic_lost_before_the_observer_came_is_counted() {
    let domain = Domain::new();
    for (slots, other) in [(KINDS[0], KINDS[1]), (KINDS[1], KINDS[0]), (KINDS[0], KINDS[0]), (KINDS[1], KINDS[1])] {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut observer = observe(&domain, Start::New);
        let mut stream = Stream::from(0);
        publish(&mut publisher, 5);
        drain(&mut observer, &mut stream);
        drop(publisher);
        let mut publisher = domain.publisher_of(other, LEN).depth(2).open("t").unwrap();
        publish(&mut publisher, 1000);
        drain(&mut observer, &mut stream);
        assert_eq!((stream.received + stream.lost, stream.expected), (1005, Some(1005)));
        publisher.remove().unwrap();
    }
}

#[test]
fn an_observer_wakes_when_a_topic_is_removed_and_made_anew() {
    let domain = Domain::new();
    for (slots, other) in [(KINDS[0], KINDS[1]), (KINDS[1], KINDS[0])] {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let (id, seen) = watcher(observe(&domain, Start::New));
        publish(&mut publisher, 3);
        for sequence in 0..3 {
            assert_eq!(seen.recv_timeout(PATIENCE), Ok((sequence, 0)));
        }
        for round in 0..rounds(200).max(4) {
            if round % 2 == 0 {
                eventually("the observer sleeps", || is_asleep(id));
            }
            publisher.remove().unwrap();
            if round % 4 == 0 {
                eventually("the observer sleeps", || is_asleep(id));
            }
            let slots = if round % 3 == 0 { slots } else { other };
            publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
            // Another stream, from its beginning.
            publish(&mut publisher, 2);
            for sequence in 0..2 {
                assert_eq!(seen.recv_timeout(PATIENCE), Ok((sequence, 0)), "round {round}");
            }
        }
        drop(seen);
        publish(&mut publisher, 1);
        publisher.remove().unwrap();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Without write permission

/// A user who owns nothing.
const NOBODY: u32 = 65534;

/// Looks on as a user who may not write the topic, and says what it sees whenever it is told to.
fn stranger(args: &[&str]) {
    // SAFETY: no memory involved.
    let (is_root, refused) = unsafe {
        let is_root = libc::geteuid() == 0;
        (is_root, is_root && libc::setgid(NOBODY) | libc::setuid(NOBODY) != 0)
    };
    assert!(!refused, "root cannot be somebody else");
    let mut observer = match Observer::open_in(args[0], "t", Start::Oldest) {
        Ok(observer) => observer,
        Err(Error::System { source, .. }) => return say(format!("{:?}", source.kind())),
        Err(error) => panic!("{error}"),
    };
    if is_root {
        assert!(std::fs::OpenOptions::new().write(true).open(support::file_in(args[0], "t")).is_err());
    }
    say(if observer.can_sleep() { "sleeps" } else { "looks" });
    while let Some(timeout) = hear() {
        let timeout = if timeout == "wait" { LONG } else { Duration::from_millis(timeout.parse().unwrap()) };
        let start = Instant::now();
        match observer.next_timeout(timeout).unwrap() {
            Some(seen) => {
                assert_eq!(support::number(seen.data), Ok(seen.sequence));
                say(format!("{} after {} lost", seen.sequence, seen.lagged));
            }
            None if start.elapsed() < timeout => say("too early"),
            None => say("nothing"),
        }
    }
}

#[test]
fn who_may_only_read_a_topic_may_observe_it() {
    for slots in KINDS {
        let domain = Domain::new();
        let open = |depth| domain.publisher_of(slots, LEN).depth(depth).permissions(0o644).open("t").unwrap();
        let chmod = |mode| std::fs::set_permissions(domain.file("t"), std::fs::Permissions::from_mode(mode)).unwrap();
        let mut publisher = open(16);
        publish(&mut publisher, 2);
        // Not even the owner may write it, unless that is root.
        chmod(0o444);
        let mut stranger = Process::start("stranger", &[domain.name()]);
        stranger.expect("looks");
        assert_eq!(stranger.ask("wait"), "0 after 0 lost");
        assert_eq!(stranger.ask("0"), "1 after 0 lost");
        assert_eq!(stranger.ask("0"), "nothing");
        assert_eq!(stranger.ask("30"), "nothing");
        for sequence in 2..10 {
            stranger.tell("wait");
            publish(&mut publisher, 1);
            stranger.expect(&format!("{sequence} after 0 lost"));
        }
        publish(&mut publisher, 100);
        let seen = stranger.ask("wait");
        let (sequence, lagged) = seen.strip_suffix(" lost").unwrap().split_once(" after ").unwrap();
        assert_eq!(sequence.parse::<u64>().unwrap(), 10 + lagged.parse::<u64>().unwrap());
        assert_ne!(lagged, "0");
        // A new region, which it may read, too.
        while stranger.ask("0") != "nothing" {}
        chmod(0o644);
        drop(publisher);
        let mut publisher = open(30);
        stranger.tell("wait");
        publish(&mut publisher, 1);
        stranger.expect("110 after 0 lost");
        stranger.finish();
        let info = topic::inspect(Some(domain.name()), "t").unwrap();
        assert_eq!((info.skips, info.subscribers.len()), (0, 0));
        // Who may not even read it learns why.
        chmod(0o000);
        let mut stranger = Process::start("stranger", &[domain.name()]);
        stranger.expect("PermissionDenied");
        stranger.finish();
        chmod(0o644);
        publisher.remove().unwrap();
    }
}
