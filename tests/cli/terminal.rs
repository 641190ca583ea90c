//! A command on a terminal, and what the terminal shows.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use rustix::termios::{Winsize, tcsetwinsize};

use super::code;
use crate::support::PATIENCE;

/// A command whose output and errors go to a terminal. Dropped, it is killed.
pub struct Terminal {
    pub child: Child,
    /// What whoever looks at the terminal has.
    side: File,
    output: Receiver<Vec<u8>>,
    screen: Screen,
}

/// What became of it.
#[derive(Debug)]
pub struct Screened {
    pub code: i32,
    pub lines: Vec<String>,
    /// How often it went back over what it had drawn.
    pub redrawn: usize,
}

impl Terminal {
    pub fn start(command: &mut Command, columns: u16) -> Self {
        let side = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        let mut name = [0; 64];
        // SAFETY: the descriptor is open; the name is written into memory of that length, with a zero at its end.
        let name = unsafe {
            assert_eq!(libc::unlockpt(side.as_raw_fd()), 0);
            assert_eq!(libc::ptsname_r(side.as_raw_fd(), name.as_mut_ptr(), name.len()), 0);
            std::ffi::CStr::from_ptr(name.as_ptr()).to_str().unwrap()
        };
        let tty = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
        let of_command = || tty.try_clone().unwrap();
        set_columns(&side, columns);
        let child = command.stdout(of_command()).stderr(of_command()).spawn().unwrap();
        // They keep the terminal open, and with it the output.
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let (send, output) = channel();
        let mut reader = side.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end is an error: nobody has the other side open any more.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, side, output, screen: Screen::default() }
    }

    /// Makes it as wide as that.
    pub fn resize(&self, columns: u16) {
        set_columns(&self.side, columns);
    }

    /// Types something. The command is not the one that the terminal belongs to, so Ctrl-C is shown and signals nothing.
    pub fn type_in(&mut self, text: &str) {
        self.side.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until its lines are as asked for; the last is where the cursor is.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut shows: impl FnMut(&[String]) -> bool) -> Vec<String> {
        loop {
            let lines = self.screen.lines();
            if shows(&lines) {
                return lines;
            }
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.screen.take(&bytes),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without {what}: {lines:#?}"),
                Err(RecvTimeoutError::Timeout) => panic!("never {what}: {lines:#?}"),
            }
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> Screened {
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.screen.take(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.screen.lines()),
            }
        }
        let code = code(self.child.wait().unwrap());
        Screened { code, lines: self.screen.lines(), redrawn: self.screen.redrawn }
    }

    /// Whether anything was bold, dim or coloured.
    pub fn is_coloured(&self) -> bool {
        self.screen.coloured
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_columns(terminal: &File, columns: u16) {
    let size = Winsize { ws_col: columns, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

/// A terminal of any height that obeys what this program says, and nothing else.
#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// The rest of a character, and that of a command.
    bytes: Vec<u8>,
    command: Option<String>,
    redrawn: usize,
    coloured: bool,
}

impl Screen {
    fn lines(&self) -> Vec<String> {
        let rows = self.rows.iter().map(|row| row.iter().collect::<String>());
        rows.chain((self.rows.len()..=self.row).map(|_| String::new())).collect()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let whole = std::str::from_utf8(&self.bytes).map_or_else(|error| error.valid_up_to(), str::len);
        let text: Vec<u8> = self.bytes.drain(..whole).collect();
        String::from_utf8(text).unwrap().chars().for_each(|c| self.put(c));
    }

    fn put(&mut self, c: char) {
        if let Some(command) = &mut self.command {
            command.push(c);
            if c.is_ascii_alphabetic() {
                let command = self.command.take().unwrap();
                self.obey(&command);
            }
            return;
        }
        match c {
            '\x1b' => self.command = Some(String::new()),
            '\r' => self.column = 0,
            '\n' => self.row += 1,
            c => {
                assert!(!c.is_control(), "{c:?} at the end of {:#?}", self.lines());
                self.rows.resize(self.rows.len().max(self.row + 1), Vec::new());
                let row = &mut self.rows[self.row];
                row.resize(row.len().max(self.column + 1), ' ');
                row[self.column] = c;
                self.column += 1;
            }
        }
    }

    fn obey(&mut self, command: &str) {
        let (argument, kind) =
            command.strip_prefix('[').and_then(|rest| rest.split_at_checked(rest.len() - 1)).unwrap();
        match (kind, argument) {
            ("A", count) => self.row = self.row.checked_sub(count.parse().unwrap()).expect("a line to go up to"),
            ("J", "") => {
                self.redrawn += 1;
                self.rows.truncate(self.row + 1);
                if let Some(row) = self.rows.get_mut(self.row) {
                    row.truncate(self.column);
                }
            }
            ("m", _) => self.coloured = true,
            _ => panic!("no terminal here knows {command:?}"),
        }
    }
}
