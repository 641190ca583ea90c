//! What happens to a topic, and to who waits for it, when its publishers come, go and change their minds.
#![cfg(feature = "std")]

mod support;

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use conduit::topic::{self, Overflow, PublisherOptions, Schema, SlotKind, Start, Timestamps, WriterState};
use conduit::{Error, Subscriber};
use support::{
    Domain, KINDS, LEN, Left, PATIENCE, Process, Right, Stream, eventually, hold, in_time, is_asleep, message, publish,
    receive, run_role, say, thread_id,
};

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    run_role(&[("hold", hold), ("wait_for_it", wait_for_it), ("wait_for_its_end", wait_for_its_end)]);
}

#[test]
fn a_subscriber_before_its_publisher_is_told_or_waits_as_it_asked() {
    let domain = Domain::new();
    let error = domain.subscriber().open("t").unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("publisher") && error.to_string().contains("wait"), "{error}");
    let timeout = Duration::from_millis(30);
    let start = Instant::now();
    let error = domain.subscriber().wait(timeout).open("t").unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(start.elapsed() >= timeout);
    assert!(matches!(domain.subscriber().wait(Duration::ZERO).open("t"), Err(Error::TimedOut { .. })));
    assert_eq!(domain.files(), [""; 0]);
    for wait in [true, false] {
        let mut process = Process::start("wait_for_it", &[domain.name(), if wait { "wait" } else { "forever" }]);
        process.expect("waiting");
        let mut publisher = domain.bytes().open("t").unwrap();
        process.expect("open");
        publisher.publish(b"hello").unwrap();
        process.expect("hello");
        process.finish();
        publisher.remove().unwrap();
    }
}

fn wait_for_it(args: &[&str]) {
    let options = Subscriber::<[u8]>::options().domain(args[0]);
    let options = if args[1] == "wait" { options.wait(PATIENCE) } else { options.wait_forever() };
    say("waiting");
    let mut subscriber = options.open("t").unwrap();
    say("open");
    say(String::from_utf8_lossy(&subscriber.recv().unwrap()));
}

/// A process that may have no inotify instance, as if all were in use.
fn unwatched(role: &str, args: &[&str]) -> Option<Process> {
    let limit = "echo 0 > /proc/sys/user/max_inotify_instances";
    let start = format!("{limit} && exec \"$0\" \"$@\"");
    let unshare = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c"];
    let tried = Command::new(unshare[0]).args(&unshare[1..]).arg(limit).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: cannot forbid inotify here");
        return None;
    }
    let wrapper = [&unshare[..], &[start.as_str()]].concat();
    Some(Process::spawn(role, Process::wrapped(&wrapper, role, args)))
}

#[test]
fn who_waits_without_a_watch_looks_now_and_then() {
    let domain = Domain::new();
    for how in ["wait", "forever"] {
        let Some(mut process) = unwatched("wait_for_it", &[domain.name(), how]) else { return };
        process.expect("waiting");
        let mut publisher = domain.bytes().open("t").unwrap();
        process.expect("open");
        publisher.publish(b"hello").unwrap();
        process.expect("hello");
        process.finish();
        publisher.remove().unwrap();
    }
    let publisher = domain.bytes().open("t").unwrap();
    let Some(mut process) = unwatched("wait_for_its_end", &[domain.name()]) else { return };
    process.expect("waiting");
    drop(publisher);
    process.expect("gone: true");
    process.finish();
}

fn wait_for_its_end(args: &[&str]) {
    let subscriber = Subscriber::<[u8]>::options().domain(args[0]).open("t").unwrap();
    say("waiting");
    say(format!("gone: {}", subscriber.wait_publisher_gone(PATIENCE).unwrap()));
}

/// The subscriber begins to wait at any point of the creation of its topic.
#[test]
fn a_topic_that_comes_while_it_is_waited_for_is_never_missed() {
    let domain = Domain::new();
    let (ask, asked) = channel::<String>();
    let (answer, answered) = channel();
    let options = domain.subscriber().wait_forever();
    let waiter = thread::spawn(move || {
        for topic in asked {
            let subscriber = options.clone().open(&topic).unwrap();
            answer.send(subscriber.publisher()).unwrap();
        }
    });
    for round in 0..support::rounds(1000) {
        let topic = format!("t{round}");
        ask.send(topic.clone()).unwrap();
        let publisher = domain.bytes().open(&topic).unwrap();
        assert_eq!(answered.recv_timeout(PATIENCE), Ok(WriterState::Alive), "{topic} was missed");
        publisher.remove().unwrap();
    }
    drop(ask);
    waiter.join().unwrap();
}

#[test]
fn the_next_publisher_of_the_same_shape_continues_the_sequence_in_the_same_region() {
    let domain = Domain::new();
    for slots in KINDS {
        for overflow in [Overflow::Overwrite, Overflow::Block] {
            let open = || domain.publisher_of(slots, LEN).overflow(overflow).open("t").unwrap();
            let mut publisher = open();
            let inode = std::fs::metadata(domain.file("t")).unwrap().ino();
            let mut subscriber = domain.subscriber().open("t").unwrap();
            let mut stream = Stream::from(0);
            for epoch in 1..=50 {
                publish(&mut publisher, 3);
                // Half of the time the next one comes while messages of the last are unread.
                if epoch % 2 == 0 {
                    (0..3).for_each(|_| receive(&mut subscriber, &mut stream));
                }
                let loan = publisher.loan(LEN).unwrap();
                let _ = loan;
                drop(publisher);
                assert_eq!(subscriber.publisher(), WriterState::Closed);
                publisher = open();
                assert_eq!(subscriber.publisher(), WriterState::Alive);
                assert_eq!(publisher.next_sequence(), 3 * epoch);
                if epoch % 2 != 0 {
                    (0..3).for_each(|_| receive(&mut subscriber, &mut stream));
                }
                assert_eq!(topic::inspect(Some(domain.name()), "t").unwrap().epoch, epoch as u32 + 1);
            }
            assert_eq!((stream.lost, stream.received), (0, 150));
            assert_eq!(std::fs::metadata(domain.file("t")).unwrap().ino(), inode);
            drop(subscriber);
            publisher.remove().unwrap();
        }
    }
}

#[test]
fn late_subscribers_find_what_a_closed_topic_holds() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        publish(&mut publisher, 100);
        drop(publisher);
        let mut subscriber = domain.subscriber().start(Start::Oldest).open("t").unwrap();
        assert_eq!(subscriber.publisher(), WriterState::Closed);
        let mut stream = Stream::default();
        while let Some(sample) = subscriber.try_recv().unwrap() {
            stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
        }
        assert!(stream.received >= 16 && stream.expected == Some(100), "{stream:?}");
        drop(subscriber);
        domain.publisher_of(slots, LEN).open("t").unwrap().remove().unwrap();
    }
}

/// Any change of shape: a new region takes the name, subscribers follow, and the numbers go on without a gap.
#[test]
fn a_publisher_of_another_shape_takes_over_with_its_subscribers_and_the_sequence() {
    let domain = Domain::new();
    let shapes: Vec<PublisherOptions<[u8]>> = vec![
        domain.publisher_of(SlotKind::Frames, LEN),
        domain.publisher_of(SlotKind::Frames, LEN).depth(64),
        domain.publisher_of(SlotKind::Words, LEN),
        domain.publisher_of(SlotKind::Words, LEN).timestamps(Timestamps::Clock),
        domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block),
        domain.publisher_of(SlotKind::Frames, LEN).overflow(Overflow::Block),
        domain.publisher_of(SlotKind::Frames, 4 * LEN).overflow(Overflow::Reject),
        domain.publisher_of(SlotKind::Frames, LEN).schema(Schema { name: "other".into(), ..Schema::opaque() }),
        domain.publisher_of(SlotKind::Frames, LEN).subscribers(5),
    ];
    let mut publisher = shapes[0].clone().open("t").unwrap();
    let mut reads = domain.subscriber().open("t").unwrap();
    let mut lags = domain.subscriber().open("t").unwrap();
    let (mut stream, mut late) = (Stream::from(0), Stream::from(0));
    let mut noise = support::Noise::seeded("another shape");
    let mut last = shapes[0].clone();
    for round in 0..support::rounds(500).max(2 * shapes.len() as u32) {
        let at = round as usize % (2 * shapes.len());
        let shape = if at < shapes.len() { &shapes[at] } else { &shapes[noise.below(shapes.len() as u64) as usize] };
        let _ = std::mem::replace(&mut last, shape.clone());
        let published = publisher.next_sequence();
        drop(publisher);
        publisher = shape.clone().open("t").unwrap();
        assert_eq!(publisher.next_sequence(), published);
        let messages = 1 + noise.below(10);
        publish(&mut publisher, messages);
        while stream.expected != Some(publisher.next_sequence()) {
            receive(&mut reads, &mut stream);
        }
        assert_eq!(reads.geometry(), publisher.geometry());
        if noise.below(3) == 0 {
            receive(&mut lags, &mut late);
        }
    }
    while late.expected != stream.expected {
        receive(&mut lags, &mut late);
    }
    assert_eq!(stream.lost, 0);
    assert_eq!(late.received + late.lost, publisher.next_sequence(), "what the old regions held is received or lost");
    drop((reads, lags));
    publisher.remove().unwrap();
}

#[test]
fn samples_of_a_region_that_was_replaced_stay_good() {
    let domain = Domain::new();
    let mut publisher = domain.publisher_of(SlotKind::Frames, LEN).open("t").unwrap();
    let mut subscriber = domain.subscriber().samples(2).open("t").unwrap();
    publish(&mut publisher, 2);
    let held: Vec<_> = (0..2).map(|_| subscriber.recv().unwrap()).collect();
    drop(publisher);
    let mut publisher = domain.publisher_of(SlotKind::Frames, LEN).depth(50).open("t").unwrap();
    publish(&mut publisher, 200);
    let old = held.iter().map(|sample| support::number(sample).unwrap()).collect::<Vec<_>>();
    assert_eq!(old, [0, 1]);
    drop(held);
    let mut stream = Stream::from(2);
    while stream.expected != Some(202) {
        receive(&mut subscriber, &mut stream);
    }
}

#[test]
fn sleepers_wake_and_go_on_when_a_topic_is_replaced_or_removed_and_made_anew() {
    let domain = Domain::new();
    for (slots, other) in [(KINDS[0], KINDS[1]), (KINDS[1], KINDS[0])] {
        let publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        let (sender, received) = channel();
        let thread = thread::spawn(move || {
            for _ in 0..3 {
                let sample = subscriber.recv().unwrap();
                sender.send((sample.sequence(), sample.lagged())).unwrap();
            }
        });
        drop(publisher);
        // Other shape.
        let mut publisher = domain.publisher_of(other, LEN).open("t").unwrap();
        publish(&mut publisher, 1);
        assert_eq!(received.recv_timeout(PATIENCE), Ok((0, 0)));
        // Removed and made anew: a stream of its own, from its beginning.
        publisher.remove().unwrap();
        assert_eq!(domain.files(), [""; 0]);
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        publish(&mut publisher, 1);
        assert_eq!(received.recv_timeout(PATIENCE), Ok((0, 0)));
        // Removed twice while it sleeps.
        publisher.remove().unwrap();
        domain.publisher_of(slots, LEN).open("t").unwrap().remove().unwrap();
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        publish(&mut publisher, 1);
        assert_eq!(received.recv_timeout(PATIENCE), Ok((0, 0)));
        in_time("the subscriber", move || thread.join().unwrap());
        publisher.remove().unwrap();
    }
}

#[test]
fn a_subscriber_that_cannot_follow_says_what_replaced_its_topic() {
    let domain = Domain::new();
    let left = domain.publisher::<Left>().open("t").unwrap();
    let mut subscriber = domain.subscriber_of::<Left>().open("t").unwrap();
    let mut bytes = domain.subscriber().open("t").unwrap();
    drop(left);
    let mut right = domain.publisher::<Right>().open("t").unwrap();
    right.publish(&Right { value: 1.0 }).unwrap();
    for _ in 0..2 {
        let error = subscriber.recv().unwrap_err();
        assert!(matches!(error, Error::Superseded { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("test_msgs/msg/Right") && text.contains("test_msgs/msg/Left"), "{text}");
    }
    assert_eq!(*bytes.recv().unwrap(), 1f64.to_ne_bytes());
    // What replaces that, it can.
    drop(right);
    let mut left = domain.publisher::<Left>().open("t").unwrap();
    left.publish(&Left { value: 2.0 }).unwrap();
    let sample = subscriber.recv().unwrap();
    assert_eq!((sample.value, sample.sequence(), sample.lagged()), (2.0, 1, 1));
}

#[test]
fn a_new_shape_without_room_for_a_subscriber_says_so() {
    let domain = Domain::new();
    let publisher = domain.publisher_of(SlotKind::Frames, LEN).subscribers(2).samples(4).open("t").unwrap();
    let mut greedy = domain.subscriber().samples(6).open("t").unwrap();
    let mut modest = domain.subscriber().samples(1).open("t").unwrap();
    drop(publisher);
    let mut publisher = domain.publisher_of(SlotKind::Frames, LEN).subscribers(1).samples(1).open("t").unwrap();
    publish(&mut publisher, 1);
    let error = greedy.recv().unwrap_err();
    assert!(matches!(error, Error::TooManySamplesDeclared { wanted: 6, left: 1, .. }), "{error}");
    assert_eq!(modest.recv().unwrap().sequence(), 0);
    let error = greedy.recv().unwrap_err();
    assert!(matches!(error, Error::TooManySubscribers { limit: 1, .. }), "{error}");
}

/// Whoever looks at the name while the shape changes again and again finds a topic, never a gap.
#[test]
fn a_name_is_never_gone_while_a_topic_is_replaced() {
    let domain = Domain::new();
    let mut publisher = domain.publisher_of(SlotKind::Words, LEN).open("t").unwrap();
    publish(&mut publisher, 1);
    let rounds = support::rounds(2000);
    let name = domain.name().to_owned();
    let (stop, stopped) = channel::<()>();
    let watcher = thread::spawn(move || {
        let mut looks = 0u64;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            topic::inspect(Some(&name), "t").unwrap();
            looks += 1;
        }
        looks
    });
    for round in 0..rounds {
        let published = publisher.next_sequence();
        drop(publisher);
        publisher = domain.publisher_of(KINDS[round as usize % 2], LEN).open("t").unwrap();
        assert_eq!(publisher.next_sequence(), published);
        publish(&mut publisher, 1);
    }
    drop(stop);
    assert!(watcher.join().unwrap() > 0);
    publisher.remove().unwrap();
}

#[test]
fn who_asks_is_woken_when_the_publisher_goes() {
    let domain = Domain::new();
    let publisher = domain.bytes().open("t").unwrap();
    let subscriber = domain.subscriber().open("t").unwrap();
    let start = Instant::now();
    assert!(!subscriber.wait_publisher_gone(Duration::from_millis(20)).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(20));
    drop(publisher);
    assert!(subscriber.wait_publisher_gone(Duration::ZERO).unwrap());
    for round in 0..support::rounds(200) {
        let mut process = Process::start("hold", &[domain.name(), "t"]);
        process.expect("open");
        assert_eq!(subscriber.publisher(), WriterState::Alive);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| subscriber.wait_publisher_gone(PATIENCE).unwrap());
            // Now and then the wait begins before, at, or after the end.
            thread::sleep(Duration::from_micros(u64::from(round) % 5 * 100));
            let killed = round % 2 == 0;
            if killed {
                process.kill()
            } else {
                process.finish()
            }
            let start = Instant::now();
            assert!(waiter.join().unwrap());
            assert!(start.elapsed() < PATIENCE / 10, "noticed after {:?}", start.elapsed());
            assert_eq!(subscriber.publisher(), if killed { WriterState::Gone } else { WriterState::Closed });
        });
    }
}

/// The kernel tells that a dying process's file is closed before it drops the locks, and may leave it at that for long.
#[test]
fn a_publisher_whose_lock_goes_late_is_missed_soon_after() {
    let domain = Domain::new();
    drop(domain.bytes().open("t").unwrap());
    let subscriber = domain.subscriber().open("t").unwrap();
    // What is left of the publisher: an open file with a lock.
    let open = || std::fs::File::options().read(true).write(true).open(domain.file("t")).unwrap();
    let dying = open();
    lock_writer(&dying, libc::F_WRLCK);
    assert_eq!(subscriber.publisher(), WriterState::Alive);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| subscriber.wait_publisher_gone(PATIENCE).unwrap());
        thread::sleep(Duration::from_millis(500));
        // The report, and much later, of which nothing is reported, the lock.
        drop(open());
        thread::sleep(Duration::from_millis(1000));
        assert!(!waiter.is_finished());
        lock_writer(&dying, libc::F_UNLCK);
        let start = Instant::now();
        assert!(waiter.join().unwrap());
        assert!(start.elapsed() < PATIENCE / 10, "noticed after {:?}", start.elapsed());
    });
}

/// Takes the publisher's byte (docs/shm-layout.md), or gives it back.
fn lock_writer(file: &std::fs::File, kind: i32) {
    // SAFETY: a C struct of integers, for which zero is a value; the call reads it, for an open file.
    unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = kind as _;
        lock.l_start = 64;
        lock.l_len = 1;
        assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock), 0);
    }
}

#[test]
fn who_waited_for_a_topic_misses_none_of_its_messages() {
    for kind in KINDS {
        let domain = Domain::new();
        let waiting = domain.subscriber().wait_forever();
        let (sender, receiver) = channel();
        let thread = thread::spawn(move || {
            sender.send(thread_id()).unwrap();
            let mut subscriber = waiting.open("t").unwrap();
            [(); 3].map(|()| subscriber.recv().unwrap().sequence())
        });
        let tid = receiver.recv().unwrap();
        eventually("a subscriber that waits", || is_asleep(tid));
        let mut publisher = domain.publisher_of(kind, LEN).open("t").unwrap();
        for sequence in 0..3 {
            publisher.publish(&message(LEN, sequence)).unwrap();
        }
        assert_eq!(thread.join().unwrap(), [0, 1, 2]);
    }
}
