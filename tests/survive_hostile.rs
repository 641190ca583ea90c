//! A file that is no topic, or no longer one: a clear error or a counted loss; never a crash, a hang, or memory beyond it.
//!
//! Not here: a file that is made shorter while it is mapped, which kills who touches the missing pages and is documented
//! to do so.
#![cfg(feature = "std")]

mod support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use conduit::topic::{self, Observer, Overflow, SlotKind, Start};
use conduit::{Error, Publisher, Subscriber};
use support::{Domain, KINDS, Noise, Process, eventually, in_time, kind_name, kind_of, message, rounds, say};

const LEN: usize = 120;
/// Length of the header and what follows it on its page, and offsets from `docs/shm-layout.md`.
const HEADER: usize = 544;
const PAGE: u64 = 4096;

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    support::run_role(&[("user", user)]);
}

/// A topic with some messages in it and no publisher, as bytes.
fn specimen(domain: &Domain, kind: SlotKind) -> Vec<u8> {
    let mut publisher = domain.publisher_of(kind, LEN).depth(4).open("t").unwrap();
    for sequence in 0..20 {
        publisher.publish(&message(LEN, sequence)).unwrap();
    }
    drop(publisher);
    std::fs::read(domain.file("t")).unwrap()
}

/// Puts another file in the topic's place.
fn plant(domain: &Domain, bytes: &[u8]) {
    let beside = domain.file("planted");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, domain.file("t")).unwrap();
}

/// Opens whatever stands there in every way there is. What opens is used a little. Returns what the subscriber said.
fn try_all(domain: &Domain) -> Result<(), Error> {
    let _ = topic::list(Some(domain.name())).unwrap();
    let _ = topic::inspect(Some(domain.name()), "t");
    if let Ok(mut observer) = Observer::open_in(domain.name(), "t", Start::Oldest) {
        for _ in 0..50 {
            let _ = observer.try_next();
        }
    }
    let mut subscriber = domain.subscriber().start(Start::Oldest).open("t")?;
    for _ in 0..50 {
        let _ = subscriber.try_recv();
    }
    Ok(())
}

#[test]
fn a_truncated_file_is_an_error_that_says_so() {
    for kind in KINDS {
        let domain = Domain::new();
        let whole = specimen(&domain, kind);
        let lengths = [0, 1, 7, 8, 100, HEADER - 1, HEADER, 4095, 4096, 4097, whole.len() / 2, whole.len() - 1];
        for len in lengths {
            plant(&domain, &whole[..len]);
            let error = try_all(&domain).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{len} bytes: {error}");
        }
        plant(&domain, &whole);
        try_all(&domain).expect("the whole file is a topic");
    }
}

/// As it would be if somebody made the file without setting its memory aside: using it could end in a signal.
#[test]
fn a_file_with_holes_is_refused() {
    let domain = Domain::new();
    let whole = specimen(&domain, SlotKind::Frames);
    plant(&domain, &whole[..4096]);
    let file = OpenOptions::new().write(true).open(domain.file("t")).unwrap();
    file.set_len(whole.len() as u64).unwrap();
    let error = try_all(&domain).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("no memory"), "{error}");
}

#[test]
fn a_field_that_cannot_be_is_an_error_that_names_it() {
    let domain = Domain::new();
    let whole = specimen(&domain, SlotKind::Frames);
    let u32_at = |at: usize, value: u32| (at, value.to_ne_bytes().to_vec());
    let u64_at = |at: usize, value: u64| (at, value.to_ne_bytes().to_vec());
    let cases = [
        ("begin", u64_at(0, 0x1234)),
        ("byte order", u32_at(8, 0x0403_0201)),
        ("version", u32_at(12, 99)),
        ("version", u64_at(16, 1)),
        ("bytes", u64_at(24, 1 << 40)),
        ("pages", u32_at(32, 1 << 16)),
        ("kind of slots", u32_at(36, 9)),
        ("overflow", u32_at(40, 0)),
        ("timestamps", u32_at(44, 77)),
        ("slots cannot hold", u32_at(48, u32::MAX)),
        ("power of two", u32_at(52, 63)),
        ("power of two", u32_at(52, u32::MAX)),
        ("slots", u32_at(52, 1 << 28)),
        ("subscribers", u32_at(56, 65)),
        ("subscribers", u32_at(56, 0)),
        ("samples", u32_at(60, u32::MAX)),
        ("bytes", u64_at(64, u64::MAX)),
        ("bytes", u64_at(64, 1 << 45)),
        ("schema", u32_at(88, u32::MAX)),
        ("name", u32_at(92, u32::MAX)),
        ("name", u32_at(96, 33)),
        ("name", u32_at(108, 201)),
        ("it is topic", u32_at(108, 0)),
        ("hash", u64_at(80, 0)),
    ];
    for (says, (at, value)) in cases {
        let mut bytes = whole.clone();
        bytes[at..at + value.len()].copy_from_slice(&value);
        plant(&domain, &bytes);
        let error = try_all(&domain).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "at {at}: {error}");
        assert!(error.to_string().contains(says), "at {at}: expected `{says}` in: {error}");
    }
}

#[test]
fn random_headers_are_errors_or_topics() {
    let mut noise = Noise::seeded("random_headers_are_errors_or_topics");
    let domain = Domain::new();
    for kind in KINDS {
        let whole = specimen(&domain, kind);
        let mut errors = 0;
        for _ in 0..rounds(5000) {
            let mut bytes = whole.clone();
            for _ in 0..=noise.below(3) {
                let at = noise.below(HEADER as u64) as usize;
                bytes[at] = noise.next() as u8;
            }
            plant(&domain, &bytes);
            errors += u32::from(try_all(&domain).is_err());
        }
        assert!(errors > 0, "the test does not reach the header");
        std::fs::remove_file(domain.file("t")).unwrap();
    }
}

#[test]
fn a_publisher_replaces_what_nobody_can_use() {
    let domain = Domain::new();
    for garbage in [&b""[..], &[0xff; 10_000], &specimen(&domain, SlotKind::Words)[..5000]] {
        plant(&domain, garbage);
        let mut publisher = domain.publisher_of(SlotKind::Words, LEN).open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        publisher.publish(&message(LEN, 0)).unwrap();
        assert_eq!(subscriber.recv().unwrap().sequence(), 0);
    }
}

/// Publishes and receives for ever on a topic that somebody else corrupts; says something whenever it got around.
fn user(args: &[&str]) {
    let [kind, domain] = args else { panic!("kind and domain") };
    let options = Publisher::<[u8]>::options().domain(domain).slots(kind_of(kind)).depth(8).max_len(LEN);
    let mut publisher = options.overflow(Overflow::Reject).open("t").unwrap();
    let open = || Subscriber::<[u8]>::options().domain(domain).start(Start::Oldest);
    let mut subscriber = open().open("t").unwrap();
    let mut observer = Observer::open_in(domain, "t", Start::Oldest).unwrap();
    say("ready");
    let mut told = Instant::now();
    let mut seen = 0u64;
    for turn in 0u64.. {
        let _ = publisher.publish(&[turn as u8; LEN]);
        let _ = publisher.publish_timeout(&[turn as u8; LEN], Duration::ZERO);
        let _ = publisher.loan(LEN);
        // Every byte of what is handed out can be read.
        let mut held = Vec::new();
        while let Ok(Some(sample)) = subscriber.try_recv() {
            seen = seen.wrapping_add(sample.iter().map(|&byte| u64::from(byte)).sum());
            held.push(sample);
            if held.len() > 2 {
                break;
            }
        }
        drop(held);
        let _ = subscriber.recv_timeout(Duration::from_micros(10));
        let _ = subscriber.lag();
        if let Ok(Some(observed)) = observer.try_next() {
            seen = seen.wrapping_add(observed.data.len() as u64);
        }
        if turn % 64 == 0 {
            let _ = topic::inspect(Some(domain), "t");
            // Others come and go.
            if let Ok(mut late) = open().open("t") {
                let _ = late.try_recv();
            }
        }
        if told.elapsed() > Duration::from_millis(5) {
            told = Instant::now();
            say(seen);
        }
    }
}

#[test]
fn corruption_in_use_neither_crashes_nor_hangs_its_users() {
    let mut noise = Noise::seeded("corruption_in_use_neither_crashes_nor_hangs_its_users");
    for kind in KINDS {
        for _ in 0..rounds(50) {
            let domain = Domain::new();
            let mut user = Process::start("user", &[kind_name(kind), domain.name()]);
            user.expect("ready");
            let file = OpenOptions::new().read(true).write(true).open(domain.file("t")).unwrap();
            let len = file.metadata().unwrap().len();
            for _ in 0..rounds(2000) {
                corrupt(&file, len, &mut noise);
            }
            // It still gets around: twice, as one line may have been under way.
            while user.line_now().is_some() {}
            for _ in 0..2 {
                assert!(user.try_line().is_some(), "the user of a corrupt topic died, {kind:?}");
            }
            user.kill();
            // And the next publisher copes with what is left.
            let options = domain.publisher_of(kind, LEN).depth(8).overflow(Overflow::Reject);
            in_time("opening a corrupt topic", move || match options.open("t") {
                Ok(mut publisher) => drop(publisher.publish(&[1; LEN])),
                Err(error) => panic!("{error}"),
            });
        }
    }
}

/// Overwrites a word anywhere behind the header, with something that looks like what might stand there, or not.
fn corrupt(file: &File, len: u64, noise: &mut Noise) {
    // Parts that matter are small: the writer's page, the wait page, the subscribers' pages; the rest is slots.
    let at = match noise.below(6) {
        0 => PAGE + 8 * noise.below(32),
        1 => 2 * PAGE + 8 * noise.below(16),
        2 => 3 * PAGE + 8 * noise.below(129 * 8),
        _ => 6 * PAGE + 8 * noise.below((len - 6 * PAGE) / 8),
    };
    let mut old = [0; 8];
    file.read_exact_at(&mut old, at).unwrap();
    let old = u64::from_ne_bytes(old);
    let new = match noise.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => noise.next(),
        3 => old.wrapping_add(noise.below(9)).wrapping_sub(4),
        4 => old ^ 1 << noise.below(64),
        _ => old.wrapping_add(4 * noise.below(1000)),
    };
    file.write_all_at(&new.to_ne_bytes(), at).unwrap();
}

#[test]
fn a_corrupt_topic_can_be_cleaned_away() {
    let domain = Domain::new();
    specimen(&domain, SlotKind::Words);
    let file = OpenOptions::new().write(true).open(domain.file("t")).unwrap();
    file.write_all_at(&[0xff; 100], 0).unwrap();
    assert!(topic::inspect(Some(domain.name()), "t").is_err());
    assert_eq!(topic::clean(Some(domain.name()), true).unwrap().len(), 1);
    eventually("it is gone", || {
        topic::clean(Some(domain.name()), false).unwrap();
        domain.files().is_empty()
    });
}
