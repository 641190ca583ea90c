//! What the two sides of the guardian say to each other, and what a new process needs to know: bytes, by value.
//!
//! Both sides are the same program in the same machine's memory order, so numbers are native. Nothing here allocates but what
//! says so, and nothing panics, whatever the bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Bytes of every request and every report.
pub(super) const MESSAGE: usize = 16;

/// What the supervisor asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// With three descriptors: the block, standard output, standard error.
    Spawn { id: u32, block: u64 },
    /// To the node's group; SIGKILL to everything that is left of it.
    Signal { id: u32, signal: i32 },
    /// SIGKILL to every descendant.
    KillAll,
}

/// What the guardian tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// The node's program runs.
    Spawned {
        /// The node.
        id: u32,
        /// Its process, which is also the number of its process group.
        pid: i32,
    },
    /// The node's program does not run, and nothing is left of the attempt.
    SpawnFailed {
        /// The node.
        id: u32,
        /// What failed.
        step: Step,
        /// Why, as `errno`.
        errno: i32,
    },
    /// The node's process ended. What it started may go on: see [`Report::Emptied`].
    Exited {
        /// The node.
        id: u32,
        /// How.
        status: Status,
    },
    /// Nothing is left of the node: no process of its group and no descendant. Its number is free again.
    Emptied {
        /// The node.
        id: u32,
        /// How many of its processes were sent SIGKILL by the guardian.
        killed: u32,
    },
}

impl Report {
    /// The node it is about.
    pub fn id(&self) -> u32 {
        match *self {
            Report::Spawned { id, .. }
            | Report::SpawnFailed { id, .. }
            | Report::Exited { id, .. }
            | Report::Emptied { id, .. } => id,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What a new process does before it is the node's program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Getting the program's description and its output to the guardian.
    Request = 1,
    /// Becoming a process.
    Fork = 2,
    /// Its standard output and error.
    Output = 3,
    /// Its CPUs.
    Affinity = 4,
    /// Its working directory.
    WorkingDir = 5,
    /// Its program.
    Exec = 6,
}

impl Step {
    const ALL: [Step; 6] = [Step::Request, Step::Fork, Step::Output, Step::Affinity, Step::WorkingDir, Step::Exec];

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u32 == number)
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Request => "receive what to start",
            Step::Fork => "start a process",
            Step::Output => "redirect its output",
            Step::Affinity => "set its CPUs",
            Step::WorkingDir => "enter its working directory",
            Step::Exec => "execute its program",
        })
    }
}

fn pack(numbers: [u32; 4]) -> [u8; MESSAGE] {
    let mut bytes = [0; MESSAGE];
    for (to, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        to.copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

fn unpack(bytes: &[u8]) -> Option<[u32; 4]> {
    let bytes: &[u8; MESSAGE] = bytes.try_into().ok()?;
    let mut numbers = [0; 4];
    for (number, from) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
        *number = u32::from_ne_bytes(from.try_into().ok()?);
    }
    Some(numbers)
}

impl Request {
    pub(super) fn encode(self) -> [u8; MESSAGE] {
        pack(match self {
            Request::Spawn { id, block } => [1, id, block as u32, (block >> 32) as u32],
            Request::Signal { id, signal } => [2, id, signal as u32, 0],
            Request::KillAll => [3, 0, 0, 0],
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match unpack(bytes)? {
            [1, id, low, high] => Some(Request::Spawn { id, block: u64::from(low) | u64::from(high) << 32 }),
            [2, id, signal, 0] => Some(Request::Signal { id, signal: signal as i32 }),
            [3, 0, 0, 0] => Some(Request::KillAll),
            _ => None,
        }
    }
}

impl Report {
    pub(super) fn encode(self) -> [u8; MESSAGE] {
        pack(match self {
            Report::Spawned { id, pid } => [1, id, pid as u32, 0],
            Report::SpawnFailed { id, step, errno } => [2, id, step as u32, errno as u32],
            Report::Exited { id, status: Status::Code(code) } => [3, id, 0, code as u32],
            Report::Exited { id, status: Status::Signal(signal) } => [3, id, 1, signal as u32],
            Report::Emptied { id, killed } => [4, id, killed, 0],
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(match unpack(bytes)? {
            [1, id, pid, 0] => Report::Spawned { id, pid: pid as i32 },
            [2, id, step, errno] => Report::SpawnFailed { id, step: Step::from_number(step)?, errno: errno as i32 },
            [3, id, 0, code] => Report::Exited { id, status: Status::Code(code as i32) },
            [3, id, 1, signal] => Report::Exited { id, status: Status::Signal(signal as i32) },
            [4, id, killed, 0] => Report::Emptied { id, killed },
            _ => return None,
        })
    }
}

/// Four numbers: how many arguments, how many variables, how many bytes say which CPUs, and 0.
const HEAD: usize = 16;
const WORD: usize = size_of::<usize>();

/// A zero byte where none may be.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Nul;

/// What `execve` needs, in one piece: numbers, room for the two arrays of pointers, the CPUs, and the strings, each with its
/// zero. Whoever executes it maps it privately and fills in the pointers: it has to allocate nothing.
pub(super) fn encode_block(
    program: &OsStr,
    working_dir: &OsStr,
    argv: &[&OsStr],
    env: &[impl AsRef<OsStr>],
    cpus: &[usize],
) -> Result<Vec<u8>, Nul> {
    // In words, as the kernel takes it.
    let mask = cpus.iter().max().map_or(0, |last| (last / (8 * WORD) + 1) * WORD);
    let mut block = Vec::new();
    block.extend_from_slice(&pack([argv.len() as u32, env.len() as u32, mask as u32, 0]));
    block.resize(HEAD + (argv.len() + env.len() + 2) * WORD + mask, 0);
    let first = block.len() - mask;
    for word in 0..mask / WORD {
        let bits = cpus.iter().filter(|cpu| **cpu / (8 * WORD) == word);
        let bits = bits.fold(0usize, |bits, cpu| bits | 1 << (cpu % (8 * WORD)));
        block[first + word * WORD..][..WORD].copy_from_slice(&bits.to_ne_bytes());
    }
    let strings = [program, working_dir].into_iter().chain(argv.iter().copied());
    for string in strings.chain(env.iter().map(AsRef::as_ref)) {
        if string.as_bytes().contains(&0) {
            return Err(Nul);
        }
        block.extend_from_slice(string.as_bytes());
        block.push(0);
    }
    Ok(block)
}

/// Where in a block things are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Linked {
    pub program: usize,
    pub working_dir: usize,
    pub argv: usize,
    pub envp: usize,
    pub cpus: usize,
    pub cpus_len: usize,
}

/// Fills in the pointers of a block that lies at address `base`. Every string that one points to has its zero in the block.
pub(super) fn link(block: &mut [u8], base: usize) -> Option<Linked> {
    let [argc, envc, cpus_len, 0] = unpack(block.get(..HEAD)?)?.map(|number| number as usize) else { return None };
    let pointers = argc.checked_add(envc)?.checked_add(2)?.checked_mul(WORD)?;
    let cpus = HEAD.checked_add(pointers)?;
    let strings = cpus.checked_add(cpus_len)?;
    let (head, rest) = block.split_at_mut_checked(strings)?;
    let (_, room) = head.split_at_mut_checked(HEAD)?;
    let mut room = room.chunks_exact_mut(WORD);
    let mut at = strings;
    // The next string's place.
    let mut next = || {
        let length = rest.get(at.checked_sub(strings)?..)?.iter().position(|byte| *byte == 0)?;
        let start = at;
        at = at.checked_add(length)?.checked_add(1)?;
        Some(start)
    };
    let (program, working_dir) = (next()?, next()?);
    for count in [argc, envc] {
        for _ in 0..count {
            room.next()?.copy_from_slice(&base.checked_add(next()?)?.to_ne_bytes());
        }
        room.next()?.copy_from_slice(&[0; WORD]);
    }
    let envp = HEAD.checked_add(argc.checked_add(1)?.checked_mul(WORD)?)?;
    Some(Linked { program, working_dir, argv: HEAD, envp, cpus, cpus_len })
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
