//! The guardian's own process, from its first instruction to its last.
//!
//! It is a fork of a program that may have threads, so until its end it makes system calls and touches what was prepared before,
//! and nothing else: it doesn't allocate, lock or panic.

use super::census::{self, Census, Owner};
use super::codec::{MESSAGE, Request, Step};
use super::exec::{self, Ends};
use super::nodes::Nodes;
use super::proc::{self, Process, Token};
use super::sys::{close, close_all_but, errno, receive, send_message};

/// What it is called. The kernel cuts names after 15 bytes.
const NAME: &std::ffi::CStr = c"conduit-guard";

/// How long to wait for the system to have what it lacked, such as descriptors.
const RETRY_MS: i32 = 50;

/// What an event is about; from [`PIPES`] on, the pipe of a node.
const SOCKET: u64 = 0;
const SIGNALS: u64 = 1;
const SUPERVISOR: u64 = 2;
const PIPES: u64 = 3;

/// What is prepared before the fork.
pub(super) struct Keeper {
    pub token: Token,
    /// To the supervisor.
    pub socket: i32,
    /// The supervisor's process.
    pub supervisor: i32,
    /// Nothing, to read from.
    pub null: i32,
    pub nodes: Nodes,
    pub census: Census,
    pub state: State,
}

/// What is known later.
#[derive(Default)]
pub(super) struct State {
    me: i32,
    signals: i32,
    epoll: i32,
    /// No more requests: everything ends.
    closing: bool,
    /// Nobody hears reports.
    is_alone: bool,
    /// What is watched of the socket.
    watched: u32,
    /// Something is to be killed that was not.
    kill_now: bool,
    kill_strays: bool,
    /// Something could not be looked at.
    retry: bool,
    /// A child may have ended.
    look: bool,
}

/// Never returns. A panic would end the process here: the nodes with it, and the supervisor would know.
pub(super) extern "C" fn run(keeper: &mut Keeper) -> ! {
    let errno = keeper.set_up();
    send_message(keeper.socket, &errno.to_ne_bytes());
    if errno == 0 {
        while keeper.step() {}
    }
    // SAFETY: ends this process, without what was registered to be done at the end of the program it was forked from.
    unsafe { libc::_exit(errno) }
}

/// Whose a child of the guardian is, `me`; everybody else is their parent's owner's.
///
/// Who left the group is known by its environment. Who left that, too, and has lost its parent, is somebody's of the flow.
fn owner_of(nodes: &Nodes, token: &Token, me: i32, process: &Process) -> Option<Owner> {
    if process.pid == me {
        return Some(Owner::Nobody);
    }
    if process.parent != me {
        return None;
    }
    let known = nodes.by_process(process.pid, process.group);
    let known = known.or_else(|| proc::cookie(process.pid, token).and_then(|id| nodes.find(id)));
    Some(known.map_or(Owner::Stray, Owner::Node))
}

impl Keeper {
    /// Returns what failed, as `errno`, or 0.
    fn set_up(&mut self) -> i32 {
        // SAFETY: system calls with numbers and with structs of this frame; `sigset_t` and `sigaction` are integers and null
        // pointers. All signals are blocked, so no handler of the program runs here.
        unsafe {
            self.state.me = libc::getpid();
            // Away from the terminal: its signals are for the supervisor, and none of its sessions ends with this one.
            libc::setsid();
            libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
            libc::prctl(libc::PR_SET_PDEATHSIG, 0);
            if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) < 0 {
                return errno();
            }
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = libc::SIG_DFL;
            for signal in 1..=64 {
                // Fails for those that have no other disposition.
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
            for to in 0..3 {
                if libc::dup2(self.null, to) < 0 {
                    return errno();
                }
            }
            close_all_but([self.socket, self.supervisor]);
            // Nor does it keep a file system busy.
            libc::chdir(c"/".as_ptr());
            let mut signals: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut signals, libc::SIGCHLD);
            self.state.signals = libc::signalfd(-1, &signals, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            self.state.epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if self.state.signals < 0 || self.state.epoll < 0 {
                return errno();
            }
        }
        self.state.watched = libc::EPOLLIN as u32;
        let watched = [(self.socket, SOCKET), (self.state.signals, SIGNALS), (self.supervisor, SUPERVISOR)];
        for (fd, data) in watched {
            if !self.watch(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN as u32, data) {
                return errno();
            }
        }
        0
    }

    fn watch(&self, what: i32, fd: i32, events: u32, data: u64) -> bool {
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: a struct of this frame, and descriptors by number.
        unsafe { libc::epoll_ctl(self.state.epoll, what, fd, &mut event) == 0 }
    }

    /// Waits for something and does what it asks for. Returns whether there is more to do.
    fn step(&mut self) -> bool {
        self.tell();
        if self.state.closing && !self.has_children() && (self.state.is_alone || !self.has_to_tell()) {
            return false;
        }
        let timeout = match (self.state.kill_now, self.state.retry) {
            (true, _) => 0,
            (_, true) => RETRY_MS,
            _ => -1,
        };
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 32];
        // SAFETY: at most as many events as there is room for.
        let count = unsafe { libc::epoll_wait(self.state.epoll, events.as_mut_ptr(), events.len() as i32, timeout) };
        for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
            match event.u64 {
                SOCKET => self.hear(),
                SIGNALS => self.state.look = true,
                SUPERVISOR => {
                    self.watch(libc::EPOLL_CTL_DEL, self.supervisor, 0, 0);
                    self.state.is_alone = true;
                    self.close();
                }
                pipe => self.hear_of_start((pipe - PIPES) as usize),
            }
        }
        self.look();
        if self.state.kill_now {
            self.kill();
        }
        true
    }

    /// Hears up to a number of requests.
    fn hear(&mut self) {
        for _ in 0..64 {
            let mut bytes = [0; MESSAGE + 1];
            let mut fds = [-1; 3];
            match receive(self.socket, &mut bytes, &mut fds) {
                None => return,
                Some(0) => return self.close(),
                Some(len) => match bytes.get(..len).and_then(Request::decode) {
                    Some(Request::Spawn { id, block }) => self.spawn(id, block, fds),
                    Some(Request::Signal { id, signal }) => self.signal(id, signal),
                    Some(Request::KillAll) => {
                        self.nodes.iter_mut().for_each(|slot| slot.kill());
                        (self.state.kill_strays, self.state.kill_now) = (true, true);
                    }
                    // Whoever says what nobody says is out of order, and what it may have meant could be somebody's end.
                    None => return self.close(),
                },
            }
        }
    }

    /// Everything ends.
    fn close(&mut self) {
        if !self.state.closing {
            self.state.closing = true;
            self.state.kill_now = true;
            self.nodes.iter_mut().for_each(|slot| slot.kill());
        }
        self.watch_socket(false);
    }

    /// Watches the socket for requests, if there may be any, and for room for reports, if that is wanted.
    fn watch_socket(&mut self, room: bool) {
        let read = if self.state.closing { 0 } else { libc::EPOLLIN as u32 };
        let wanted = read | if room { libc::EPOLLOUT as u32 } else { 0 };
        if wanted == self.state.watched {
            return;
        }
        // That it is closed at the other side would be told without being asked for, again and again.
        let what = match (self.state.watched, wanted) {
            (_, 0) => libc::EPOLL_CTL_DEL,
            (0, _) => libc::EPOLL_CTL_ADD,
            _ => libc::EPOLL_CTL_MOD,
        };
        self.watch(what, self.socket, wanted, SOCKET);
        self.state.watched = wanted;
    }

    fn has_to_tell(&self) -> bool {
        self.nodes.iter().any(|slot| slot.report().is_some())
    }

    /// Tells what there is to tell, as far as there is room.
    fn tell(&mut self) {
        let mut is_full = false;
        'all: for slot in self.nodes.iter_mut() {
            while let Some(report) = slot.report() {
                if !self.state.is_alone {
                    match send_message(self.socket, &report.encode()) {
                        0 => {}
                        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => {
                            is_full = true;
                            break 'all;
                        }
                        _ => self.state.is_alone = true,
                    }
                }
                slot.told();
            }
        }
        self.watch_socket(is_full);
    }

    fn spawn(&mut self, id: u32, block: u64, [block_fd, stdout, stderr]: [i32; 3]) {
        let mut pipe = [-1; 2];
        if let Some((at, slot)) = self.nodes.add(id) {
            // SAFETY: room for two descriptors.
            if stderr < 0 {
                slot.failed(Step::Request, libc::EMFILE);
            } else if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } < 0 {
                slot.failed(Step::Fork, errno());
            } else {
                // SAFETY: this process has one thread.
                let pid = unsafe { exec::fork(libc::SIGCHLD) };
                if pid == 0 {
                    exec::exec(self.state.me, block, &Ends { block: block_fd, stdout, stderr, pipe: pipe[1] });
                }
                if pid < 0 {
                    slot.failed(Step::Fork, errno());
                    close(pipe[0]);
                } else {
                    // Here and there: whoever is first, from now on it is in its group.
                    // SAFETY: numbers.
                    unsafe { libc::setpgid(pid, pid) };
                    slot.started(pid, pipe[0]);
                    if !self.watch(libc::EPOLL_CTL_ADD, pipe[0], libc::EPOLLIN as u32, PIPES + at as u64) {
                        // No memory to watch it: look from time to time.
                        self.state.retry = true;
                    }
                }
            }
        }
        [block_fd, stdout, stderr, pipe[1]].into_iter().for_each(close);
    }

    /// Hears whether a node's program runs.
    fn hear_of_start(&mut self, at: usize) {
        let Some((slot, pipe)) = self.nodes.get(at).and_then(|slot| slot.pipe().map(|pipe| (slot, pipe))) else {
            return;
        };
        let mut bytes = [0; 8];
        // SAFETY: as many bytes as there is room for.
        match unsafe { libc::read(pipe, bytes.as_mut_ptr().cast(), bytes.len()) } {
            0 => slot.runs(),
            8 => {
                let (step, errno) = exec::read_failure(&bytes).unwrap_or((Step::Exec, libc::EINVAL));
                slot.failed(step, errno);
            }
            _ => return,
        }
        // Another process that is just being started has a copy of it until its program runs.
        self.watch(libc::EPOLL_CTL_DEL, pipe, 0, 0);
        close(pipe);
    }

    fn signal(&mut self, id: u32, signal: i32) {
        let me = self.state.me;
        let Some(at) = self.nodes.find(id) else { return };
        let Some(slot) = self.nodes.get(at) else { return };
        if signal == libc::SIGKILL {
            slot.kill();
            self.state.kill_now = true;
            return;
        }
        let (has_leader, group) = (slot.has_leader(), slot.pid);
        let (nodes, token) = (&self.nodes, &self.token);
        self.census.take(|process| owner_of(nodes, token, me, process));
        let mut is_group = has_leader;
        for (process, owner) in self.census.living().filter(|(_, owner)| *owner == Owner::Node(at)) {
            is_group |= process.group == group;
            // Who has a parent left is told by it; who has none, by nobody else.
            if process.parent == me && process.group != group && owner == Owner::Node(at) {
                census::send(process, me, signal);
            }
        }
        // Otherwise its number may be another's by now.
        if is_group && group > 0 {
            // SAFETY: numbers.
            unsafe { libc::kill(-group, signal) };
        }
    }

    fn has_children(&self) -> bool {
        // SAFETY: tells nothing but whether there are any.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
            libc::waitid(libc::P_ALL, 0, &mut info, how) == 0 || errno() != libc::ECHILD
        }
    }

    /// Waits for all children that have ended, and looks what is left of whom.
    fn look(&mut self) {
        let again = std::mem::take(&mut self.state.retry);
        if again {
            (0..self.nodes.iter().count()).for_each(|at| self.hear_of_start(at));
        }
        if !std::mem::take(&mut self.state.look) && !again {
            return;
        }
        let mut info = [0u64; 16];
        // SAFETY: reads away that there was a signal: 128 bytes at most.
        while unsafe { libc::read(self.state.signals, info.as_mut_ptr().cast(), size_of_val(&info)) } > 0 {}
        loop {
            let mut status = 0;
            // SAFETY: room for a status.
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | libc::__WALL) };
            if pid <= 0 {
                break;
            }
            let leader = self.nodes.iter().position(|slot| slot.has_leader() && slot.pid == pid);
            if let Some(at) = leader {
                // It can't say anything any more, but may have.
                self.hear_of_start(at);
                if let Some(slot) = self.nodes.get(at) {
                    slot.ended(status);
                }
            }
        }
        let is_killing = self.state.closing || self.state.kill_strays;
        if is_killing || self.nodes.iter().any(|slot| slot.is_ending() || slot.is_killing()) {
            self.check();
        }
    }

    /// Looks whose children there are, which nodes are empty by that, and whether one is left that should be dead.
    ///
    /// Of each node that has lost its process there is a child here as long as there is anything: the parents of what is left,
    /// or their parents, were orphaned. So a node is empty as soon as no child is of it.
    fn check(&mut self) {
        self.nodes.iter_mut().for_each(|slot| slot.set_present(false));
        let mut has_strays = false;
        let mut is_unknown = false;
        let Keeper { token, nodes, census, state, .. } = self;
        let me = state.me;
        let mut each = |process: &Process| {
            let owner = owner_of(nodes, token, me, process);
            let is_wanted = match owner {
                Some(Owner::Node(at)) => {
                    if let Some(slot) = nodes.get(at) {
                        slot.set_present(true);
                    }
                    nodes.is_killing(at)
                }
                Some(Owner::Stray) => {
                    has_strays = true;
                    state.kill_strays
                }
                _ => false,
            };
            if (is_wanted || state.closing) && !process.is_dead() && !census.is_marked(process) {
                state.kill_now = true;
            }
        };
        let listed = proc::for_each_child(me, |pid| match proc::process(pid) {
            Some(process) => each(&process),
            None => is_unknown = true,
        });
        if listed.is_none() {
            let all = proc::for_each_process(|pid| {
                if let Some(process) = proc::process(pid).filter(|process| process.parent == me) {
                    each(&process);
                }
            });
            is_unknown |= all.is_none();
        }
        state.retry |= is_unknown;
        if !is_unknown {
            state.kill_strays &= has_strays;
            nodes.iter_mut().for_each(|slot| slot.check_empty());
        }
    }

    /// Ends what is to end.
    fn kill(&mut self) {
        let Keeper { token, nodes, census, state, .. } = self;
        // When nobody is left to hear whose they were, only that they end matters.
        let (me, freeze) = (state.me, !state.is_alone);
        let strays = state.closing || state.kill_strays;
        for slot in nodes.iter().filter(|slot| slot.is_killing() && slot.has_leader()) {
            // All of the group at once, whatever is started in the meantime.
            // SAFETY: numbers; its group is its own as long as it was not waited for.
            unsafe { libc::kill(-slot.pid, if freeze { libc::SIGSTOP } else { libc::SIGKILL }) };
        }
        let is_settled = census.kill(
            me,
            freeze,
            nodes,
            |nodes, process| owner_of(nodes, token, me, process),
            |nodes, owner| match owner {
                Owner::Node(at) => nodes.is_killing(at),
                Owner::Stray => strays,
                Owner::Nobody => false,
            },
            |nodes, _, owner| {
                let Owner::Node(at) = owner else { return };
                if let Some(slot) = nodes.get(at) {
                    slot.killed = slot.killed.saturating_add(1);
                }
            },
        );
        state.kill_now = !is_settled;
    }
}
