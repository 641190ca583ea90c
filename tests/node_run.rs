//! Nodes: what is called back, by which thread, in which order; what a panic, a stop and a late timer come to.
#![cfg(feature = "std")]

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use conduit::node::{self, Joined, Node, NodeOptions, Priority, Report, Stopper, Threads};
use conduit::topic::{Overflow, SlotKind};
use conduit::{Error, Publisher};
use support::{Domain, KINDS, Left, PATIENCE, Right, eventually, in_time, is_asleep, rounds, thread_id};

/// A node that has no signals, as several run at a time.
fn options(domain: &Domain) -> NodeOptions {
    Node::options().domain(domain.name()).signals(false)
}

/// A node that runs in a thread of the test's. Stopped when dropped.
struct Running {
    stopper: Stopper,
    thread: Option<JoinHandle<Result<Report, Error>>>,
}

impl Running {
    fn start(node: Node<'static>) -> Self {
        Running { stopper: node.stopper(), thread: Some(thread::spawn(move || node.run())) }
    }

    fn stop(mut self) -> Report {
        self.stopper.stop();
        self.join()
    }

    /// Waits until it ends by itself.
    fn join(&mut self) -> Report {
        let thread = self.thread.take().unwrap();
        in_time("the end of a node", || thread.join().unwrap().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[track_caller]
fn next<T>(events: &Receiver<T>) -> T {
    events.recv_timeout(PATIENCE).expect("something comes")
}

fn monotonic() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The name of the calling thread, as the system knows it.
fn comm() -> String {
    std::fs::read_to_string("/proc/thread-self/comm").unwrap().trim_end().into()
}

// ---------------------------------------------------------------------------------------------------------------------
// Messages

#[test]
fn one_thread_calls_back_for_all_topics_in_the_order_of_messages_and_topics_in_turn() {
    for kind in KINDS {
        let domain = Domain::new();
        let topics = ["a", "b", "c"];
        let open = |topic: &&str| domain.publisher_of(kind, 8).depth(100).open(topic).unwrap();
        let mut publishers: Vec<_> = topics.iter().map(open).collect();
        // What callbacks share may be borrowed.
        let called = Mutex::new(Vec::<(usize, u64, ThreadId)>::new());
        let names = Mutex::new(HashSet::new());
        let busy = AtomicBool::new(false);
        let mut node = options(&domain).build("listener").unwrap();
        let stopper = node.stopper();
        for (at, topic) in topics.into_iter().enumerate() {
            let (called, names, busy, stopper) = (&called, &names, &busy, stopper.clone());
            node.subscribe::<[u8]>(topic, move |message| {
                assert!(!busy.swap(true, Ordering::AcqRel), "two at a time");
                let number = u64::from_le_bytes(message[..].try_into().unwrap());
                assert_eq!((number, message.lagged()), (message.sequence(), 0));
                names.lock().unwrap().insert(comm());
                let mut called = called.lock().unwrap();
                called.push((at, number, thread::current().id()));
                if called.len() == 3 * 40 {
                    stopper.stop();
                }
                busy.store(false, Ordering::Release);
            })
            .unwrap();
        }
        for number in 0..40u64 {
            for publisher in &mut publishers {
                publisher.publish(&number.to_le_bytes()).unwrap();
            }
        }
        let report = node.run().unwrap();
        let called = called.into_inner().unwrap();
        assert!(called.iter().all(|(_, _, thread)| *thread == called[0].2), "one thread");
        assert_eq!(names.into_inner().unwrap(), HashSet::from(["listener".into()]));
        for (at, (topic, subscription)) in topics.iter().zip(&report.subscriptions).enumerate() {
            let of_topic = called.iter().filter(|(topic, ..)| *topic == at);
            assert!(of_topic.map(|(_, number, _)| *number).eq(0..40), "{topic}: in order");
            assert_eq!((subscription.topic.as_str(), subscription.messages, subscription.lost), (*topic, 40, 0));
        }
        // No topic has all of its messages delivered before another has its turn.
        let turns: Vec<usize> = called.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).collect();
        assert!(turns.iter().all(|turn| *turn <= 16) && called[16].0 == 1, "{turns:?}");
    }
}

#[test]
fn typed_messages_come_with_their_sequence_and_their_loss() {
    let domain = Domain::new();
    let mut publisher = domain.publisher::<Left>().depth(4).open("t").unwrap();
    let mut seen = Vec::new();
    let mut node = options(&domain).build("n").unwrap();
    let (stopper, seen_by_node) = (node.stopper(), &mut seen);
    node.subscribe::<Left>("t", move |message| {
        seen_by_node.push((message.sequence(), message.value, message.lagged(), message.timestamp().is_some()));
        if message.sequence() == 9 {
            stopper.stop();
        }
    })
    .unwrap();
    for number in 0..10 {
        publisher.publish(&Left { value: f64::from(number) }).unwrap();
    }
    let report = node.run().unwrap();
    let lost: u64 = seen.iter().map(|(_, _, lagged, _)| lagged).sum();
    assert!(lost > 0 && lost + seen.len() as u64 == 10, "{seen:?}");
    assert!(seen.iter().all(|(sequence, value, _, timed)| *value == *sequence as f64 && *timed));
    assert_eq!((report.subscriptions[0].messages, report.subscriptions[0].lost), (seen.len() as u64, lost));
}

#[test]
fn with_a_thread_each_callbacks_of_different_topics_and_timers_run_at_the_same_time() {
    let domain = Domain::new();
    let mut publishers = ["left", "right"].map(|topic| domain.bytes().open(topic).unwrap());
    let mut node = options(&domain).threads(Threads::Each).build("arm").unwrap();
    // Passed only by three callbacks that are called at the same time.
    let meeting = Arc::new(Barrier::new(3));
    let (said, names) = channel();
    let callback = |once: &mut bool, meeting: &Barrier, said: &Sender<String>| {
        if !std::mem::replace(once, true) {
            meeting.wait();
            said.send(comm()).unwrap();
        }
    };
    for topic in ["left", "right"] {
        let (meeting, said, mut once) = (meeting.clone(), said.clone(), false);
        node.subscribe::<[u8]>(topic, move |_| callback(&mut once, &meeting, &said)).unwrap();
    }
    let mut once = false;
    node.every(Duration::from_millis(1), move |_| callback(&mut once, &meeting, &said)).unwrap();
    for publisher in &mut publishers {
        publisher.publish(b"go").unwrap();
    }
    let running = Running::start(node);
    let names: HashSet<_> = (0..3).map(|_| next(&names)).collect();
    assert_eq!(names, ["arm/left", "arm/right", "arm/1ms"].map(String::from).into());
    let report = running.stop();
    assert_eq!(report.subscriptions.iter().map(|s| s.messages).collect::<Vec<_>>(), [1, 1]);
}

/// Nobody waits for topics that are still to come, and of one that comes nothing is missed.
#[test]
fn a_topic_that_comes_later_is_received_from_its_first_message_on() {
    for threads in [Threads::One, Threads::Each] {
        let domain = Domain::new();
        let mut early = domain.bytes().open("early").unwrap();
        let mut node = options(&domain).threads(threads).build("n").unwrap();
        let (send, seen) = channel();
        for topic in ["late", "early"] {
            let send = send.clone();
            node.subscribe::<[u8]>(topic, move |message| {
                send.send((topic, message.sequence(), message.to_vec())).unwrap();
            })
            .unwrap();
        }
        let running = Running::start(node);
        early.publish(b"already").unwrap();
        assert_eq!(next(&seen), ("early", 0, b"already".to_vec()));
        let state = || node::inspect(Some(domain.name()), "n").unwrap().subscriptions.into_iter().map(|s| s.joined);
        assert_eq!(state().collect::<Vec<_>>(), [Joined::Awaited, Joined::Yes]);
        let mut late = domain.bytes().open("late").unwrap();
        late.publish(b"first").unwrap();
        assert_eq!(next(&seen), ("late", 0, b"first".to_vec()));
        assert_eq!(state().collect::<Vec<_>>(), [Joined::Yes; 2]);
        // The node sleeps between these.
        late.publish(b"second").unwrap();
        assert_eq!(next(&seen), ("late", 1, b"second".to_vec()));
        let report = running.stop();
        assert_eq!(report.subscriptions.iter().map(|s| (s.messages, s.lost)).collect::<Vec<_>>(), [(2, 0), (1, 0)]);
    }
}

#[test]
fn a_subscription_outlives_its_publishers_whatever_shape_their_topic_has() {
    let domain = Domain::new();
    let shape = |depth| domain.publisher::<Left>().depth(depth);
    let mut publisher = shape(4).open("t").unwrap();
    let mut node = options(&domain).build("n").unwrap();
    let (send, seen) = channel();
    node.subscribe::<Left>("t", move |message| send.send((message.sequence(), message.lagged())).unwrap()).unwrap();
    let running = Running::start(node);
    for (number, depth) in [4, 4, 64, 8, 8].into_iter().enumerate() {
        publisher.publish(&Left::default()).unwrap();
        assert_eq!(next(&seen), (number as u64, 0));
        drop(publisher);
        publisher = shape(depth).open("t").unwrap();
    }
    let report = running.stop();
    assert_eq!((report.subscriptions[0].messages, report.subscriptions[0].lost), (5, 0));
}

#[test]
fn a_topic_of_another_type_is_refused_until_one_that_fits_takes_its_place() {
    for with_timer in [true, false] {
        refused_until_it_fits(with_timer);
    }
}

fn refused_until_it_fits(with_timer: bool) {
    let domain = Domain::new();
    let mut node = options(&domain).build("n").unwrap();
    let (send, seen) = channel();
    let tick = send.clone();
    node.subscribe::<Left>("t", move |message| send.send(message.value).unwrap()).unwrap();
    // Others are called back meanwhile.
    if with_timer {
        node.every(Duration::from_millis(1), move |_| _ = tick.send(-1.0)).unwrap();
    }
    let running = Running::start(node);
    let joined = || node::inspect(Some(domain.name()), "n").map(|info| info.subscriptions[0].joined);
    let reaches = |state| eventually("the subscription's state", || matches!(joined(), Ok(now) if now == state));
    let message = |value| loop {
        match next(&seen) {
            -1.0 => {}
            other => return assert_eq!(other, value),
        }
    };
    reaches(Joined::Awaited);
    let publisher = domain.publisher::<Right>().open("t").unwrap();
    reaches(Joined::Refused);
    drop(publisher);
    let mut publisher = domain.publisher::<Left>().open("t").unwrap();
    publisher.publish(&Left { value: 1.0 }).unwrap();
    message(1.0);
    assert_eq!(joined().unwrap(), Joined::Yes);
    // Of a topic that it has, too.
    drop(publisher);
    let publisher = domain.publisher::<Right>().open("t").unwrap();
    reaches(Joined::Refused);
    if with_timer {
        while seen.try_recv().is_ok() {}
        next(&seen);
    }
    drop(publisher);
    let mut publisher = domain.publisher::<Left>().open("t").unwrap();
    publisher.publish(&Left { value: 2.0 }).unwrap();
    message(2.0);
    drop(publisher);
    let _publisher = domain.publisher::<Right>().open("t").unwrap();
    reaches(Joined::Refused);
    let report = running.stop();
    let subscription = &report.subscriptions[0];
    assert_eq!((subscription.messages, subscription.lost), (2, 0));
    assert!(subscription.refused.as_ref().unwrap().contains("test_msgs/msg/Right"), "{subscription:?}");
}

#[test]
fn a_topic_that_cannot_be_had_when_it_is_asked_for_is_an_error_at_once() {
    let domain = Domain::new();
    let _publisher = domain.publisher::<Right>().open("t").unwrap();
    let mut node = options(&domain).build("n").unwrap();
    let error = node.subscribe::<Left>("t", |_| {}).unwrap_err();
    assert!(matches!(error, Error::SchemaMismatch { .. }), "{error}");
    let error = node.subscribe::<Left>("a b", |_| {}).unwrap_err();
    assert!(matches!(error, Error::InvalidTopic { .. }), "{error}");
}

/// More than one system call can watch, so that helper threads sleep in its place.
#[test]
fn a_node_may_have_more_topics_than_one_system_call_takes() {
    let domain = Domain::new();
    let mut publishers: Vec<_> =
        (0..130).map(|at| domain.publisher_of(SlotKind::Words, 8).open(&format!("t/{at}")).unwrap()).collect();
    let mut node = options(&domain).build("n").unwrap();
    let (send, seen) = channel();
    for at in 0..130 {
        let send = send.clone();
        node.subscribe::<[u8]>(&format!("t/{at}"), move |_| send.send(at).unwrap()).unwrap();
    }
    let running = Running::start(node);
    for _ in 0..rounds(30) {
        for at in [0, 129, 64, 127] {
            publishers[at].publish(&[0; 8]).unwrap();
            assert_eq!(next(&seen), at);
        }
    }
    running.stop();
}

// ---------------------------------------------------------------------------------------------------------------------
// Panics

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("on purpose: when dropped");
    }
}

#[test]
fn a_callback_that_panics_is_contained_and_counted_and_keeps_its_state() {
    for threads in [Threads::One, Threads::Each] {
        let domain = Domain::new();
        let mut publisher = domain.bytes().open("t").unwrap();
        let mut node = options(&domain).threads(threads).build("n").unwrap();
        let (send, seen) = channel();
        let mut calls = 0;
        node.subscribe::<[u8]>("t", move |message| {
            calls += 1;
            match message.sequence() {
                1 => panic!("on purpose: text"),
                2 => std::panic::panic_any(7),
                3 => std::panic::panic_any(PanicsWhenDropped),
                sequence => send.send((sequence, calls)).unwrap(),
            }
        })
        .unwrap();
        let (send, ticks) = channel();
        let mut calls = 0;
        node.every(Duration::from_millis(1), move |_| {
            calls += 1;
            assert!(calls > 2, "on purpose: a tick");
            let _ = send.send(());
        })
        .unwrap();
        let running = Running::start(node);
        for _ in 0..5 {
            publisher.publish(b"message").unwrap();
        }
        assert_eq!(next(&seen), (0, 1));
        assert_eq!(next(&seen), (4, 5));
        next(&ticks);
        let info = node::inspect(Some(domain.name()), "n").unwrap();
        assert_eq!((info.subscriptions[0].panics, info.subscriptions[0].messages), (3, 5));
        assert_eq!((info.timers[0].panics, info.panics()), (2, 5));
        let report = running.stop();
        assert_eq!((report.subscriptions[0].panics, report.subscriptions[0].messages), (3, 5));
        assert_eq!(report.timers[0].panics, 2);
    }
}

#[test]
fn a_callback_whose_state_panics_when_it_is_dropped_does_not_keep_the_node_from_ending() {
    let domain = Domain::new();
    let mut node = options(&domain).build("n").unwrap();
    let state = PanicsWhenDropped;
    node.subscribe::<[u8]>("t", move |_| {
        let _ = &state;
    })
    .unwrap();
    let dropped = Arc::new(());
    let (held, stopper) = (dropped.clone(), node.stopper());
    node.every(Duration::from_millis(1), move |_| {
        let _ = &held;
        stopper.stop();
    })
    .unwrap();
    let report = node.run().unwrap();
    assert_eq!((report.subscriptions[0].panics, report.timers[0].panics), (1, 0));
    assert_eq!(Arc::strong_count(&dropped), 1, "the others were dropped all the same");
}

// ---------------------------------------------------------------------------------------------------------------------
// Timers

#[test]
fn ticks_keep_to_their_deadlines_and_each_is_run_or_counted_as_missed() {
    for period in [Duration::from_millis(1), Duration::from_micros(1700)] {
        let domain = Domain::new();
        let mut ticks = Vec::new();
        let mut node = options(&domain).build("n").unwrap();
        let (stopper, seen) = (node.stopper(), &mut ticks);
        let last = u64::from(rounds(1000));
        node.every(period, move |tick| {
            // SAFETY: takes integers only.
            let slack = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
            seen.push((tick, monotonic(), slack));
            if tick.number() >= last {
                stopper.stop();
            }
        })
        .unwrap();
        let report = node.run().unwrap();
        // Where the first deadline would have been zero periods ago.
        let start = ticks[0].0.scheduled() - period * ticks[0].0.number() as u32;
        let mut accounted = 0;
        for (tick, now, slack) in &ticks {
            assert_eq!(*slack, 1, "sleeps end when they should");
            accounted += 1 + tick.missed();
            assert_eq!(tick.number(), accounted, "no deadline is forgotten");
            assert_eq!(tick.scheduled(), start + period * tick.number() as u32, "no drift");
            assert!(*now >= tick.scheduled() + tick.late() && tick.late() < period, "neither early nor missed");
        }
        let missed: u64 = ticks.iter().map(|(tick, ..)| tick.missed()).sum();
        assert_eq!((report.timers[0].ticks, report.timers[0].overruns), (ticks.len() as u64, missed));
        assert_eq!(report.timers[0].period, period);
    }
}

/// The callback goes on until the time of three more ticks is over, however long that takes.
#[test]
fn a_callback_that_takes_longer_than_its_period_is_told_how_many_ticks_were_skipped() {
    let domain = Domain::new();
    let period = Duration::from_millis(2);
    let mut ticks = Vec::new();
    let mut node = options(&domain).build("n").unwrap();
    let (stopper, seen) = (node.stopper(), &mut ticks);
    node.every(period, move |tick| {
        seen.push(tick);
        if seen.len() == 1 {
            while monotonic() < tick.scheduled() + 4 * period {
                thread::sleep(Duration::from_millis(1));
            }
        } else {
            stopper.stop();
        }
    })
    .unwrap();
    let report = node.run().unwrap();
    let (blocked, told) = (ticks[0], ticks[1]);
    assert!(told.missed() >= 3, "{told:?}");
    assert_eq!(told.number(), blocked.number() + told.missed() + 1);
    assert_eq!(told.scheduled() - blocked.scheduled(), period * (told.missed() + 1) as u32, "still on the grid");
    assert_eq!((report.timers[0].ticks, report.timers[0].overruns), (2, blocked.missed() + told.missed()));
}

#[test]
fn a_topic_that_never_falls_silent_does_not_hold_up_timers() {
    let domain = Domain::new();
    let mut own = domain.publisher_of(SlotKind::Words, 8).open("t").unwrap();
    own.publish(&[0; 8]).unwrap();
    let messages = AtomicU64::new(0);
    let mut node = options(&domain).build("n").unwrap();
    let stopper = node.stopper();
    node.subscribe_with::<[u8]>("t", conduit::Subscriber::options().start(conduit::topic::Start::Oldest), |_| {
        messages.fetch_add(1, Ordering::Relaxed);
        // There is always one more.
        own.publish(&[0; 8]).unwrap();
    })
    .unwrap();
    node.every(Duration::from_millis(1), move |tick| {
        if tick.number() > 20 {
            stopper.stop();
        }
    })
    .unwrap();
    let report = in_scope_time(|| node.run().unwrap());
    assert_eq!(report.subscriptions[0].messages, messages.load(Ordering::Relaxed));
    assert!(report.subscriptions[0].messages > 20, "{report:?}");
}

/// Runs what borrows; the process ends if it hangs, as the borrow can't be given up.
fn in_scope_time<R>(body: impl FnOnce() -> R) -> R {
    let (done, is_done) = channel::<()>();
    let guard = thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("hangs");
            std::process::abort();
        }
    });
    let result = body();
    drop(done);
    guard.join().unwrap();
    result
}

#[test]
fn a_timer_without_a_period_is_refused() {
    let domain = Domain::new();
    let mut node = options(&domain).build("n").unwrap();
    for period in [Duration::ZERO, Duration::MAX] {
        let error = node.every(period, |_| {}).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "period", .. }), "{error}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The end

#[test]
fn after_a_stop_from_a_callback_no_other_is_called_and_what_they_own_is_dropped() {
    let domain = Domain::new();
    let mut publisher = domain.bytes().depth(8).open("t").unwrap();
    let mut node = options(&domain).build("n").unwrap();
    let mut own: Publisher<[u8]> = node.advertise("own").unwrap();
    let stopper = node.stopper();
    node.subscribe::<[u8]>("t", move |_| {
        own.publish(b"answer").unwrap();
        stopper.stop();
    })
    .unwrap();
    for _ in 0..3 {
        publisher.publish(b"go").unwrap();
    }
    let mut running = Running::start(node);
    assert_eq!(running.join().subscriptions[0].messages, 1, "those behind it are not called back for");
    let own = conduit::topic::inspect(Some(domain.name()), "own").unwrap();
    assert_eq!((own.published, own.writer), (1, conduit::topic::WriterState::Closed));
    let of_t = conduit::topic::inspect(Some(domain.name()), "t").unwrap();
    assert!(of_t.subscribers.is_empty(), "{of_t:?}");
    assert_eq!(node::list(Some(domain.name())).unwrap(), []);
}

#[test]
fn a_node_that_is_stopped_before_it_runs_ends_at_once() {
    for threads in [Threads::One, Threads::Each] {
        let domain = Domain::new();
        let mut publisher = domain.bytes().open("t").unwrap();
        let mut node = options(&domain).threads(threads).build("n").unwrap();
        node.subscribe::<[u8]>("t", |_| panic!("not called")).unwrap();
        node.every(Duration::from_nanos(1), |_| panic!("not called")).unwrap();
        publisher.publish(b"there").unwrap();
        node.stopper().stop();
        assert!(node.stopper().is_stopped());
        let report = Running::start(node).join();
        assert_eq!((report.subscriptions[0].messages, report.timers[0].ticks, report.signal), (0, 0, None));
    }
}

#[test]
fn stopping_from_another_thread_wakes_a_node_however_it_sleeps() {
    for round in 0..rounds(200) {
        let domain = Domain::new();
        let threads = if round % 2 == 0 { Threads::One } else { Threads::Each };
        let mut node = options(&domain).threads(threads).build("n").unwrap();
        let mut publisher = domain.bytes().open("t").unwrap();
        let (send, called) = channel();
        if round % 3 != 0 {
            node.subscribe::<[u8]>("awaited", |_| {}).unwrap();
            node.subscribe::<[u8]>("t", move |_| send.send(thread_id()).unwrap()).unwrap();
            node.every(Duration::from_secs(3600), |_| {}).unwrap();
        }
        let running = Running::start(node);
        if round % 3 == 1 {
            // Once it has something to do; in the other rounds it may just be starting.
            publisher.publish(b"message").unwrap();
            let thread = next(&called);
            eventually("the node sleeps", || is_asleep(thread));
        }
        running.stop();
    }
}

#[test]
fn a_publisher_that_waits_for_room_in_a_callback_does_not_keep_the_node_from_ending() {
    let domain = Domain::new();
    let mut node = options(&domain).build("n").unwrap();
    let lossless = Publisher::<[u8]>::options().overflow(Overflow::Block).depth(1);
    let mut publisher = node.advertise_with("lossless", lossless).unwrap();
    let _never_reads = domain.subscriber().open("lossless").unwrap();
    let (send, full) = channel();
    node.every(Duration::from_millis(1), move |_| {
        loop {
            match publisher.publish_timeout(b"message", Duration::from_millis(1)) {
                Ok(_) => {}
                Err(Error::TimedOut { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        send.send(None).unwrap();
        send.send(Some(publisher.publish(b"one too many").unwrap_err())).unwrap();
    })
    .unwrap();
    let running = Running::start(node);
    assert!(next(&full).is_none());
    running.stop();
    let end = full.try_iter().next();
    assert!(matches!(end, Some(Some(Error::Stopped { .. }))), "{end:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Names, places, rights

#[test]
fn a_name_stands_for_one_node_of_a_domain_at_a_time() {
    let (domain, other) = (Domain::new(), Domain::new());
    let node = |domain: &Domain| options(domain).build("n").unwrap();
    let first = Running::start(node(&domain));
    eventually("the node runs", || node::inspect(Some(domain.name()), "n").is_ok());
    let error = node(&domain).run().unwrap_err();
    assert!(matches!(error, Error::NodeExists { pid, .. } if pid == std::process::id()), "{error}");
    let elsewhere = Running::start(node(&other));
    elsewhere.stop();
    first.stop();
    Running::start(node(&domain)).stop();
    for name in ["", "a b", "a//b", "a@b", "../x"] {
        let error = options(&domain).build(name).unwrap_err();
        assert!(matches!(error, Error::InvalidNode { .. }), "{name}: {error}");
    }
    let error = Node::options().domain("a b").build("n").unwrap_err();
    assert!(matches!(error, Error::InvalidDomain { .. }), "{error}");
}

#[test]
fn the_file_of_a_node_is_no_topics() {
    let domain = Domain::new();
    let running = Running::start(options(&domain).build("arm/left").unwrap());
    eventually("the node runs", || node::list(Some(domain.name())).unwrap().len() == 1);
    assert_eq!(node::list(Some(domain.name())).unwrap(), [(domain.name().into(), "arm/left".into())]);
    assert_eq!(conduit::topic::list(Some(domain.name())).unwrap(), []);
    assert!(conduit::topic::clean(Some(domain.name()), false).unwrap().is_empty());
    assert!(node::clean(Some(domain.name()), false).unwrap().is_empty(), "it runs");
    running.stop();
    assert_eq!(domain.files(), [""; 0]);
}

#[test]
fn threads_are_kept_on_the_cpu_that_was_asked_for() {
    let domain = Domain::new();
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let cpus: Vec<_> = (0..1024).filter(|cpu| allowed.is_set(*cpu)).collect();
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    let mut node = options(&domain).threads(Threads::Each).cpu(first).build("n").unwrap();
    let (send, seen) = channel();
    for (timer, cpu) in [(1, None), (2, Some(last))] {
        let send = send.clone();
        let placement = node.every(Duration::from_millis(timer), move |_| {
            let on = rustix::thread::sched_getaffinity(None).unwrap();
            let _ = send.send((timer, (0..1024).filter(|cpu| on.is_set(*cpu)).collect::<Vec<_>>()));
        });
        let placement = placement.unwrap();
        if let Some(cpu) = cpu {
            placement.cpu(cpu);
        }
    }
    let running = Running::start(node);
    let seen: HashSet<_> = (0..100).map(|_| next(&seen)).collect();
    assert_eq!(seen, HashSet::from([(1, vec![first]), (2, vec![last])]));
    running.stop();
    assert_eq!(rustix::thread::sched_getaffinity(None).unwrap(), allowed, "this thread may run where it could");
}

#[test]
fn a_place_that_cannot_be_is_an_error_before_any_callback() {
    let domain = Domain::new();
    let with_timer = |options: NodeOptions| -> Result<Report, Error> {
        let called = AtomicBool::new(false);
        let mut node = options.build("n")?;
        node.every(Duration::from_nanos(1), |_| called.store(true, Ordering::Relaxed))?;
        let result = node.run();
        assert!(!called.load(Ordering::Relaxed), "called back");
        result
    };
    let error = with_timer(options(&domain).cpu(1023)).unwrap_err();
    assert!(error.to_string().contains("CPU 1023") && error.to_string().contains("taskset"), "{error}");
    for options in [
        options(&domain).cpu(5000),
        options(&domain).priority(Priority::Nice(20)),
        options(&domain).priority(Priority::Fifo(0)),
        options(&domain).priority(Priority::Fifo(100)),
    ] {
        let error = with_timer(options).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "cpu" | "priority", .. }), "{error}");
    }
    let mut node = options(&domain).build("n").unwrap();
    node.every(Duration::from_millis(1), |_| {}).unwrap().cpu(0);
    let error = node.run().unwrap_err();
    assert!(error.to_string().contains("Threads::Each"), "{error}");
    assert_eq!(domain.files(), [""; 0]);
}

#[test]
fn a_nice_thread_is_nice_and_no_other_is() {
    let domain = Domain::new();
    let nice = || rustix::process::getpriority_process(None).unwrap();
    let before = nice();
    let mut node = options(&domain).priority(Priority::Nice(19)).build("n").unwrap();
    let (send, seen) = channel();
    node.every(Duration::from_millis(1), move |_| _ = send.send(nice())).unwrap();
    let running = Running::start(node);
    assert_eq!(next(&seen), 19);
    running.stop();
    assert_eq!(nice(), before);
}
