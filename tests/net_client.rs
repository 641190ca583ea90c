//! What the clients for events promise, over real connections that break.
#![cfg(feature = "net")]

mod event_server;
mod support;

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conduit::ack::Status;
use conduit::engine::{Engine, EngineOptions};
use conduit::frame::Event;
use conduit::net::outbox::{Counts, Fault, Refused};
use conduit::net::{Acks, AsyncClient, Client, ClientError, ClientOptions, Fate, Outcome, Reconnect, Retry, UdpSender};

use event_server::{Manners, Proxy, Server};
use support::{Noise, PATIENCE, in_time, rounds};

/// Comes back at once, however often.
const STUBBORN: Reconnect =
    Reconnect { attempts: 100, base: Duration::from_micros(100), cap: Duration::from_millis(100), jitter: 0.5 };

fn event<'a>(topic: &'a str, payload: &'a [u8]) -> Event<'a> {
    Event { topic: topic.as_bytes(), payload, ..Event::default() }
}

/// All that was told, by sequence.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<u64, Vec<Outcome>>>>);

impl Told {
    fn listen(&self) -> impl FnMut(&Outcome) + Send + 'static {
        let told = self.0.clone();
        move |outcome| told.lock().unwrap().entry(outcome.sequence).or_default().push(*outcome)
    }

    /// Each of `1..=count` has one outcome, and it is a success.
    fn check(&self, count: u64) {
        let told = self.0.lock().unwrap();
        assert!(told.keys().copied().eq(1..=count), "one for each event");
        for (sequence, outcomes) in told.iter() {
            assert!(matches!(&outcomes[..], [outcome] if outcome.fate.is_success()), "{sequence}: {outcomes:?}");
        }
    }
}

fn unfriendly(deduplicates: bool, seed: u64) -> Manners {
    Manners { deduplicates, throttles: 10, credit: 0..1025, seed, ..Manners::default() }
}

/// Sends over a connection that breaks every few thousand bytes.
fn send_through_breaks(options: ClientOptions, addr: std::net::SocketAddr, count: u64) -> conduit::net::Report {
    in_time("sending", move || {
        let mut client = options.reconnect(STUBBORN).connect(addr).unwrap();
        for number in 1..=count {
            let sequence = client.send(&event("test/numbers", &number.to_le_bytes())).unwrap();
            assert_eq!(sequence, number);
        }
        client.flush(PATIENCE).unwrap();
        client.close(PATIENCE)
    })
}

#[test]
fn each_event_is_taken_once_though_connections_break_at_any_byte() {
    let count = u64::from(rounds(20_000));
    for acks in [Acks::Accepted, Acks::Durable] {
        let mut noise = Noise::seeded("breaks");
        let server = Server::start(unfriendly(true, noise.next() >> 1));
        let proxy = Proxy::start(server.addr, noise.next(), 100..30_000);
        let told = Told::default();
        // Less than what a connection carries, so that answers come through, too.
        let options = Client::options().acks(acks).window(200).on_outcome(told.listen());
        let report = send_through_breaks(options, proxy.addr, count);
        assert_eq!(server.twice(), Vec::<Vec<u8>>::new());
        assert_eq!(server.taken().len() as u64, count);
        assert_eq!((report.succeeded(), report.failed(), report.waiting), (count, 0, 0), "{report:?}");
        assert!(report.connections > 1 && proxy.broken.load(Ordering::Relaxed) > 0, "nothing broke: {report:?}");
        assert!(report.retried > 0 && report.counts.resent > 0, "{report:?}");
        if acks == Acks::Durable {
            assert_eq!(report.durable, count);
        }
        told.check(count);
    }
}

/// The server that comes with the crate.
#[test]
fn conduits_own_server_takes_each_event_once_though_connections_break_at_any_byte() {
    let report = own_server(Acks::Accepted, |engine| engine);
    assert!(report.accepted > 0, "{report:?}");
}

#[cfg(feature = "tank")]
#[test]
fn conduits_own_server_makes_each_event_durable_once_though_connections_break_at_any_byte() {
    use conduit::tank::{EventLog, EventSync};
    let directory = std::env::temp_dir().join(format!("conduit-net-client-{}", std::process::id()));
    let log = EventLog::options().sync(EventSync::None).open(&directory).unwrap();
    let report = own_server(Acks::Durable, |engine| engine.durable_log(log));
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(report.durable, report.succeeded(), "{report:?}");
}

fn own_server(acks: Acks, with: impl FnOnce(EngineOptions) -> EngineOptions) -> conduit::net::Report {
    let count = u64::from(rounds(20_000));
    let mut noise = Noise::seeded("own server");
    let domain = support::Domain::new();
    let handled = Arc::new(Mutex::new(BTreeMap::<u64, u32>::new()));
    let taken = handled.clone();
    let handler = move |event: &conduit::engine::Event<'_>| {
        let number = u64::from_le_bytes(event.payload.try_into().unwrap());
        *taken.lock().unwrap().entry(number).or_default() += 1;
        Ok(())
    };
    let engine = with(Engine::options().domain(domain.name()).handler("**", handler)).start().unwrap();
    let server = conduit::net::Server::options().tcp("127.0.0.1:0").start(engine).unwrap();
    let proxy = Proxy::start(server.tcp_addr().unwrap(), noise.next(), 100..30_000);
    let told = Told::default();
    let options = Client::options().acks(acks).window(200).on_outcome(told.listen());
    let report = send_through_breaks(options, proxy.addr, count);
    assert_eq!((report.succeeded(), report.failed(), report.waiting), (count, 0, 0), "{report:?}");
    assert!(report.connections > 1 && report.counts.resent > 0, "nothing broke: {report:?}");
    let Counts { stray_answers, bad_frames, collisions, .. } = report.counts;
    assert_eq!((stray_answers, bad_frames, collisions), (0, 0, 0), "{report:?}");
    told.check(count);
    server.stop(PATIENCE);
    let handled = handled.lock().unwrap();
    assert!(handled.keys().copied().eq(1..=count), "each is handled: {} of {count}", handled.len());
    assert!(handled.values().all(|times| *times == 1), "and once");
    report
}

#[test]
fn conduits_own_server_takes_datagrams_and_what_nobody_asks_about() {
    let domain = support::Domain::new();
    let engine = Engine::options().domain(domain.name()).start().unwrap();
    let server = conduit::net::Server::options().tcp("127.0.0.1:0").udp("127.0.0.1:0").start(engine).unwrap();
    let mut client = Client::options().acks(Acks::None).connect(server.tcp_addr().unwrap()).unwrap();
    for _ in 0..100 {
        client.send(&event("t", b"x")).unwrap();
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!(client.close(PATIENCE).sent, 100);
    let durable = Client::options().acks(Acks::Durable).connect(server.tcp_addr().unwrap());
    assert!(matches!(durable, Err(ClientError::Server { fault: Fault::NotDurable, .. })), "{durable:?}");
    let mut sender = UdpSender::options().connect(server.udp_addr().unwrap()).unwrap();
    for _ in 0..100 {
        sender.send(&event("t", b"x")).unwrap();
    }
    sender.flush().unwrap();
    support::eventually("all are accepted", || server.engine().stats().accepted.iter().sum::<u64>() == 200);
    server.stop(PATIENCE);
}

/// What the promise rests on is found missing.
#[test]
fn a_server_that_does_not_look_for_duplicates_is_found_out() {
    let server = Server::start(unfriendly(false, 3));
    let proxy = Proxy::start(server.addr, 5, 100..10_000);
    send_through_breaks(Client::options().window(64), proxy.addr, 2000);
    assert!(!server.twice().is_empty());
}

#[test]
fn without_acks_the_flush_says_that_the_server_has_read_it_all() {
    let server = Server::start(Manners::default());
    let mut client = Client::options().acks(Acks::None).connect(server.addr).unwrap();
    for number in 0..5000u32 {
        client.send(&event("t", &number.to_le_bytes())).unwrap();
    }
    client.flush(PATIENCE).unwrap();
    let taken = server.taken();
    assert!(taken.iter().map(|taken| taken.sequence).eq(1..=5000), "numbered, and in order");
    let report = client.close(PATIENCE);
    assert_eq!((report.sent, report.counts.unconfirmed, report.counts.stray_answers), (5000, 0, 0));
}

#[test]
fn without_acks_what_a_broken_connection_swallowed_is_counted() {
    let server = Server::start(Manners::default());
    let proxy = Proxy::start(server.addr, 9, 20_000..40_000);
    let report = send_through_breaks(Client::options().acks(Acks::None), proxy.addr, 5000);
    assert_eq!(report.sent, 5000);
    assert!(report.connections > 1, "nothing broke: {report:?}");
    // What was still on its way from the last connection when the next one was greeted is counted, too.
    assert!(server.taken().len() as u64 + report.counts.unconfirmed >= 5000, "{report:?}");
}

#[test]
fn a_process_that_comes_back_as_the_same_producer_goes_on_behind_what_it_sent() {
    let server = Server::start(Manners::default());
    for round in 0..3u64 {
        let mut client = Client::options().producer([7; 16]).connect(server.addr).unwrap();
        for number in 1..=10 {
            assert_eq!(client.send(&event("t", b"x")).unwrap(), round * 10 + number);
        }
        assert_eq!(client.close(PATIENCE).accepted, 10);
    }
    assert_eq!(server.taken().len(), 30);
}

#[test]
fn refusals_are_told_with_their_reason() {
    let server = Server::start(Manners { refuses_with: Status::DeadLettered, ..Manners::default() });
    let mut client = Client::options().connect(server.addr).unwrap();
    for topic in ["good", "refused", "not//good"] {
        client.send(&event(topic, b"x")).unwrap();
    }
    let too_large = client.send(&event("t", &[0; 1 << 20]));
    assert!(matches!(too_large, Err(ClientError::Event(_))), "{too_large:?}");
    let report = client.close(PATIENCE);
    assert_eq!((report.accepted, report.failed()), (1, 2));
    assert_eq!(report.refused, [(Status::DeadLettered, 1), (Status::BadTopic, 1)].into());
    let mut failures: Vec<_> = report.failures.iter().map(|outcome| (outcome.sequence, outcome.fate)).collect();
    failures.sort_by_key(|(sequence, _)| *sequence);
    assert_eq!(failures, [(2, Fate::Answered(Status::DeadLettered)), (3, Fate::Answered(Status::BadTopic))]);
}

#[test]
fn a_server_that_throttles_for_ever_is_given_up() {
    let server = Server::start(Manners { throttles: 100, ..Manners::default() });
    let retry = Retry { tries: 4, ..Retry::default() };
    let mut client = Client::options().retry(retry).connect(server.addr).unwrap();
    client.send(&event("t", b"x")).unwrap();
    client.flush(PATIENCE).unwrap();
    let report = client.close(PATIENCE);
    assert_eq!(report.refused, [(Status::Throttled, 1)].into());
    assert_eq!(report.failures[0].retries, 3);
}

#[test]
fn there_is_no_client_without_a_server_that_welcomes_it() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = Client::options().connect(nobody);
    assert!(matches!(&refused, Err(ClientError::Connect { addr, .. }) if *addr == nobody), "{refused:?}");

    let silent = Server::start(Manners { greets: false, ..Manners::default() });
    let refused = Client::options().connect_timeout(Duration::from_millis(50)).connect(silent.addr);
    assert!(matches!(&refused, Err(ClientError::Connect { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("does not answer a greeting"));

    let closed = Server::start(Manners { token: b"secret".into(), ..Manners::default() });
    let refused = Client::options().token("guess").connect(closed.addr);
    let unauthorized = |error: &ClientError| matches!(error, ClientError::Server { fault: Fault::Unauthorized, .. });
    assert!(refused.as_ref().is_err_and(unauthorized), "{refused:?}");
    let welcome = Client::options().token("secret").connect(closed.addr);
    assert!(welcome.is_ok(), "{welcome:?}");

    for options in [Client::options().window(0), Client::options().window(1025), Client::options().token([0; 1025])] {
        let refused = options.connect(nobody);
        assert!(matches!(refused, Err(ClientError::InvalidOption { .. })), "{refused:?}");
    }
    assert!(matches!(Client::options().connect("no port"), Err(ClientError::Address(_))));
}

/// The proxy goes, and nobody takes its place.
#[test]
fn what_was_not_answered_when_the_server_went_for_good_is_told() {
    let server = Server::start(Manners { throttles: 100, ..Manners::default() });
    let proxy = Proxy::start(server.addr, 1, 300..301);
    let few = Reconnect { attempts: 2, ..STUBBORN };
    let told = Told::default();
    let mut client = Client::options().window(4).reconnect(few).on_outcome(told.listen()).connect(proxy.addr).unwrap();
    drop(proxy);
    let mut sent = 0;
    let end = loop {
        match client.send(&event("t", &[0; 50])) {
            Ok(_) => sent += 1,
            Err(end) => break end,
        }
    };
    assert!(matches!(end, ClientError::Lost { attempts: 2, .. }), "{end:?}");
    let report = client.close(PATIENCE);
    assert_eq!((report.unanswered, report.waiting), (sent, 0));
    let told = told.0.lock().unwrap();
    assert!(told.values().all(|outcomes| outcomes.len() == 1) && told.len() as u64 == sent);
}

#[test]
fn a_full_window_is_an_answer_or_a_wait() {
    let server = Server::start(Manners { throttles: 100, ..Manners::default() });
    let retry = Retry { tries: 3, ..Retry::default() };
    let mut client = Client::options().window(2).retry(retry).connect(server.addr).unwrap();
    let mut taken = 0;
    while client.try_send(&event("t", b"x")).unwrap().is_some() {
        taken += 1;
    }
    assert!(taken >= 2);
    in_time("a send into a full window", move || client.send(&event("t", b"x")).map(drop)).unwrap();
}

#[test]
fn an_idle_client_sleeps() {
    let server = Server::start(Manners::default());
    let mut client = Client::options().connect(server.addr).unwrap();
    client.send(&event("t", b"x")).unwrap();
    client.flush(PATIENCE).unwrap();
    let task = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let mut thread =
        task.filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "events\n"));
    let thread = thread.next().expect("the connection's thread");
    let id = thread.file_name().unwrap().to_str().unwrap().parse().unwrap();
    support::eventually("it sleeps", || support::is_asleep(id));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn async_each_event_is_taken_once_though_connections_break_at_any_byte() {
    let count = u64::from(rounds(10_000));
    let mut noise = Noise::seeded("async breaks");
    let server = Server::start(unfriendly(true, noise.next() >> 1));
    let proxy = Proxy::start(server.addr, noise.next(), 100..30_000);
    let addr = proxy.addr;
    let report = in_time("sending", move || {
        runtime().block_on(async move {
            let client = AsyncClient::options().reconnect(STUBBORN).connect_async(addr).await.unwrap();
            let senders: Vec<_> = (0..4)
                .map(|sender| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        let mut receipts = Vec::new();
                        for number in (sender..count).step_by(4) {
                            receipts.push(client.send(&event("t", &number.to_le_bytes())).await.unwrap());
                        }
                        for receipt in receipts {
                            let sequence = receipt.sequence();
                            let outcome = receipt.await;
                            assert!(outcome.fate.is_success() && outcome.sequence == sequence, "{outcome:?}");
                        }
                    })
                })
                .collect();
            for sender in senders {
                sender.await.unwrap();
            }
            client.close(PATIENCE).await
        })
    });
    assert_eq!(server.twice(), Vec::<Vec<u8>>::new());
    assert_eq!((server.taken().len() as u64, report.succeeded(), report.failed()), (count, count, 0), "{report:?}");
    assert!(report.connections > 1, "nothing broke: {report:?}");
}

#[test]
fn async_a_send_that_is_dropped_while_it_waits_sent_nothing() {
    let server = Server::start(Manners { throttles: 50, ..Manners::default() });
    let addr = server.addr;
    let (receipts, cancelled) = in_time("sending", move || {
        runtime().block_on(async move {
            let client = AsyncClient::options().window(2).connect_async(addr).await.unwrap();
            let (mut receipts, mut cancelled) = (0u64, 0u64);
            for number in 0..2000u64 {
                let payload = number.to_le_bytes();
                let event = event("t", &payload);
                tokio::select! {
                    biased;
                    receipt = client.send(&event) => { receipt.unwrap(); receipts += 1; }
                    () = tokio::task::yield_now() => cancelled += 1,
                }
            }
            client.flush().await.unwrap();
            assert_eq!(client.report().accepted, receipts);
            (receipts, cancelled)
        })
    });
    assert!(receipts > 0 && cancelled > 0, "{receipts} {cancelled}");
    let taken = server.taken();
    assert_eq!((taken.len() as u64, server.twice().len()), (receipts, 0));
    assert_eq!(taken.iter().map(|taken| taken.sequence).max(), Some(receipts), "no number was used up");
}

#[test]
fn async_no_receipt_waits_for_ever_when_the_runtime_ends() {
    let server = Server::start(Manners { throttles: 100, ..Manners::default() });
    let runtime = runtime();
    let client = runtime.block_on(AsyncClient::options().connect_async(server.addr)).unwrap();
    let payload = event("t", b"x");
    let sent = client.send(&payload);
    let receipt = runtime.block_on(sent).unwrap();
    drop(runtime);
    let outcome = in_time("a receipt", move || support::block_on(receipt));
    assert_eq!(outcome.fate, Fate::Unanswered);
}

#[test]
fn datagrams_bring_whole_events_of_a_producer_each() {
    let server = Server::start(Manners::default());
    let mut sender = UdpSender::options().producer([9; 16]).first(100).connect(server.addr).unwrap();
    let mut sent = Vec::new();
    for number in 0..500u64 {
        // Of one length at first, as sensors send, and then of many.
        let payload = vec![number as u8; if number < 250 { 100 } else { number as usize * 7 }];
        assert_eq!(sender.send(&event("test/udp", &payload)).unwrap(), 100 + number);
        sent.push(payload);
        // No more at a time than the other side's socket has room for.
        if number % 10 == 9 {
            sender.flush().unwrap();
            support::eventually("they are there", || server.taken().len() == sent.len());
        }
    }
    let taken = server.taken();
    assert!(taken.iter().map(|taken| &taken.payload).eq(&sent));
    assert!(taken.iter().zip(100..).all(|(taken, at)| taken.producer == [9; 16] && taken.sequence == at));
    let counts = sender.counts();
    assert_eq!((counts.events, counts.unreachable), (500, 0));
    assert!(counts.datagrams < 400, "small ones share: {counts:?}");
    let long = sender.send(&event("t", &[0; 65_507]));
    assert!(matches!(long, Err(ClientError::Event(Refused::TooLarge { .. }))), "{long:?}");
}

#[test]
fn datagrams_may_come_from_nobody_and_in_the_older_frame() {
    let server = Server::start(Manners::default());
    for options in [UdpSender::options().anonymous(), UdpSender::options().older()] {
        let before = server.taken().len();
        let mut sender = options.connect(server.addr).unwrap();
        for _ in 0..2 {
            assert_eq!(sender.send(&event("t", b"the same")).unwrap(), 0);
        }
        sender.flush().unwrap();
        support::eventually("both are there", || server.taken().len() == before + 2);
    }
    assert!(server.taken().iter().all(|taken| taken.producer == [0; 16] && taken.sequence == 0));
}

#[test]
fn a_sender_of_datagrams_learns_that_nobody_listens() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut sender = UdpSender::options().connect(nobody).unwrap();
    support::eventually("it is told", || {
        sender.send(&event("t", b"x")).unwrap();
        sender.flush().unwrap();
        sender.counts().unreachable > 0
    });
}
