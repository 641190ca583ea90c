//! Connections: accepted by one thread, read by a few, each a task.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};

use super::answers::Answers;
use super::beginnings::Beginning;
use super::line::Place;
use super::server::{CloseReason, Counts, Shared, Stage, is_authorized, reached, run};
use super::session::{Session, Stop};
use crate::ack::{NO_LANE, Range, Status};
use crate::engine::{Batch, Engine, Origin, Source, Turn};
use crate::frame::{Dialect, Fault, Hello, Kind, VERSION, Welcome};
use crate::std::futex::now;

/// How much is read at a time. Below 64 KiB it is the system calls that an event costs, above 256 KiB nothing is gained.
const READ: usize = 256 << 10;
/// From how many unread bytes of answers on a client's events are not read.
const BACKLOG: usize = 256 << 10;
/// Most bytes of a frame by which a client introduces itself.
const HELLO_LEN: usize = 2048;
/// How long what was begun to be sent is waited for when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Accepts connections and hands them to the threads that read, in turn.
pub(super) fn accept(
    runtime: Runtime,
    listener: TcpListener,
    readers: &[mpsc::UnboundedSender<(std::net::TcpStream, SocketAddr)>],
    shared: &Shared,
    mut stage: watch::Receiver<Stage>,
) {
    let accepting = async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut next = 0;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = reached(&mut stage, Stage::Draining) => return Ok(()),
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Too many open files, most likely: it passes when a connection is closed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if shared.counts.open.load(Ordering::Relaxed) >= shared.options.max_connections {
                Counts::add(&shared.counts.refused, 1);
                continue;
            }
            Counts::add(&shared.counts.accepted, 1);
            shared.counts.open.fetch_add(1, Ordering::Relaxed);
            let _ = stream.set_nodelay(true);
            let handed = stream.into_std().map(|stream| readers[next % readers.len()].send((stream, peer)));
            if !matches!(handed, Ok(Ok(()))) {
                shared.counts.open.fetch_sub(1, Ordering::Relaxed);
            }
            next += 1;
        }
    };
    run(runtime, "accept connections", accepting);
}

/// Reads connections as they are handed over, until the server is closed.
pub(super) fn read(
    runtime: Runtime,
    mut connections: mpsc::UnboundedReceiver<(std::net::TcpStream, SocketAddr)>,
    engine: &Arc<Engine>,
    shared: &Arc<Shared>,
    stage: watch::Receiver<Stage>,
) {
    let awake = Arc::new(Awake::default());
    let reading = async {
        let mut tasks = JoinSet::new();
        if !shared.options.poll.is_zero() {
            tokio::spawn(awake.clone().keep(shared.options.poll));
        }
        loop {
            let connection = tokio::select! {
                connection = connections.recv() => connection,
                Some(_) = tasks.join_next() => continue,
            };
            let Some((stream, peer)) = connection else { break };
            let (engine, shared, stage) = (engine.clone(), shared.clone(), stage.clone());
            let awake = awake.clone();
            tasks.spawn(async move {
                let _open = Open(&shared.counts);
                let reason = match TcpStream::from_std(stream) {
                    Ok(stream) => Connection::new(stream, peer, engine, shared.clone(), awake).run(stage).await,
                    Err(_) => CloseReason::Cut,
                };
                Counts::add(&shared.counts.closed[reason as usize], 1);
                tracing::debug!(%peer, reason = reason.name(), "a connection was closed");
            });
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    };
    run(runtime, "read connections", reading);
}

/// A connection's place among those that there may be, given back whatever becomes of it.
struct Open<'c>(&'c Counts);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Has a thread look for bytes for a while instead of sleeping: as long as a task of its has something to do, it does.
#[derive(Default)]
struct Awake {
    /// When a byte came last, in nanoseconds. Written and read by tasks of one thread.
    last_byte: AtomicU64,
    again: Notify,
}

impl Awake {
    async fn keep(self: Arc<Self>, poll: Duration) {
        let poll = u64::try_from(poll.as_nanos()).unwrap_or(u64::MAX);
        loop {
            if now().saturating_sub(self.last_byte.load(Ordering::Relaxed)) < poll {
                tokio::task::yield_now().await;
            } else {
                self.again.notified().await;
            }
        }
    }

    fn came(&self, at: u64) {
        self.last_byte.store(at, Ordering::Relaxed);
        self.again.notify_one();
    }
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    awake: Arc<Awake>,
    session: Session,
    source: Source,
    is_introduced: bool,
    /// How far the engine got with what was read last.
    turn: Turn,
    place: Place,
    /// Pings among that, which are answered behind what came before them.
    pings: u32,
    /// What the client is told behind all other answers.
    last_word: Option<Range>,
    /// Whether the source has handed in events.
    is_used: bool,
    /// Whether nothing was read when it was last asked.
    was_paused: bool,
    /// The beginning of a frame of which the rest has not come, and since when it is there, in nanoseconds.
    tail: Vec<u8>,
    tail_since: u64,
    beginning: Beginning,
    /// How many bytes there have to be before it is worth another look.
    need: usize,
    answers: Answers,
    /// Since when the client has left answers unread.
    unread_since: u64,
    last_byte: u64,
    /// Told when there are answers by another thread, or room.
    news: Arc<News>,
}

/// What a connection is told by other threads.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) told: Notify,
}

impl News {
    /// Waits until they come; where a topic was made, until others had a turn.
    async fn come(&self, turn: Turn) {
        if turn == Turn::MadeTopic {
            tokio::task::yield_now().await;
        } else {
            self.told.notified().await;
        }
    }
}

/// Whether a connection goes on.
type Going = Result<(), CloseReason>;

impl Connection {
    fn new(stream: TcpStream, peer: SocketAddr, engine: Arc<Engine>, shared: Arc<Shared>, awake: Arc<Awake>) -> Self {
        let news = Arc::new(News::default());
        let told = news.clone();
        let source = engine.source(Origin::Tcp(peer)).credit(shared.options.window);
        let source = source.notify(move || told.told.notify_one()).open();
        // Strangers get no more room than it takes to introduce themselves.
        let max_len = if shared.options.token.is_some() { HELLO_LEN } else { shared.options.max_frame };
        Connection {
            session: Session::new(max_len),
            place: Place::new(shared.held.clone(), news.clone()),
            beginning: Beginning::new(shared.beginnings.clone(), engine.clone(), news.clone()),
            answers: Answers::new(shared.options.acks),
            stream,
            peer,
            engine,
            shared,
            awake,
            source,
            is_introduced: false,
            turn: Turn::Done,
            pings: 0,
            last_word: None,
            is_used: false,
            was_paused: false,
            tail: Vec::new(),
            tail_since: 0,
            need: 1,
            unread_since: 0,
            last_byte: now(),
            news,
        }
    }

    async fn run(mut self, mut stage: watch::Receiver<Stage>) -> CloseReason {
        let mut timer = Box::pin(sleep_until(Instant::now()));
        let ended = loop {
            let wants_more = self.wants_more();
            let has_more = !self.answers.unsent().is_empty();
            self.set(timer.as_mut());
            let going = tokio::select! {
                biased;
                () = reached(&mut stage, Stage::Draining) => break CloseReason::Stopped,
                ready = self.stream.readable(), if wants_more => match ready {
                    Ok(()) => self.read(),
                    Err(_) => Err(CloseReason::Cut),
                },
                _ = self.stream.writable(), if has_more => Ok(()),
                () = self.news.come(self.turn) => self.resume(),
                _ = timer.as_mut() => self.look_at_the_clock(),
            };
            let sent = self.send();
            self.source.wake();
            if let Err(reason) = going.and(sent) {
                break reason;
            }
        };
        self.beginning.end();
        let ended = self.settle(ended, &mut stage).await;
        if ended == CloseReason::Stopped {
            self.drain(&mut stage).await;
        }
        self.say_goodbye().await;
        ended
    }

    /// Whether more is read: not while what was read has to wait, nor while there is no memory for the rest of a frame, nor while
    /// answers are left unread.
    fn wants_more(&mut self) -> bool {
        let has_room = self.turn == Turn::Done && !self.beginning.waits() && !self.source.is_ahead();
        let wants_more = has_room && self.answers.backlog() < BACKLOG;
        if wants_more && self.was_paused {
            // What did not come meanwhile was not read: its client is not to blame.
            (self.last_byte, self.tail_since) = (now(), now());
        }
        self.was_paused = !wants_more;
        wants_more
    }

    /// Waits until what was read before the connection ended has found room, unless the server stops.
    async fn settle(&mut self, ended: CloseReason, stage: &mut watch::Receiver<Stage>) -> CloseReason {
        while self.turn != Turn::Done && ended != CloseReason::Stopped {
            let hold = Duration::from_nanos(self.source.hold().max(1_000_000));
            tokio::select! {
                biased;
                () = reached(stage, Stage::Draining) => return CloseReason::Stopped,
                () = self.news.come(self.turn) => {}
                () = tokio::time::sleep(hold) => {}
            }
            let _ = self.resume();
            self.source.wake();
        }
        ended
    }

    /// Has the timer go off when the clock is to be looked at.
    fn set(&self, mut timer: Pin<&mut Sleep>) {
        let options = &self.shared.options;
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let mut at = u64::MAX;
        if !self.was_paused {
            at = self.last_byte.saturating_add(nanos(options.idle_timeout));
        }
        if !self.was_paused && !self.tail.is_empty() {
            at = at.min(self.tail_since.saturating_add(nanos(options.frame_timeout)));
        }
        if !self.answers.unsent().is_empty() {
            at = at.min(self.unread_since.saturating_add(nanos(options.frame_timeout)));
        }
        if self.turn == Turn::Held {
            at = at.min(now().saturating_add(self.source.hold().max(1_000_000)));
        }
        let at = at.min(self.answers.due_at().unwrap_or(u64::MAX));
        let instant = Instant::now() + Duration::from_nanos(at.saturating_sub(now()));
        // Later than set, it goes off too early, which is cheaper than to set it anew for each read.
        if instant < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(instant);
        }
    }

    fn look_at_the_clock(&mut self) -> Going {
        let options = &self.shared.options;
        let is_over = |since: u64, limit: Duration| u128::from(now().saturating_sub(since)) >= limit.as_nanos();
        if !self.answers.unsent().is_empty() && is_over(self.unread_since, options.frame_timeout) {
            return Err(CloseReason::Unread);
        }
        if self.turn != Turn::Done {
            return self.resume();
        }
        if self.was_paused {
            return Ok(());
        }
        if !self.tail.is_empty() && is_over(self.tail_since, options.frame_timeout) {
            return Err(CloseReason::SlowFrame);
        }
        if is_over(self.last_byte, options.idle_timeout) { Err(CloseReason::Idle) } else { Ok(()) }
    }

    /// Reads what there is, up to a buffer full, and has it understood.
    fn read(&mut self) -> Going {
        let mut batch = if self.tail.len() >= READ / 4 {
            let mut batch = Batch::default();
            *batch.buffer() = std::mem::take(&mut self.tail);
            let rest = self.need.saturating_sub(batch.buffer().len());
            batch.buffer().reserve_exact(rest.max(READ));
            batch
        } else {
            let mut batch = self.source.batch(READ);
            batch.buffer().append(&mut self.tail);
            batch
        };
        let had = batch.buffer().len();
        // Not `read_buf`, which would sleep in here where nothing else is heard of.
        let read = match self.stream.try_read_buf(batch.buffer()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // As it was, in no more memory than it takes: most connections are idle.
                self.keep(1, batch);
                return Ok(());
            }
            Ok(0) => return Err(if had == 0 { CloseReason::Client } else { CloseReason::Cut }),
            Ok(read) => read,
            Err(_) => return Err(CloseReason::Cut),
        };
        Counts::add(&self.shared.counts.bytes, read as u64);
        self.last_byte = now();
        self.awake.came(self.last_byte);
        if batch.buffer().len() < self.need {
            self.keep(had, batch);
            return Ok(());
        }
        self.understand(had, batch)
    }

    /// Hands the events in what was read to the engine, and does what else is asked for.
    fn understand(&mut self, had: usize, mut batch: Batch) -> Going {
        let mut at = 0;
        let mut had = had;
        loop {
            let (bytes, mut entries) = batch.split();
            match self.session.read(bytes, &mut at, &mut entries) {
                Stop::Incomplete { need } => {
                    self.need = need;
                    if at == 0 && self.pings == 0 {
                        // What was there before and is still not whole has been waited for since then.
                        self.keep(had, batch);
                        return Ok(());
                    }
                    let rest = bytes[at..].to_vec();
                    self.hand_in(&mut batch)?;
                    self.answer_pings();
                    batch.clear();
                    *batch.buffer() = rest;
                    self.keep(0, batch);
                    return Ok(());
                }
                // Before anything is answered.
                Stop::Ping | Stop::BadBody { .. } if self.is_stranger() => return Err(self.forbid()),
                Stop::Ping => self.pings += 1,
                Stop::BadBody { sequence } => {
                    Counts::add(&self.shared.counts.bad_bodies, 1);
                    if sequence != 0 {
                        self.answers.ranges(now()).push(Range::of(sequence, Status::BadFrame));
                    }
                }
                Stop::Hello(hello) => {
                    let hello = Owned::of(&hello);
                    let rest = bytes[at..].to_vec();
                    // Those before it are nobody's, and would be forgotten with their answers.
                    let comes_first = !self.is_used && batch.is_empty();
                    self.hand_in(&mut batch)?;
                    self.welcome(&hello, comes_first)?;
                    // Events behind it are another source's.
                    batch.clear();
                    *batch.buffer() = rest;
                    (at, had) = (0, 0);
                }
                Stop::Fault { fault, offset } => {
                    self.hand_in(&mut batch)?;
                    return Err(self.refuse(fault, offset));
                }
            }
        }
    }

    fn refuse(&mut self, fault: Fault, offset: u64) -> CloseReason {
        tracing::debug!(peer = %self.peer, %fault, offset, "a connection is closed: nothing behind this can be trusted");
        if self.session.dialect() != Some(Dialect::Legacy) {
            self.last_word = Some(about_no_event(offset, Status::from(fault)));
        }
        CloseReason::BadFrame
    }

    /// Keeps the beginning of a frame.
    fn keep(&mut self, had: usize, mut batch: Batch) {
        if had == 0 {
            self.tail_since = now();
            self.beginning.end();
        }
        self.tail = std::mem::take(batch.buffer());
        if self.tail.len() < self.tail.capacity() / 4 {
            let few = self.tail.as_slice().to_vec();
            *batch.buffer() = std::mem::replace(&mut self.tail, few);
            self.source.give_back(batch);
        }
        if !self.tail.is_empty() {
            self.beginning.keep(self.tail.capacity(), self.need);
        }
    }

    /// Hands the events of a batch to the engine.
    fn hand_in(&mut self, batch: &mut Batch) -> Going {
        if batch.is_empty() {
            return Ok(());
        }
        if self.is_stranger() {
            return Err(self.forbid());
        }
        self.is_used = true;
        // What it was the beginning of is charged as events from here on.
        self.beginning.end();
        self.turn = self.source.hand_in(batch, self.answers.ranges(now()));
        self.hold();
        Ok(())
    }

    /// Whether the client has yet to show that it may send events.
    fn is_stranger(&self) -> bool {
        !self.is_introduced && self.shared.options.token.is_some()
    }

    fn forbid(&mut self) -> CloseReason {
        if self.session.dialect() != Some(Dialect::Legacy) {
            self.last_word = Some(about_no_event(0, Status::Unauthorized));
        }
        CloseReason::Unauthorized
    }

    fn hold(&mut self) {
        let held_for = |turn, source: &Source| if turn == Turn::Held { source.held_for() } else { None };
        while self.place.wait(held_for(self.turn, &self.source)) {
            // Room that came before it was in line was told to others.
            self.turn = self.source.go_on(self.answers.ranges(now()));
        }
    }

    /// Behind the answers to what came before the pings: those come as soon as there is nothing but room to be waited for.
    fn answer_pings(&mut self) {
        if self.turn != Turn::MadeTopic {
            (0..std::mem::take(&mut self.pings)).for_each(|_| self.answers.pong());
        }
    }

    /// There is room or memory, a topic was made, or there are answers.
    fn resume(&mut self) -> Going {
        if self.turn != Turn::Done {
            self.turn = self.source.go_on(self.answers.ranges(now()));
            self.hold();
            self.answer_pings();
        }
        if self.beginning.waits() {
            self.beginning.keep(self.tail.capacity(), self.need);
        }
        Ok(())
    }

    /// A client introduces itself.
    fn welcome(&mut self, hello: &Owned, comes_first: bool) -> Going {
        let options = &self.shared.options;
        if !comes_first || self.is_introduced || hello.version < u32::from(VERSION) {
            let offset = self.session.offset();
            return Err(self.refuse(Fault::Body(Kind::Hello), offset));
        }
        if !is_authorized(options.token.as_deref(), &hello.token) {
            return Err(self.forbid());
        }
        self.is_introduced = true;
        self.session.allow(options.max_frame);
        let wanted = if hello.window == 0 { options.window } else { hello.window };
        let credit = wanted.min(options.window);
        let news = self.news.clone();
        let source = self.engine.source(Origin::Tcp(self.peer)).producer(hello.producer).credit(credit);
        self.source = source.notify(move || news.told.notify_one()).open();
        let welcome = Welcome {
            session: self.shared.sessions.fetch_add(1, Ordering::Relaxed) + 1,
            last_sequence: self.engine.newest(&hello.producer),
            max_len: options.max_frame as u32,
            credit,
            version: VERSION.into(),
            durability: self.engine.durability(),
        };
        self.answers.welcome(&welcome);
        Ok(())
    }

    /// Sends what is due, as far as it can be sent now.
    fn send(&mut self) -> Going {
        let now = now();
        self.source.take_answers(self.answers.ranges(now));
        self.answers.settle(now);
        while !self.answers.unsent().is_empty() {
            match self.stream.try_write(self.answers.unsent()) {
                Ok(sent) => {
                    self.answers.was_sent(sent);
                    self.unread_since = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(CloseReason::Cut),
            }
        }
        self.unread_since = now;
        Ok(())
    }

    /// Reads no more, and sends answers until the server is closed.
    async fn drain(&mut self, stage: &mut watch::Receiver<Stage>) {
        loop {
            if self.resume().and(self.send()).is_err() {
                return;
            }
            let has_more = !self.answers.unsent().is_empty();
            tokio::select! {
                biased;
                () = reached(stage, Stage::Closed) => break,
                () = self.news.come(self.turn) => {}
                _ = self.stream.writable(), if has_more => {}
            }
        }
        let _ = self.resume();
    }

    /// Sends the last answers.
    async fn say_goodbye(&mut self) {
        self.answers.ranges(now()).extend(self.last_word.take());
        self.answers.flush();
        let sending = async {
            while self.send().is_ok() && !self.answers.unsent().is_empty() {
                if self.stream.writable().await.is_err() {
                    return;
                }
            }
            // Closed with bytes unread, the connection would be reset, and the answers lost with it.
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await;
            let mut rest = [0; 4096];
            while self.stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        };
        let _ = tokio::time::timeout(LAST_ANSWERS, sending).await;
    }
}

fn about_no_event(at: u64, status: Status) -> Range {
    let mut answer = Range::of(at, status);
    answer.lane = NO_LANE;
    answer
}

/// A [`Hello`] that outlives the bytes it came in.
struct Owned {
    version: u32,
    window: u32,
    producer: [u8; 16],
    token: Vec<u8>,
}

impl Owned {
    fn of(hello: &Hello<'_>) -> Self {
        let Hello { version, window, producer, token } = *hello;
        Owned { version, window, producer, token: token.into() }
    }
}
