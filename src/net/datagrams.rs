//! Many datagrams with one system call: `recvmmsg`, and what the kernel has put together of those that came in a row from one
//! sender (UDP generic receive offload).

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

/// How many messages a call receives.
const MESSAGES: usize = 64;
/// Bytes of each: the kernel puts no more together.
const LEN: usize = 1 << 16;
/// Room for the two things that the kernel says of a message: 8-byte words.
const CONTROL: usize = 8;
/// How much the kernel is asked to keep while nobody receives.
const KEPT: usize = 8 << 20;

const SOL_UDP: libc::c_int = 17;
const UDP_GRO: libc::c_int = 104;

/// Asks the kernel for room, for datagrams put together, and for a count of those that it had to drop; whatever of that it
/// does not know is done without.
pub(super) fn set_up(socket: &UdpSocket) {
    use rustix::net::sockopt;
    if sockopt::set_socket_recv_buffer_size_force(socket, KEPT).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, KEPT);
    }
    for (level, option) in [(SOL_UDP, UDP_GRO), (libc::SOL_SOCKET, libc::SO_RXQ_OVFL)] {
        let on: libc::c_int = 1;
        // SAFETY: the value is an int, of this length, that lives until the call is over.
        unsafe {
            let (value, len) = ((&raw const on).cast(), mem::size_of_val(&on) as libc::socklen_t);
            libc::setsockopt(socket.as_raw_fd(), level, option, value, len);
        }
    }
}

/// Memory for what one call receives.
pub(super) struct Datagrams {
    bytes: Vec<u8>,
    peers: Vec<SocketAddr>,
    /// Of each message: bytes, and bytes of each datagram in it.
    lens: Vec<(usize, usize)>,
    lost: u32,
}

impl Datagrams {
    pub(super) fn new() -> Self {
        Datagrams { bytes: vec![0; MESSAGES * LEN], peers: Vec::new(), lens: Vec::new(), lost: 0 }
    }

    /// Receives up to 64 messages, without waiting for any.
    pub(super) fn receive(&mut self, socket: &impl AsFd) -> io::Result<()> {
        self.peers.clear();
        self.lens.clear();
        // SAFETY: all three are plain structures of integers and pointers, for which zeros are valid.
        let mut names: [libc::sockaddr_storage; MESSAGES] = unsafe { mem::zeroed() };
        let mut parts: [libc::iovec; MESSAGES] = unsafe { mem::zeroed() };
        let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
        let mut control = [[MaybeUninit::<u64>::uninit(); CONTROL]; MESSAGES];
        for (place, buffer) in self.bytes.chunks_exact_mut(LEN).enumerate() {
            parts[place] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: LEN };
            let header = &mut headers[place].msg_hdr;
            header.msg_name = (&raw mut names[place]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut parts[place];
            header.msg_iovlen = 1;
            header.msg_control = control[place].as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control[place]) as _;
        }
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: each header points to a name, a buffer and control data of the lengths that it says, which live until the call
        // is over and are used by nobody else.
        let received = unsafe {
            libc::recvmmsg(fd, headers.as_mut_ptr(), MESSAGES as _, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        };
        let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
        for header in &headers[..received] {
            // SAFETY: the kernel has filled it in, and what it points to is alive.
            let said = unsafe { Said::of(&header.msg_hdr) };
            // SAFETY: as above; the name was zeroed, so all of it is initialised.
            let peer = unsafe { address(&*header.msg_hdr.msg_name.cast()) };
            let len = (header.msg_len as usize).min(LEN);
            self.lost = said.lost.unwrap_or(self.lost);
            self.lens.push((len, said.segment.filter(|&segment| segment > 0).unwrap_or(len)));
            self.peers.push(peer);
        }
        Ok(())
    }

    /// What was received: each datagram, and who sent it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let messages = self.bytes.chunks_exact(LEN).zip(&self.lens).zip(&self.peers);
        messages.flat_map(|((bytes, &(len, segment)), &peer)| {
            bytes[..len].chunks(segment.max(1)).map(move |datagram| (peer, datagram))
        })
    }

    /// How many datagrams the kernel has dropped so far.
    pub(super) fn lost(&self) -> u32 {
        self.lost
    }
}

/// What the kernel says beside a message.
struct Said {
    /// Bytes of each datagram but the last that it is put together of.
    segment: Option<usize>,
    /// How many datagrams of the socket were dropped up to this one.
    lost: Option<u32>,
}

impl Said {
    /// # Safety
    ///
    /// The kernel has filled the header in, and its control data is alive.
    unsafe fn of(header: &libc::msghdr) -> Self {
        let mut said = Said { segment: None, lost: None };
        // SAFETY: these walk the control data within the length that the kernel has set; the data of each of the two messages
        // is at least as long as what is read of it, and need not be aligned.
        unsafe {
            let mut at = libc::CMSG_FIRSTHDR(header);
            while let Some(message) = at.as_ref() {
                let data = libc::CMSG_DATA(at);
                match (message.cmsg_level, message.cmsg_type) {
                    (SOL_UDP, UDP_GRO) => {
                        said.segment = usize::try_from(data.cast::<libc::c_int>().read_unaligned()).ok();
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => said.lost = Some(data.cast::<u32>().read_unaligned()),
                    _ => {}
                }
                at = libc::CMSG_NXTHDR(header, at);
            }
        }
        said
    }
}

/// Where a message came from; nowhere, if it is no address of the internet.
fn address(name: &libc::sockaddr_storage) -> SocketAddr {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one, and a `sockaddr_storage` is large and aligned enough for any.
            let v4: &libc::sockaddr_in = unsafe { &*(&raw const *name).cast() };
            (Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)), u16::from_be(v4.sin_port)).into()
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6: &libc::sockaddr_in6 = unsafe { &*(&raw const *name).cast() };
            (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port)).into()
        }
        _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}
