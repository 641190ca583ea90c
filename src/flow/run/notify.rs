//! What nodes say at `$NOTIFY_SOCKET`, as `sd_notify` sends it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::std::random;

/// Messages that one life is heard with at a time.
const AT_ONCE: usize = 64;

/// What a message says, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Notice {
    pub ready: bool,
    pub watchdog: bool,
    pub status: Option<String>,
}

pub(super) fn parse(message: &[u8]) -> Notice {
    let mut notice = Notice::default();
    for line in message.split(|byte| *byte == b'\n') {
        match line {
            b"READY=1" => notice.ready = true,
            b"WATCHDOG=1" => notice.watchdog = true,
            _ => {
                if let Some(status) = line.strip_prefix(b"STATUS=") {
                    notice.status = Some(String::from_utf8_lossy(status).into_owned());
                }
            }
        }
    }
    notice
}

/// Where one life says how it is. Its name is nobody else's to guess, so that no other life's message is taken for this one's.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// As `$NOTIFY_SOCKET` has it.
    pub name: String,
}

impl Socket {
    pub fn new() -> io::Result<Self> {
        let digits: String = random::bytes()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("conduit-flow-{digits}");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        rustix::net::bind(&fd, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        Ok(Socket { fd, name: format!("@{name}") })
    }

    /// What was said since, as far as one hears at a time.
    pub fn hear(&self, each: &mut dyn FnMut(Notice)) {
        let mut bytes = [MaybeUninit::uninit(); 4096];
        for _ in 0..AT_ONCE {
            // Descriptors that come with it are closed by the kernel, which is what `sd_notify_barrier` waits for.
            let Ok(((message, _), _)) = rustix::net::recv(&self.fd, &mut bytes, RecvFlags::DONTWAIT) else { return };
            each(parse(message));
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn a_message_may_say_several_things() {
        let notice = parse(b"READY=1\nSTATUS=up & running\nMAINPID=7\nWATCHDOG=1\n");
        assert_eq!(notice, Notice { ready: true, watchdog: true, status: Some("up & running".into()) });
        assert_eq!(parse(b"STATUS=\xff=").status.unwrap(), "\u{fffd}=");
        for nothing in [&b""[..], b"READY=0", b"READY=10", b" READY=1", b"WATCHDOG=trigger", b"ready=1", b"\n\n"] {
            assert_eq!(parse(nothing), Notice::default(), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_sent_is_heard_by_whom_it_is_sent_to() {
        let (one, two) = (Socket::new().unwrap(), Socket::new().unwrap());
        let sender = UnixDatagram::unbound().unwrap();
        let name = one.name.strip_prefix('@').unwrap();
        sender.send_to_addr(b"READY=1", &SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        let mut heard = Vec::new();
        two.hear(&mut |notice| heard.push(notice));
        assert_eq!(heard, []);
        one.hear(&mut |notice| heard.push(notice));
        assert_eq!(heard, [Notice { ready: true, ..Notice::default() }]);
    }
}
