//! What `/proc` says of a process, read without allocating.

use std::ffi::CStr;

/// The variable by which a process is known to be of a flow, even if it left its group, its session and its parent: the
/// guardian's token and the node's number, `TOKEN:ID`. Within flows within flows one for each, outermost first, with commas
/// between them.
pub const COOKIE: &str = "CONDUIT_FLOW";

/// How many letters and digits a token has.
pub(super) const TOKEN: usize = 16;

/// Which flow.
pub(super) type Token = [u8; TOKEN];

/// Room for one read.
const CHUNK: usize = 4096;
/// The longest cookie that is looked at: some twenty flows within each other.
const LONGEST: usize = 512;

/// A process, as `/proc/PID/stat` has it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub(super) struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// Ticks since the system started: with the number, this is which process it is.
    pub start: u64,
    pub state: u8,
    /// Where its environment ends; 0 while it is becoming another program, and where that is nobody's business.
    pub env_end: u64,
}

impl Process {
    /// Whether it has ended and only waits to be waited for.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// From a line of `/proc/PID/stat`. The second field is the name in parentheses; it may have any bytes, parentheses and
    /// spaces included.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let pid = number(line.split(|byte| *byte == b' ').next()?)?;
        let name_ends = line.iter().rposition(|byte| *byte == b')')?;
        let mut fields = line.get(name_ends.checked_add(2)?..)?.split(|byte| matches!(byte, b' ' | b'\n'));
        let state = *fields.next()?.first()?;
        let (parent, group, session) = (fields.next()?, fields.next()?, fields.next()?);
        // The 22nd field of the line; the session is the 6th.
        let start = number(fields.nth(15)?)?;
        // The 51st.
        let env_end = fields.nth(28).and_then(number).unwrap_or(0);
        let [pid, parent, group, session] = [Some(pid), number(parent), number(group), number(session)]
            .map(|number| number.and_then(|number| i32::try_from(number).ok()));
        Some(Process { pid: pid?, parent: parent?, group: group?, session: session?, start, state, env_end })
    }
}

/// A decimal number without a sign.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| digit.wrapping_sub(b'0'))?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Looks for the cookie of one flow in an environment that comes in pieces.
pub(super) struct Search<'a> {
    token: &'a Token,
    /// The beginning of the current variable.
    entry: [u8; LONGEST],
    len: usize,
    found: Option<u32>,
}

impl<'a> Search<'a> {
    pub(super) fn new(token: &'a Token) -> Self {
        Search { token, entry: [0; LONGEST], len: 0, found: None }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == 0 {
                self.end_entry();
            } else if let Some(place) = self.entry.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    fn end_entry(&mut self) {
        let entry = self.entry.get(..self.len).unwrap_or_default();
        let value = entry.strip_prefix(COOKIE.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        for cookie in value.unwrap_or_default().split(|byte| *byte == b',') {
            let id = cookie.strip_prefix(self.token.as_slice()).and_then(|rest| rest.strip_prefix(b":"));
            if let Some(id) = id.and_then(number).and_then(|id| u32::try_from(id).ok()) {
                self.found = Some(id);
            }
        }
        self.len = 0;
    }

    /// The node.
    pub(super) fn found(&self) -> Option<u32> {
        self.found
    }
}

/// An open file that needs nobody's lock or memory.
struct File(i32);

impl File {
    fn open(path: &CStr, flags: i32) -> Option<Self> {
        // SAFETY: the path ends with a zero.
        let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_RDONLY | libc::O_CLOEXEC) };
        (fd >= 0).then_some(File(fd))
    }

    /// How many bytes came; 0 at the end and if they can't be read.
    fn read(&self, buffer: &mut [u8]) -> usize {
        loop {
            // SAFETY: at most as many bytes as the buffer has.
            let read = unsafe { libc::read(self.0, buffer.as_mut_ptr().cast(), buffer.len()) };
            // SAFETY: errno of this thread.
            if read >= 0 || unsafe { *libc::__errno_location() } != libc::EINTR {
                return usize::try_from(read).unwrap_or(0);
            }
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: it was opened here and nobody else has it.
        unsafe { libc::close(self.0) };
    }
}

/// `/proc/PID/FILE`, with its zero.
fn path<'a>(room: &'a mut [u8; 64], pid: i32, file: &[u8]) -> Option<&'a CStr> {
    let mut digits = [0u8; 10];
    let mut left = u32::try_from(pid).ok()?;
    let mut first = digits.len();
    loop {
        first = first.checked_sub(1)?;
        *digits.get_mut(first)? = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let mut at = 0;
    for part in [b"/proc/".as_slice(), digits.get(first..)?, b"/", file, b"\0"] {
        room.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    CStr::from_bytes_with_nul(room.get(..at)?).ok()
}

/// What is known of a process. `None` if it is gone.
pub(super) fn process(pid: i32) -> Option<Process> {
    let mut line = [0; 1024];
    let file = File::open(path(&mut [0; 64], pid, b"stat")?, 0)?;
    let len = file.read(&mut line);
    Process::parse(line.get(..len)?)
}

/// What a process' environment says of where it belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cookie {
    /// To this node.
    Node(u32),
    /// Nothing, or it may not be looked at.
    None,
    /// It has none at the moment: it is becoming another program, or has ended. Look again: what it has started before is not
    /// there for those who looked before that.
    NotNow,
}

/// What the process' environment says.
pub(super) fn cookie(pid: i32, token: &Token) -> Cookie {
    for _ in 0..2 {
        match environment(pid, token) {
            Some((Some(id), _)) => return Cookie::Node(id),
            Some((None, false)) => return Cookie::None,
            // None at all, or none at the moment; or it may not be looked at.
            found => match process(pid) {
                None => return Cookie::NotNow,
                Some(now) if now.is_dead() || found.is_some() && now.env_end == 0 => return Cookie::NotNow,
                // It may have got its new one since.
                Some(_) => {}
            },
        }
    }
    Cookie::None
}

/// The node, and whether there was no environment.
fn environment(pid: i32, token: &Token) -> Option<(Option<u32>, bool)> {
    let file = File::open(path(&mut [0; 64], pid, b"environ")?, 0)?;
    let mut search = Search::new(token);
    let mut chunk = [0; CHUNK];
    let mut is_empty = true;
    loop {
        match file.read(&mut chunk) {
            0 => {
                // The last one may have no zero.
                search.feed(&[0]);
                return Some((search.found(), is_empty));
            }
            len => search.feed(chunk.get(..len)?),
        }
        is_empty = false;
    }
}

/// Calls `each` with every process of the system, in the order of their numbers.
pub(super) fn for_each_process(mut each: impl FnMut(i32)) -> Option<()> {
    let directory = File::open(c"/proc", libc::O_DIRECTORY)?;
    // Aligned as the records are.
    let mut records = [0u64; CHUNK / 8];
    loop {
        // SAFETY: the kernel writes at most that many bytes of whole records.
        let len =
            unsafe { libc::syscall(libc::SYS_getdents64, directory.0, records.as_mut_ptr(), size_of_val(&records)) };
        let len = usize::try_from(len).ok()?;
        if len == 0 {
            return Some(());
        }
        // SAFETY: any memory is bytes.
        let bytes = unsafe { std::slice::from_raw_parts(records.as_ptr().cast::<u8>(), size_of_val(&records)) };
        names(bytes.get(..len)?, |name| {
            if let Some(pid) = number(name).and_then(|pid| i32::try_from(pid).ok()) {
                each(pid);
            }
        });
    }
}

/// The names in what `getdents64` wrote: after 16 bytes the record's length, after 19 the name, up to a zero.
fn names(mut records: &[u8], mut each: impl FnMut(&[u8])) {
    while let Some(length) = records.get(16..18).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes) {
        let Some((record, rest)) = records.split_at_checked(length.max(19).into()) else { return };
        each(record.get(19..).and_then(|name| name.split(|byte| *byte == 0).next()).unwrap_or_default());
        records = rest;
    }
}

/// Calls `each` with every child of this process, which has one thread. `None` if the kernel has no such list.
///
/// The list is whole although it is read in pieces: a child leaves it when this process waits for it, and joins it at the end.
pub(super) fn for_each_child(me: i32, mut each: impl FnMut(i32)) -> Option<()> {
    let mut file_name = [0; 64];
    let task = path(&mut file_name, me, b"children")?.to_bytes();
    // "/proc/PID/children" to "task/PID/children".
    let number_and_file = task.strip_prefix(b"/proc/")?;
    let mut name = [0; 40];
    let len = 5 + number_and_file.len();
    name.get_mut(..5)?.copy_from_slice(b"task/");
    name.get_mut(5..len)?.copy_from_slice(number_and_file);
    let file = File::open(path(&mut [0; 64], me, name.get(..len)?)?, 0)?;
    let mut chunk = [0; CHUNK];
    let mut pid = 0i32;
    loop {
        let len = file.read(&mut chunk);
        if len == 0 {
            return Some(());
        }
        for byte in chunk.get(..len)? {
            if byte.is_ascii_digit() {
                pid = pid.wrapping_mul(10).wrapping_add((byte - b'0').into());
            } else {
                each(std::mem::take(&mut pid));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &Token = b"0123456789abcdef";

    fn found(environment: &[u8]) -> Option<u32> {
        let mut search = Search::new(TOKEN);
        search.feed(environment);
        search.feed(&[0]);
        search.found()
    }

    #[test]
    fn a_line_is_read_whatever_the_program_calls_itself() {
        let line = b"42 (a) R 1 (b\n) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9\n";
        let process = Process { pid: 42, parent: 7, group: 8, session: 9, start: 123_456, state: b'S', env_end: 0 };
        assert_eq!(Process::parse(line), Some(process));
        for length in 0..line.len() - 12 {
            assert_eq!(Process::parse(&line[..length]), None);
        }
    }

    #[test]
    fn a_cookie_is_found_in_any_place_and_any_piece() {
        assert_eq!(found(b"A=1\0CONDUIT_FLOW=0123456789abcdef:7\0B=2\0"), Some(7));
        assert_eq!(found(b"CONDUIT_FLOW=0123456789abcdef:0"), Some(0));
        assert_eq!(found(b"CONDUIT_FLOW=ffffffffffffffff:1,0123456789abcdef:2,aaaaaaaaaaaaaaaa:3\0"), Some(2));
        let mut search = Search::new(TOKEN);
        b"X=y\0CONDUIT_FLOW=0123456789abcdef:12\0".iter().for_each(|byte| search.feed(&[*byte]));
        assert_eq!(search.found(), Some(12));
    }

    #[test]
    fn what_only_looks_like_a_cookie_is_none() {
        for environment in [
            b"CONDUIT_FLOW=0123456789abcdef\0".as_slice(),
            b"CONDUIT_FLOW=0123456789abcdef:\0",
            b"CONDUIT_FLOW=0123456789abcdef:x\0",
            b"CONDUIT_FLOW=0123456789abcdef:4294967296\0",
            b"XCONDUIT_FLOW=0123456789abcdef:1\0",
            b"CONDUIT_FLOWS=0123456789abcdef:1\0",
            b"CONDUIT_FLOW=0123456789abcdee:1\0",
            b"",
        ] {
            assert_eq!(found(environment), None);
        }
    }

    #[test]
    fn this_process_is_found() {
        let me = std::process::id() as i32;
        let process = process(me).unwrap();
        assert_eq!((process.pid, process.parent), (me, std::os::unix::process::parent_id() as i32));
        let mut all = Vec::new();
        for_each_process(|pid| all.push(pid)).unwrap();
        assert!(all.contains(&me));
        assert!(all.is_sorted(), "they are looked up by halves");
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_are_no_more_than_refused(bytes: Vec<u8>) {
            let _ = (Process::parse(&bytes), number(&bytes), found(&bytes));
            names(&bytes, |_| {});
        }
    }
}
