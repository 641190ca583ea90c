//! What is known of one life: where its output and its messages come from.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::Stream;
use super::lines::Lines;
use super::notify::Socket;
use crate::flow::plan::TaskId;
use crate::flow::supervisor::Life;

/// Bytes that are read from a pipe before all others have their turn.
pub(super) const AT_ONCE: usize = 16 << 10;
/// Bytes that are read from a pipe whose writers are dead: as much as any pipe holds.
const LAST: usize = 1 << 20;

/// What can be read of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Guardian,
    Handle,
    Files,
    Output(Life, Stream),
    Notify(Life),
}

impl Source {
    /// What epoll calls it.
    pub fn token(self) -> u64 {
        match self {
            Source::Guardian => 3,
            Source::Handle => 7,
            Source::Files => 11,
            Source::Output(life, Stream::Out) => life.0 << 2,
            Source::Output(life, Stream::Err) => life.0 << 2 | 1,
            Source::Notify(life) => life.0 << 2 | 2,
        }
    }

    pub fn of(token: u64) -> Self {
        let life = Life(token >> 2);
        match token & 3 {
            0 => Source::Output(life, Stream::Out),
            1 => Source::Output(life, Stream::Err),
            2 => Source::Notify(life),
            _ if token == 3 => Source::Guardian,
            _ if token == 7 => Source::Handle,
            _ => Source::Files,
        }
    }

    /// Wakes up when there is something to read.
    pub fn register(self, epoll: &OwnedFd, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::add(epoll, fd, EventData::new_u64(self.token()), EventFlags::IN)?)
    }
}

/// What wakes up for as long as it is there: also if a child that was forked meanwhile has a copy, which would keep the
/// registration.
#[derive(Debug)]
pub(super) struct Registered<T: AsFd> {
    pub of: T,
    epoll: Arc<OwnedFd>,
}

impl<T: AsFd> Registered<T> {
    fn new(of: T, source: Source, epoll: &Arc<OwnedFd>) -> io::Result<Self> {
        source.register(epoll, &of)?;
        Ok(Registered { of, epoll: epoll.clone() })
    }
}

impl<T: AsFd> Drop for Registered<T> {
    fn drop(&mut self) {
        // Fails only if it is not registered.
        let _ = epoll::delete(&*self.epoll, &self.of);
    }
}

/// From [`Action::Spawn`](crate::flow::supervisor::Action::Spawn) until nothing is left.
#[derive(Debug)]
pub(super) struct Living {
    pub task: TaskId,
    /// What the guardian knows it by.
    pub id: u32,
    pub socket: Option<Registered<Socket>>,
    output: [Pipe; 2],
}

#[derive(Debug)]
struct Pipe {
    /// `None` when nobody can write any more.
    fd: Option<Registered<OwnedFd>>,
    lines: Lines,
}

/// The ends that a life's process gets.
pub(super) type Ends = [OwnedFd; 2];

impl Living {
    pub fn new(
        task: TaskId,
        id: u32,
        life: Life,
        socket: Option<Socket>,
        epoll: &Arc<OwnedFd>,
    ) -> io::Result<(Self, Ends)> {
        let pipe = |stream| -> io::Result<(Pipe, OwnedFd)> {
            let (from, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            // This end only: programs don't expect of theirs that it refuses.
            rustix::fs::fcntl_setfl(&from, OFlags::NONBLOCK)?;
            let fd = Some(Registered::new(from, Source::Output(life, stream), epoll)?);
            Ok((Pipe { fd, lines: Lines::default() }, to))
        };
        let ((out, out_end), (err, err_end)) = (pipe(Stream::Out)?, pipe(Stream::Err)?);
        let socket = socket.map(|socket| Registered::new(socket, Source::Notify(life), epoll)).transpose()?;
        Ok((Living { task, id, socket, output: [out, err] }, [out_end, err_end]))
    }

    /// Reads what a stream has, as far as one reads at a time.
    pub fn read(&mut self, stream: Stream, room: &mut [u8; AT_ONCE], each: &mut dyn FnMut(&str)) -> Got {
        let Pipe { fd: Some(fd), lines } = &mut self.output[stream as usize] else { return Got::End };
        let got = match rustix::io::read(&fd.of, &mut room[..]) {
            Ok(0) => Got::End,
            Ok(count) => {
                lines.push(&room[..count], each);
                Got::Some(count)
            }
            Err(Errno::AGAIN | Errno::INTR) => Got::Nothing,
            Err(_) => Got::End,
        };
        if got == Got::End {
            lines.end(each);
            self.output[stream as usize].fd = None;
        }
        got
    }

    /// Reads what was written until now, so that it is heard before the news that come after it.
    pub fn catch_up(&mut self, stream: Stream, room: &mut [u8; AT_ONCE], each: &mut dyn FnMut(&str)) {
        let mut read = 0;
        while let Got::Some(count) = self.read(stream, room, each) {
            read += count;
            // What its process left may write without end.
            if read >= LAST {
                break;
            }
        }
    }

    /// Nothing is left of it: what it wrote last is a line.
    pub fn end(&mut self, stream: Stream, room: &mut [u8; AT_ONCE], each: &mut dyn FnMut(&str)) {
        self.catch_up(stream, room, each);
        let Pipe { fd, lines } = &mut self.output[stream as usize];
        if fd.take().is_some() {
            lines.end(each);
        }
    }
}

/// What came of reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Got {
    Some(usize),
    Nothing,
    End,
}
