//! Datagrams: each stands alone, and holds one frame or several.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::Interest;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};

use super::datagrams::{Datagrams, set_up};
use super::server::{Counts, Shared, Stage, is_authorized, reached};
use super::session::{Session, Sink, Stop};
use crate::ack::{self, Range};
use crate::dedup::ProducerId;
use crate::engine::{Batch, Engine, Origin, Source, WhenFull};
use crate::frame::{Event, Kind, MAGIC};

/// How many bytes of events are handed in at a time.
const BATCH: usize = 256 << 10;
/// How many senders are known at a time; forgotten, one only costs a little more.
const SENDERS: usize = 1024;
/// Most ranges of a datagram, so that it fits where an Ethernet frame does.
const RANGES: usize = 40;

/// Receives datagrams until the server is closed.
pub(super) fn receive(
    runtime: Runtime,
    socket: UdpSocket,
    engine: &Arc<Engine>,
    shared: &Arc<Shared>,
    mut stage: watch::Receiver<Stage>,
) {
    let receiving = async {
        set_up(&socket);
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let mut receiver = Receiver {
            batch: Batch::default(),
            of: None,
            senders: HashMap::new(),
            answers: Vec::new(),
            news: Arc::new(Notify::new()),
            socket,
            engine: engine.clone(),
            shared: shared.clone(),
        };
        let mut datagrams = Datagrams::new();
        let news = receiver.news.clone();
        loop {
            tokio::select! {
                biased;
                () = reached(&mut stage, Stage::Draining) => break,
                () = news.notified() => receiver.send_later_answers(),
                ready = receiver.socket.readable() => {
                    ready?;
                    receiver.receive(&mut datagrams)?;
                }
            }
        }
        loop {
            tokio::select! {
                () = news.notified() => receiver.send_later_answers(),
                () = reached(&mut stage, Stage::Closed) => break,
            }
        }
        receiver.send_later_answers();
        Ok(())
    };
    super::server::run(runtime, "receive datagrams", receiving);
}

struct Receiver {
    socket: tokio::net::UdpSocket,
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    /// Events that were received and not handed in, of one sender.
    batch: Batch,
    of: Option<Sender>,
    senders: HashMap<Sender, Source>,
    answers: Vec<Range>,
    /// Told when a source has answers by another thread.
    news: Arc<Notify>,
}

/// Who sent a datagram: from where, and which producer, as far as it says.
type Sender = (SocketAddr, ProducerId);

impl Receiver {
    /// Receives what there is, up to one call's worth, and hands it in.
    fn receive(&mut self, datagrams: &mut Datagrams) -> io::Result<()> {
        match self.socket.try_io(Interest::READABLE, || datagrams.receive(&self.socket)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Such as what a peer's host answered to an ack: no fault of this socket, which goes on.
            Err(error) => {
                tracing::debug!(%error, "nothing could be received");
                return Ok(());
            }
        }
        let counts = &self.shared.counts;
        counts.datagrams_lost.store(datagrams.lost().into(), Ordering::Relaxed);
        let shared = self.shared.clone();
        for (peer, bytes) in datagrams.iter() {
            Counts::add(&shared.counts.datagrams, 1);
            Counts::add(&shared.counts.bytes, bytes.len() as u64);
            self.understand(peer, bytes);
        }
        self.hand_in();
        Ok(())
    }

    /// Takes the events of a datagram, or none of them.
    fn understand(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let shared = self.shared.clone();
        let counts = &shared.counts;
        let mut session = Session::new(shared.options.max_frame);
        let mut at = 0;
        let mut is_introduced = false;
        // Most of those who introduce themselves do so in each datagram: their events stay together.
        let greets = matches!(bytes, [first, _, kind, ..] if *first == MAGIC[0] && kind & 15 == Kind::Hello as u8);
        if !greets {
            self.prepare((peer, [0; 16]));
        }
        let mut mark = self.batch.mark();
        loop {
            match session.read(bytes, &mut at, &mut Copies(&mut self.batch)) {
                Stop::Incomplete { .. } if at == bytes.len() => break,
                Stop::Hello(hello) if !is_introduced && self.batch.mark() == mark => {
                    if !is_authorized(shared.options.token.as_deref(), hello.token) {
                        break;
                    }
                    is_introduced = true;
                    self.prepare((peer, hello.producer));
                    mark = self.batch.mark();
                }
                Stop::Ping => {}
                // Nothing is said of a stranger's events, or counted.
                Stop::BadBody { .. } if !greets && shared.options.token.is_some() => break,
                // Of the greeting, it leaves nobody whose events the others could be.
                Stop::BadBody { .. } if !greets || is_introduced => Counts::add(&counts.bad_bodies, 1),
                Stop::BadBody { .. } | Stop::Incomplete { .. } | Stop::Hello(_) | Stop::Fault { .. } => {
                    Counts::add(&counts.bad_datagrams, 1);
                    self.batch.truncate(mark);
                    return;
                }
            }
        }
        if !is_introduced && shared.options.token.is_some() {
            Counts::add(&counts.unauthorized_datagrams, 1);
            self.batch.truncate(mark);
        }
    }

    /// Has a batch for events of this sender.
    fn prepare(&mut self, sender: Sender) {
        if self.of != Some(sender) || self.batch.mark().0 >= BATCH {
            self.hand_in();
            self.of = Some(sender);
        }
    }

    /// Hands what was gathered to the engine, and answers.
    fn hand_in(&mut self) {
        let Some(sender) = self.of.take() else { return };
        if self.batch.is_empty() {
            return;
        }
        if self.senders.len() >= SENDERS && !self.senders.contains_key(&sender) {
            self.send_later_answers();
            // Those stay whose answers may still come, unless there are too many for that, too.
            let most = 4 * SENDERS;
            self.senders.retain(|_, source| source.is_under_way());
            if self.senders.len() >= most {
                self.senders.clear();
            }
        }
        let source = self.senders.entry(sender).or_insert_with(|| {
            let news = self.news.clone();
            let source = self.engine.source(Origin::Udp(sender.0)).producer(sender.1).when_full(WhenFull::Drop);
            source.notify(move || news.notify_one()).open()
        });
        // It drops and counts what it has no room for.
        let _ = source.dispatch(&mut self.batch, &mut self.answers);
        self.batch = source.batch(BATCH);
        answer(&self.socket, sender.0, &mut self.answers);
    }

    /// Sends the answers that came by other threads.
    fn send_later_answers(&mut self) {
        for ((peer, _), source) in &self.senders {
            source.take_answers(&mut self.answers);
            answer(&self.socket, *peer, &mut self.answers);
        }
    }
}

/// Sends answers as far as the socket takes them: like what they answer, they may be lost, and are asked for by sending again.
fn answer(socket: &tokio::net::UdpSocket, peer: SocketAddr, answers: &mut Vec<Range>) {
    let mut buffer = [0; 32 + RANGES * 32];
    for ranges in answers.chunks(RANGES) {
        if let Ok(len) = ack::encode(ranges, &mut buffer) {
            let _ = socket.try_send_to(&buffer[..len], peer);
        }
    }
    answers.clear();
}

/// Events that are copied out of what is read, which is read anew into.
struct Copies<'b>(&'b mut Batch);

impl Sink for Copies<'_> {
    #[inline]
    fn add(&mut self, _: usize, event: &Event<'_>) {
        self.0.push(event);
    }
}
