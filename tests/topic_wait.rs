//! Waiting for several topics: wait sets, async code, descriptors; each also on a kernel without `futex_waitv`.
#![cfg(feature = "std")]

mod support;

use std::future::Future;
use std::io::Error as IoError;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use conduit::topic::{AsyncSubscriber, Key, PollSubscriber, SlotKind, Start, WaitSet};
use conduit::{Error, Publisher, Subscriber};
use support::{
    Domain, KINDS, LEN, Noise, PATIENCE, Process, Stream, Unpark, block_on, eventually, hear, in_time, is_asleep,
    message, rounds, run_role, say, thread_id,
};

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    run_role(&[("all_without_waitv", all_without_waitv)]);
}

/// What is promised of waiting, whatever the kernel can do.
const PROMISES: [(&str, fn()); 14] = [
    ("a set names who has something, in the order of attaching", ready_in_order),
    ("a set ends with its timeout", set_timeout),
    ("who is detached or dropped is in the set no more", leaving),
    ("a set loses no wake-up", set_wakes),
    ("a set is woken by whoever has its waker", set_woken),
    ("a set may be larger than one system call takes", large_set),
    ("a set wakes for topics that are replaced or made anew", set_follows),
    ("a future wakes its task", future_wakes),
    ("many tasks wait at a time", many_tasks),
    ("a future that is dropped takes nothing with it", cancelled),
    ("a future follows its topic", future_follows),
    ("a descriptor is readable while there is something", descriptor_readiness),
    ("a descriptor loses no wake-up", descriptor_wakes),
    ("waiting ends with its subscriber", dropped_while_armed),
];

#[test]
fn promises_of_waiting_hold() {
    for (promise, check) in PROMISES {
        in_time(promise, check);
    }
}

/// A wake ends one wait, also if it comes first, and takes nothing from the messages.
fn set_woken() {
    let domain = Domain::new();
    let mut publisher = domain.bytes().open("t").unwrap();
    let mut subscriber = domain.subscriber().open("t").unwrap();
    let mut set = WaitSet::new();
    let waker = set.waker();
    waker.wake();
    waker.wake();
    assert_eq!(set.wait().unwrap(), [], "a wake that came before");
    let key = set.attach(&subscriber);
    let (tell, told) = channel();
    let wakes = thread::spawn(move || {
        for thread in told {
            eventually("the set sleeps", || is_asleep(thread));
            waker.wake();
        }
    });
    for round in 0..u64::from(rounds(100)) {
        tell.send(thread_id()).unwrap();
        assert_eq!(set.wait().unwrap(), [], "woken while it slept");
        publisher.publish(&message(LEN, round)).unwrap();
        assert_eq!(set.wait().unwrap(), [key]);
        assert!(subscriber.try_recv().unwrap().is_some());
    }
    drop(tell);
    wakes.join().unwrap();
    drop(subscriber);
    assert_eq!(set.wait_timeout(Duration::ZERO).unwrap(), [], "nobody left, and no wake");
}

/// `CONDUIT_NO_WAITV` has the library do without.
#[test]
fn promises_of_waiting_hold_without_the_call_for_several_words() {
    let mut command = Process::command("all_without_waitv", &["told"]);
    command.env("CONDUIT_NO_WAITV", "1");
    follow(Process::spawn("all_without_waitv", command));
}

/// A filter has the kernel answer as one before Linux 5.16.
#[test]
fn promises_of_waiting_hold_on_a_kernel_without_the_call() {
    follow(Process::start("all_without_waitv", &["refused"]));
}

fn follow(mut process: Process) {
    process.expect("ready");
    for (promise, _) in PROMISES {
        process.expect(promise);
    }
    process.finish();
}

fn all_without_waitv(args: &[&str]) {
    let waitv = || {
        // SAFETY: no words are handed in, so the kernel reads none.
        let result = unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
        (result, IoError::last_os_error().raw_os_error())
    };
    if args[0] == "refused" {
        refuse_waitv();
        assert_eq!(waitv(), (-1, Some(libc::ENOSYS)), "the filter does not work");
    }
    say("ready");
    for (promise, check) in PROMISES {
        in_time(promise, check);
        say(promise);
    }
    while hear().is_some() {}
}

fn refuse_waitv() {
    let statement = |code, k, jt, jf| libc::sock_filter { code, k, jt, jf };
    let mut filter = [
        // The number of the call, the first word of `seccomp_data`.
        statement((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        statement((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, libc::SYS_futex_waitv as u32, 0, 1),
        statement((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0, 0),
        statement((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid for the call, which copies it.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC, &program)
    };
    assert_eq!(result, 0, "{}", IoError::last_os_error());
}

// ---------------------------------------------------------------------------------------------------------------------

struct Pair {
    publisher: Publisher<[u8]>,
    subscriber: Subscriber<[u8]>,
}

fn pairs(domain: &Domain, count: usize) -> Vec<Pair> {
    let open = |at: usize| {
        let publisher =
            domain.publisher_of(KINDS[at % 2], LEN).depth(4).subscribers(2).open(&format!("t{at}")).unwrap();
        Pair { publisher, subscriber: domain.subscriber().open(&format!("t{at}")).unwrap() }
    };
    (0..count).map(open).collect()
}

fn publish(publisher: &mut Publisher<[u8]>) {
    let next = publisher.next_sequence();
    publisher.publish(&message(LEN, next)).unwrap();
}

fn take(subscriber: &mut Subscriber<[u8]>) -> Option<u64> {
    let sample = subscriber.try_recv().unwrap()?;
    assert_eq!(support::number(&sample), Ok(sample.sequence()));
    Some(sample.sequence())
}

// ---------------------------------------------------------------------------------------------------------------------
// Wait sets

fn ready_in_order() {
    let domain = Domain::new();
    let mut pairs = pairs(&domain, 5);
    let mut set = WaitSet::new();
    assert_eq!(set.wait().unwrap(), [], "an empty set has nothing to wait for");
    let keys: Vec<_> = pairs.iter().map(|pair| set.attach(&pair.subscriber)).collect();
    for (publish_to, expected) in
        [(vec![3], vec![3]), (vec![4, 0], vec![0, 4]), (vec![2, 1, 0, 3, 4], vec![0, 1, 2, 3, 4])]
    {
        publish_to.iter().for_each(|&at| publish(&mut pairs[at].publisher));
        let expected: Vec<_> = expected.into_iter().map(|at: usize| keys[at]).collect();
        // Until somebody receives, the answer stays.
        for _ in 0..2 {
            assert_eq!(set.wait().unwrap(), expected);
            assert_eq!(set.wait_timeout(Duration::ZERO).unwrap(), expected);
        }
        for pair in &mut pairs {
            while take(&mut pair.subscriber).is_some() {}
        }
        assert_eq!(set.wait_timeout(Duration::ZERO).unwrap(), []);
    }
}

fn set_timeout() {
    let domain = Domain::new();
    let pairs = pairs(&domain, 3);
    let mut set = WaitSet::new();
    for pair in &pairs {
        set.attach(&pair.subscriber);
    }
    for timeout in [0, 1, 30].map(Duration::from_millis) {
        let start = Instant::now();
        assert_eq!(set.wait_timeout(timeout).unwrap(), []);
        assert!(start.elapsed() >= timeout);
    }
}

fn leaving() {
    let domain = Domain::new();
    let mut pairs = pairs(&domain, 4);
    let mut set = WaitSet::new();
    let keys: Vec<_> = pairs.iter().map(|pair| set.attach(&pair.subscriber)).collect();
    assert_eq!(set.wait_timeout(Duration::from_millis(2)).unwrap(), []);
    set.detach(keys[1]);
    set.detach(keys[1]);
    let Pair { mut publisher, subscriber } = pairs.remove(2);
    drop(subscriber);
    for pair in &mut pairs {
        publish(&mut pair.publisher);
    }
    publish(&mut publisher);
    assert_eq!(set.wait().unwrap(), [keys[0], keys[3]]);
    // Its place is free, although somebody waited for it.
    eventually("a free place", || conduit::topic::inspect(Some(domain.name()), "t2").unwrap().subscribers.is_empty());
    // A subscriber may be in two sets, and twice in one.
    let mut other = WaitSet::new();
    let twice = [other.attach(&pairs[0].subscriber), other.attach(&pairs[0].subscriber)];
    assert_eq!(other.wait().unwrap(), twice);
    assert_eq!(take(&mut pairs[0].subscriber), Some(0));
    assert_eq!(set.wait().unwrap(), [keys[3]]);
}

/// One thread publishes on topics at random and waits for the answer of another, which goes to sleep at any point of that.
fn set_wakes() {
    let domain = Domain::new();
    let rounds = rounds(20_000);
    let mut back = domain.bytes().open("back").unwrap();
    let mut answers = domain.subscriber().open("back").unwrap();
    let (mut publishers, subscribers): (Vec<_>, Vec<_>) =
        pairs(&domain, 7).into_iter().map(|pair| (pair.publisher, pair.subscriber)).unzip();
    let thread = thread::spawn(move || {
        let mut set = WaitSet::new();
        let mut members: Vec<(Key, Subscriber<[u8]>)> =
            subscribers.into_iter().map(|subscriber| (set.attach(&subscriber), subscriber)).collect();
        for _ in 0..rounds {
            let ready = set.wait().unwrap();
            assert_eq!(ready.len(), 1);
            let at = members.iter().position(|(key, _)| *key == ready[0]).unwrap();
            take(&mut members[at].1).unwrap();
            back.publish(&[at as u8]).unwrap();
        }
    });
    let mut noise = Noise::seeded("set_wakes");
    for _ in 0..rounds {
        let at = noise.below(7) as usize;
        if noise.below(4) == 0 {
            thread::sleep(Duration::from_micros(noise.below(100)));
        }
        publish(&mut publishers[at]);
        assert_eq!(*answers.recv().unwrap(), [at as u8]);
    }
    thread.join().unwrap();
}

fn large_set() {
    let domain = Domain::new();
    let mut pairs = pairs(&domain, 200);
    let (ask, asked) = channel::<(u64, WaitSet)>();
    let mut set = WaitSet::new();
    let keys: Vec<_> = pairs.iter().map(|pair| set.attach(&pair.subscriber)).collect();
    let (answer, answered) = channel();
    let thread = thread::spawn(move || {
        for (_, mut set) in asked {
            let ready = set.wait().unwrap();
            answer.send((ready, set)).unwrap();
        }
    });
    let mut noise = Noise::seeded("large_set");
    for round in 0..rounds(500).max(10) {
        // Half of them with the set full, the others with just as many as one call takes, and one less or more.
        if round == rounds(500).max(10) / 2 {
            for key in keys.iter().skip(127) {
                set.detach(*key);
            }
        }
        if round == rounds(500).max(10) * 3 / 4 {
            keys.iter().skip(125).for_each(|key| set.detach(*key));
        }
        let among = if round >= rounds(500).max(10) * 3 / 4 { 125 } else { 127 };
        let among = if round < rounds(500).max(10) / 2 { 200 } else { among };
        let at = match round {
            0 => 0,
            1 => among - 1,
            _ => noise.below(among as u64) as usize,
        };
        ask.send((u64::from(round), set)).unwrap();
        if noise.below(2) == 0 {
            thread::sleep(Duration::from_micros(noise.below(2000)));
        }
        publish(&mut pairs[at].publisher);
        let (ready, returned) = answered.recv_timeout(PATIENCE).unwrap();
        set = returned;
        assert_eq!(ready, [keys[at]]);
        take(&mut pairs[at].subscriber).unwrap();
    }
    drop(ask);
    thread.join().unwrap();
}

fn set_follows() {
    let domain = Domain::new();
    let mut pairs = pairs(&domain, 3);
    let mut set = WaitSet::new();
    let keys: Vec<_> = pairs.iter().map(|pair| set.attach(&pair.subscriber)).collect();
    let Pair { publisher: idle, .. } = &mut pairs[2];
    assert_eq!(idle.next_sequence(), 0);
    for round in 0..6 {
        let tid = Arc::new(AtomicU64::new(0));
        let shared = tid.clone();
        let waiter = thread::spawn(move || {
            shared.store(thread_id(), Ordering::SeqCst);
            let ready = set.wait().unwrap();
            (set, ready)
        });
        if round % 2 == 0 {
            eventually("a waiting thread", || match tid.load(Ordering::SeqCst) {
                0 => false,
                tid => is_asleep(tid),
            });
        }
        let at = round % 2;
        let pair = pairs.remove(at);
        let depth = pair.publisher.geometry().depth;
        let expected = if round < 4 {
            // Another shape.
            let next = pair.publisher.next_sequence();
            drop(pair.publisher);
            next
        } else {
            pair.publisher.remove().unwrap();
            0
        };
        let options = domain.publisher_of(KINDS[(round / 2) % 2], LEN).depth(depth + 1).subscribers(2);
        let mut publisher = options.open(&format!("t{at}")).unwrap();
        publish(&mut publisher);
        let (returned, ready) = waiter.join().unwrap();
        set = returned;
        assert_eq!(ready, [keys[at]]);
        let mut subscriber = pair.subscriber;
        assert_eq!(take(&mut subscriber), Some(expected), "round {round}");
        pairs.insert(at, Pair { publisher, subscriber });
        assert_eq!(set.wait_timeout(Duration::ZERO).unwrap(), []);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Async

fn asynchronous(pair: Pair) -> (Publisher<[u8]>, AsyncSubscriber<[u8]>) {
    (pair.publisher, pair.subscriber.into_async())
}

fn future_wakes() {
    let domain = Domain::new();
    for pair in pairs(&domain, 2) {
        let (mut publisher, mut subscriber) = asynchronous(pair);
        let rounds = rounds(20_000);
        let (answer, answered) = channel();
        let thread = thread::spawn(move || {
            block_on(async {
                for _ in 0..rounds {
                    answer.send(subscriber.recv().await.unwrap().sequence()).unwrap();
                }
            });
        });
        for expected in 0..u64::from(rounds) {
            publish(&mut publisher);
            assert_eq!(answered.recv_timeout(PATIENCE), Ok(expected));
        }
        thread.join().unwrap();
    }
}

struct Queue {
    ready: Mutex<Vec<usize>>,
    thread: thread::Thread,
}

struct Task(usize, Arc<Queue>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.1.ready.lock().unwrap().push(self.0);
        self.1.thread.unpark();
    }
}

/// Two hundred tasks on one thread, each with a topic of its own: more than one system call can wait for.
fn many_tasks() {
    const TASKS: usize = 200;
    const EACH: u64 = 5;
    let domain = Domain::new();
    let (mut publishers, subscribers): (Vec<_>, Vec<_>) = pairs(&domain, TASKS).into_iter().map(asynchronous).unzip();
    let executor = thread::spawn(move || {
        let queue = Arc::new(Queue { ready: Mutex::new((0..TASKS).collect()), thread: thread::current() });
        let mut tasks: Vec<_> = subscribers
            .into_iter()
            .map(|mut subscriber| {
                Some(Box::pin(async move {
                    for expected in 0..EACH {
                        assert_eq!(subscriber.recv().await.unwrap().sequence(), expected);
                    }
                }))
            })
            .collect();
        while tasks.iter().any(Option::is_some) {
            let ready = std::mem::take(&mut *queue.ready.lock().unwrap());
            if ready.is_empty() {
                thread::park();
            }
            for at in ready {
                let waker = Waker::from(Arc::new(Task(at, queue.clone())));
                let Some(task) = &mut tasks[at] else { continue };
                if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    tasks[at] = None;
                }
            }
        }
    });
    let mut noise = Noise::seeded("many_tasks");
    let mut left: Vec<usize> = (0..TASKS).flat_map(|at| [at; EACH as usize]).collect();
    while !left.is_empty() {
        let at = left.swap_remove(noise.below(left.len() as u64) as usize);
        // No subscriber may fall behind its ring.
        publish(&mut publishers[at]);
        if noise.below(8) == 0 {
            thread::sleep(Duration::from_micros(noise.below(300)));
        }
    }
    executor.join().unwrap();
}

fn cancelled() {
    let domain = Domain::new();
    for pair in pairs(&domain, 2) {
        let (mut publisher, mut subscriber) = asynchronous(pair);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        for expected in 0..200 {
            {
                let mut future = pin!(subscriber.recv());
                assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                if expected % 2 == 0 {
                    publish(&mut publisher);
                }
            }
            if expected % 2 != 0 {
                publish(&mut publisher);
            }
            assert_eq!(block_on(subscriber.recv()).unwrap().sequence(), expected);
        }
        // It goes on as an ordinary subscriber.
        let mut subscriber = subscriber.into_inner();
        publish(&mut publisher);
        assert_eq!(take(&mut subscriber), Some(200));
    }
}

fn future_follows() {
    let domain = Domain::new();
    let (publisher, mut subscriber) = asynchronous(pairs(&domain, 1).pop().unwrap());
    let (answer, answered) = channel();
    let thread = thread::spawn(move || {
        block_on(async {
            for _ in 0..3 {
                answer.send(subscriber.recv().await.unwrap().sequence()).unwrap();
            }
        });
    });
    drop(publisher);
    let mut publisher = domain.publisher_of(SlotKind::Frames, LEN).depth(50).open("t0").unwrap();
    publish(&mut publisher);
    assert_eq!(answered.recv_timeout(PATIENCE), Ok(0));
    publisher.remove().unwrap();
    let mut publisher = domain.publisher_of(SlotKind::Words, LEN).open("t0").unwrap();
    for expected in 0..2 {
        publish(&mut publisher);
        assert_eq!(answered.recv_timeout(PATIENCE), Ok(expected));
    }
    thread.join().unwrap();
}

// ---------------------------------------------------------------------------------------------------------------------
// Descriptors

/// An epoll instance, level-triggered.
struct Epoll(i32);

impl Epoll {
    fn new() -> Self {
        // SAFETY: no memory involved.
        Epoll(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
    }

    fn add(&self, subscriber: &PollSubscriber<[u8]>, number: u64) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        // SAFETY: the kernel reads the event.
        let result = unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, subscriber.as_raw_fd(), &mut event) };
        assert_eq!(result, 0);
    }

    fn wait(&self, timeout: Option<Duration>) -> Vec<u64> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        let timeout = timeout.map_or(-1, |timeout| timeout.as_millis() as i32);
        // SAFETY: the kernel writes at most 16 events.
        let count = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), 16, timeout) };
        assert!(count >= 0, "{}", IoError::last_os_error());
        let mut ready: Vec<_> = events[..count as usize].iter().map(|event| event.u64).collect();
        ready.sort_unstable();
        ready
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // SAFETY: this instance's own descriptor.
        unsafe { libc::close(self.0) };
    }
}

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

fn descriptor_readiness() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap().into_pollable().unwrap();
        assert_eq!(subscriber.as_fd().as_raw_fd(), subscriber.as_raw_fd());
        let epoll = Epoll::new();
        epoll.add(&subscriber, 7);
        assert_eq!(epoll.wait(AT_ONCE), [7], "at first nobody knows");
        for round in 0..200 {
            assert!(subscriber.try_recv().unwrap().is_none());
            assert_eq!(epoll.wait(AT_ONCE), [0; 0]);
            publish(&mut publisher);
            assert_eq!(epoll.wait(None), [7]);
            publish(&mut publisher);
            for expected in [2 * round, 2 * round + 1] {
                assert_eq!(epoll.wait(AT_ONCE), [7], "until all is received");
                assert_eq!(subscriber.try_recv().unwrap().unwrap().sequence(), expected);
            }
        }
        // A new shape is news.
        assert!(subscriber.try_recv().unwrap().is_none());
        drop(publisher);
        let mut publisher = domain.publisher_of(slots, 2 * LEN).depth(40).open("t").unwrap();
        assert_eq!(epoll.wait(None), [7]);
        assert!(subscriber.try_recv().unwrap().is_none());
        publisher.publish(&message(2 * LEN, 400)).unwrap();
        assert_eq!(epoll.wait(None), [7]);
        let mut stream = Stream::from(400);
        let sample = subscriber.try_recv().unwrap().unwrap();
        stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
        drop((sample, subscriber));
        publisher.remove().unwrap();
    }
}

fn descriptor_wakes() {
    let domain = Domain::new();
    let rounds = rounds(20_000);
    let mut back = domain.bytes().open("back").unwrap();
    let mut answers = domain.subscriber().open("back").unwrap();
    let (mut publishers, subscribers): (Vec<_>, Vec<_>) =
        pairs(&domain, 5).into_iter().map(|pair| (pair.publisher, pair.subscriber.into_pollable().unwrap())).unzip();
    let thread = thread::spawn(move || {
        let epoll = Epoll::new();
        let mut subscribers = subscribers;
        for (at, subscriber) in subscribers.iter().enumerate() {
            epoll.add(subscriber, at as u64);
        }
        let mut received = 0;
        while received < rounds {
            for at in epoll.wait(None) {
                while let Some(sample) = subscribers[at as usize].try_recv().unwrap() {
                    assert_eq!(sample.lagged(), 0);
                    received += 1;
                    back.publish(&[at as u8]).unwrap();
                }
            }
        }
    });
    let mut noise = Noise::seeded("descriptor_wakes");
    for _ in 0..rounds {
        let at = noise.below(5) as usize;
        publish(&mut publishers[at]);
        assert_eq!(*answers.recv().unwrap(), [at as u8]);
    }
    thread.join().unwrap();
}

fn dropped_while_armed() {
    let domain = Domain::new();
    let mut publisher = domain.bytes().subscribers(1).open("t").unwrap();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    for round in 0..50 {
        // Its place is free for the next at once, whoever waited on its behalf.
        let open = || domain.subscriber().start(Start::New).open("t").unwrap();
        if round % 2 == 0 {
            let mut subscriber = open().into_async();
            assert!(pin!(subscriber.recv()).poll(&mut Context::from_waker(&waker)).is_pending());
        } else {
            let mut subscriber = open().into_pollable().unwrap();
            assert!(subscriber.try_recv().unwrap().is_none());
        }
        let mut subscriber = open();
        let mut set = WaitSet::new();
        set.attach(&subscriber);
        assert_eq!(set.wait_timeout(Duration::from_micros(100)).unwrap(), []);
        publisher.publish(b"x").unwrap();
        assert!(subscriber.try_recv().unwrap().is_some());
        drop(subscriber);
        // Even while the set is still there.
        let again = domain.subscriber().open("t");
        assert!(!matches!(again, Err(Error::TooManySubscribers { .. })), "round {round}: {again:?}");
    }
}
