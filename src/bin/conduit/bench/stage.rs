//! The processes of a cell: where they run, and the memory in which they meet.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, futex, sched_getaffinity, sched_setaffinity};
use serde_json::{Map, Value};

use super::cells::Cell;
use crate::Context;
use crate::events::{Events, block_signals};
use crate::outcome::{Failure, Outcome, Result};

/// Take a part in a measurement
#[derive(clap::Args)]
pub struct WorkerArgs {
    pub cell: String,
    /// Which of the cell's processes this is
    pub role: usize,
    pub cpu: usize,
    /// How long to measure, in milliseconds
    pub milliseconds: u64,
}

/// How long a cell may take beyond the time to measure before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// On a line of its own, and on the one that is fetched beside it.
#[repr(align(128))]
pub struct Line<T>(pub T);

/// The shared memory of a cell's processes: zeros at first.
#[repr(C)]
pub struct Stage {
    /// Counts up: a meeting of `parties` ends at each multiple of it.
    arrived: Line<AtomicU32>,
    parties: AtomicU32,
    /// For the limits, which know nothing of topics. One writer each.
    pub lines: [Line<AtomicU64>; 2],
    /// A futex, and what the waking process says beside it.
    pub word: Line<AtomicU32>,
    pub note: Line<AtomicU64>,
}

impl Stage {
    /// The stage behind standard input, for as long as this process lives.
    fn of_stdin() -> Result<&'static Self> {
        let failed = |error: rustix::io::Errno| Failure::Failed(format!("cannot map the stage: {error}"));
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let len = size_of::<Stage>();
        if rustix::fs::fstat(std::io::stdin()).map_err(failed)?.st_size < len as i64 {
            return Err(Failure::Usage("standard input is no stage: this is a part of `conduit bench`".into()));
        }
        // SAFETY: a new mapping, of a file that is long enough.
        let start = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, std::io::stdin(), 0) };
        // SAFETY: it is never unmapped, aligned to a page, and made of atomics, for which any bytes will do.
        Ok(unsafe { &*start.map_err(failed)?.cast::<Stage>() })
    }

    /// Waits until all processes of the cell are here.
    pub fn meet(&self) {
        let parties = self.parties.load(Ordering::Relaxed).max(1);
        let turn = self.arrived.0.fetch_add(1, Ordering::AcqRel) / parties;
        while self.arrived.0.load(Ordering::Acquire) / parties == turn {
            std::thread::yield_now();
        }
    }

    /// Changes the futex and wakes who sleeps on it.
    pub fn wake(&self) {
        self.word.0.fetch_add(1, Ordering::Release);
        // Fails only for a word that is not mapped.
        let _ = futex::wake(&self.word.0, futex::Flags::empty(), i32::MAX as u32);
    }

    /// Sleeps until the futex is no longer `seen`; returns what it is.
    pub fn sleep(&self, seen: u32) -> u32 {
        loop {
            let now = self.word.0.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            // Woken, interrupted or too late: look again.
            let _ = futex::wait(&self.word.0, futex::Flags::empty(), seen, None);
        }
    }
}

/// Two processors that this process may use, and that are no halves of one core if there are such.
pub fn choose(asked: Option<(usize, usize)>) -> Result<(usize, usize)> {
    let allowed =
        sched_getaffinity(None).map_err(|error| Failure::Failed(format!("cannot ask for processors: {error}")))?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    if let Some((a, b)) = asked {
        return match [a, b].iter().find(|cpu| !allowed.contains(cpu)) {
            Some(cpu) => Err(Failure::Usage(format!("this process may not use processor {cpu}"))),
            None => Ok((a, b)),
        };
    }
    let [first, others @ ..] = allowed.as_slice() else {
        return Err(Failure::Failed("this process may use no processor".into()));
    };
    let siblings = std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list"));
    let siblings = siblings.unwrap_or_default();
    let is_sibling = |cpu: &usize| siblings.trim().split(',').any(|range| in_range(range, *cpu));
    let second = others.iter().find(|cpu| !is_sibling(cpu)).or(others.first());
    match second {
        Some(second) => Ok((*first, *second)),
        None => Err(Failure::Failed("two processors are needed, and this process may use one".into())),
    }
}

/// Whether `1-3` or `2` contains a number.
fn in_range(range: &str, number: usize) -> bool {
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    matches!((from.parse::<usize>(), to.parse::<usize>()), (Ok(from), Ok(to)) if (from..=to).contains(&number))
}

/// The processes of a cell. Dropped, they are gone, and so are their topics.
struct Players<'d> {
    children: Vec<Child>,
    domain: &'d str,
}

impl Drop for Players<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Fails only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = conduit::topic::clean(Some(self.domain), false);
    }
}

/// Runs a cell once. `None` if interrupted.
pub fn play(
    cell: &Cell,
    cpus: (usize, usize),
    time: Duration,
    domain: &str,
    events: &mut Events,
) -> Result<Option<Map<String, Value>>> {
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot start {}: {error}", cell.name));
    let stage = memfd_create("conduit-bench", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    ftruncate(&stage, size_of::<Stage>() as u64).map_err(|error| failed(error.into()))?;
    let parties = (cell.processes as u32).to_ne_bytes();
    let at = std::mem::offset_of!(Stage, parties) as u64;
    rustix::io::pwrite(&stage, &parties, at).map_err(|error| failed(error.into()))?;
    let mut players = Players { children: Vec::new(), domain };
    for role in 0..cell.processes {
        let stdin: OwnedFd = stage.try_clone().map_err(failed)?;
        let cpu = if role == 0 { cpus.0 } else { cpus.1 };
        let numbers = [role as u64, cpu as u64, time.as_millis().max(1) as u64].map(|number| number.to_string());
        let mut command = Command::new("/proc/self/exe");
        command.args(["bench-worker", "--domain", domain, cell.name]).args(numbers);
        players.children.push(command.stdin(stdin).stdout(Stdio::piped()).spawn().map_err(failed)?);
    }
    let mut outputs: Vec<_> = players.children.iter_mut().map(|child| child.stdout.take()).collect();
    let deadline = Instant::now() + PATIENCE + time * 4;
    let mut said = Vec::new();
    while outputs.iter().any(Option::is_some) {
        let open: Vec<usize> = (0..outputs.len()).filter(|&at| outputs[at].is_some()).collect();
        let fds: Vec<_> = open.iter().filter_map(|&at| outputs[at].as_ref().map(AsFd::as_fd)).collect();
        let woken = events.wait(&fds, Some(deadline))?;
        if woken.interrupted {
            return Ok(None);
        }
        for at in woken.ready.into_iter().map(|ready| open[ready]) {
            let mut bytes = [0; 4096];
            let count = outputs[at].as_mut().map_or(0, |output| output.read(&mut bytes).unwrap_or(0));
            said.extend_from_slice(&bytes[..count]);
            if count == 0 {
                outputs[at] = None;
                let status = players.children[at].wait().map_err(failed)?;
                if !status.success() {
                    return Err(Failure::Failed(format!("{}: a process of it failed ({status})", cell.name)));
                }
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::Failed(format!("{} takes too long", cell.name)));
        }
    }
    let figures = serde_json::from_slice(&said);
    figures.map(Some).map_err(|error| Failure::Failed(format!("{} said no figures: {error}", cell.name)))
}

/// What one process of a cell does.
pub fn work(cell: &Cell, args: &WorkerArgs, context: &Context) -> Result {
    // Ctrl-C reaches all processes of a terminal; the bench ends its own.
    block_signals();
    let failed = |what, error: rustix::io::Errno| Failure::Failed(format!("cannot {what}: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed("follow the parent", error))?;
    let mut cpus = CpuSet::new();
    cpus.set(args.cpu);
    sched_setaffinity(None, &cpus).map_err(|error| failed("choose a processor", error))?;
    let stage = Stage::of_stdin()?;
    let part = super::cells::Part {
        stage,
        role: args.role,
        time: Duration::from_millis(args.milliseconds),
        domain: &context.domain,
    };
    if let Some(figures) = (cell.play)(&part)? {
        // One write: the figures of a cell fit in a pipe's atomic 4096 bytes.
        std::io::stdout().write_all(Value::Object(figures).to_string().as_bytes())?;
    }
    Ok(Outcome::Done)
}
