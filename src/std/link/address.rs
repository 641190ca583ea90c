//! Where a link is found, and the socket there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{self, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Error;
use super::options::Allow;
use crate::std::fork::UnsharedFile;
use crate::std::futex::Deadline;
use crate::std::shm;

/// How long to wait for others that listen in the same directory.
const LOCK: Duration = Duration::from_secs(5);

/// A path, or a name that stands in no directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Address {
    text: String,
    socket: SocketAddrUnix,
}

impl Address {
    pub(super) fn new(text: &str) -> Result<Self, Error> {
        let socket = match text.strip_prefix('@') {
            Some("") => Err(Errno::INVAL),
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            None if text.is_empty() => Err(Errno::INVAL),
            None => SocketAddrUnix::new(text),
        };
        let socket = socket.map_err(|_| Error::Address { address: text.into() })?;
        Ok(Address { text: text.into(), socket })
    }

    /// What stands in the place of an address for a link over a descriptor that was inherited.
    pub(super) fn inherited() -> Self {
        Address { text: "an inherited descriptor".into(), socket: SocketAddrUnix::new_unnamed() }
    }

    /// As [`inherited`](Address::inherited), for whoever has made the descriptor.
    pub(super) fn pair() -> Self {
        Address { text: "the other end of a pair".into(), ..Self::inherited() }
    }

    fn path(&self) -> Option<&Path> {
        (!self.text.starts_with('@')).then(|| Path::new(&self.text))
    }

    pub(super) fn failed(&self, action: &'static str) -> impl Fn(Errno) -> Error + Copy + use<'_> {
        move |errno| Error::System { action, address: self.text.clone(), source: errno.into() }
    }

    /// A connection to whoever listens there. If as many wait there as it takes, it is waited for, for that long.
    pub(super) fn connect(&self, allow: &Allow, patience: Duration) -> Result<OwnedFd, Error> {
        let socket = socket().map_err(self.failed("make a socket for"))?;
        // Of a socket that does not block, nobody tells when there is a place.
        let wait = || {
            rustix::io::ioctl_fionbio(&socket, false)?;
            net::sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
            loop {
                match net::connect(&socket, &self.socket) {
                    Err(Errno::INTR) => {}
                    // As the socket's own time-out says.
                    Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT),
                    result => break result?,
                }
            }
            rustix::io::ioctl_fionbio(&socket, true)
        };
        wait().map_err(self.failed("connect to"))?;
        self.check_peer(socket.as_fd(), allow)?;
        Ok(socket)
    }

    /// Refuses a peer whose user is not allowed, by the kernel's word.
    pub(super) fn check_peer(&self, socket: BorrowedFd<'_>, allow: &Allow) -> Result<(), Error> {
        let peer = net::sockopt::socket_peercred(socket).map_err(self.failed("ask whose the peer is at"))?;
        let uid = peer.uid.as_raw();
        let allowed = match allow {
            Allow::Own => uid == 0 || uid == rustix::process::geteuid().as_raw(),
            Allow::Users(users) => users.contains(&uid),
            Allow::Anyone => true,
        };
        if allowed { Ok(()) } else { Err(Error::PeerNotAllowed { address: self.text.clone(), uid }) }
    }

    /// A socket that listens there, with a file of mode 0600 if it has one.
    pub(super) fn listen(&self, backlog: u32) -> Result<Bound, Error> {
        let socket = socket().map_err(self.failed("make a socket for"))?;
        // Before it has a name, so that at no moment others can connect. The umask can only take away.
        fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(self.failed("set the mode of"))?;
        let _lock = self.path().map(|path| self.lock_directory(path)).transpose()?;
        self.bind(&socket)?;
        // From here on the name is taken away again if anything fails.
        let file = match self.path() {
            Some(path) => Some((path.to_owned(), fs::lstat(path).map_err(self.failed("look at"))?)),
            None => None,
        };
        let bound = Bound { socket: UnsharedFile::new(socket), file };
        // With the directory locked: until it listens, its name looks stale.
        net::listen(&bound.socket, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(self.failed("listen at"))?;
        Ok(bound)
    }

    fn bind(&self, socket: &OwnedFd) -> Result<(), Error> {
        match (net::bind(socket, &self.socket), self.path()) {
            (Err(Errno::ADDRINUSE), Some(path)) => {
                self.clear(path)?;
                match net::bind(socket, &self.socket) {
                    Err(Errno::ADDRINUSE) => Err(Error::InUse { address: self.text.clone() }),
                    result => result.map_err(self.failed("bind a socket to")),
                }
            }
            (Err(Errno::ADDRINUSE), None) => Err(Error::InUse { address: self.text.clone() }),
            (result, _) => result.map_err(self.failed("bind a socket to")),
        }
    }

    /// Keeps others from taking a stale socket's place at the same time, until the file is dropped: between a look and a change of
    /// a name there is no other way. The directory is locked, as a file made for it would stay behind.
    fn lock_directory(&self, path: &Path) -> Result<OwnedFd, Error> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = self.failed("lock the directory of");
        let directory = fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let directory = directory.map_err(failed)?;
        let deadline = Deadline::after(LOCK);
        loop {
            match fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                // There is no wait for a lock with an end, and who may read the directory can hold it for as long as he likes.
                Err(Errno::AGAIN) if !deadline.has_passed() => std::thread::sleep(Duration::from_millis(1)),
                result => return result.map(|()| directory).map_err(failed),
            }
        }
    }

    /// Takes away the socket file at `path` if nobody listens there.
    fn clear(&self, path: &Path) -> Result<(), Error> {
        let Ok(file) = fs::lstat(path) else { return Ok(()) };
        if FileType::from_raw_mode(file.st_mode) != FileType::Socket {
            return Err(Error::NotASocket { address: self.text.clone() });
        }
        let probe = socket().map_err(self.failed("make a socket for"))?;
        match net::connect(&probe, &self.socket) {
            Err(Errno::CONNREFUSED) => match fs::unlink(path) {
                Err(Errno::NOENT) => Ok(()),
                result => result.map_err(self.failed("take away the stale socket")),
            },
            Err(Errno::NOENT) => Ok(()),
            // As many wait there as it takes, or nobody may connect: it is somebody's.
            Ok(()) | Err(Errno::AGAIN | Errno::ACCESS) => Err(Error::InUse { address: self.text.clone() }),
            Err(errno) => Err(self.failed("connect to")(errno)),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn socket() -> Result<OwnedFd, Errno> {
    net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// A socket that listens. Its file goes with it, if it is still its own.
#[derive(Debug)]
pub(super) struct Bound {
    /// A child that was forked while somebody listened would keep others from listening there.
    pub(super) socket: UnsharedFile,
    file: Option<(PathBuf, Stat)>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some((path, stat)) = self.file.as_ref().filter(|_| self.socket.is_ours()) {
            if fs::lstat(path).is_ok_and(|now| shm::is_same(&now, stat)) {
                let _ = fs::unlink(path);
            }
        }
    }
}
