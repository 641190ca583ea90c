//! What a server says, from the bytes as they come.

use crate::ack::{self, Range};
use crate::frame::{self, Decoded, Fault, Kind, Welcome};

/// One thing that a server said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    Welcome(Welcome),
    Answer(Range),
    Ping,
    Pong,
}

/// Keeps the beginning of a frame until the rest has come.
#[derive(Debug, Default)]
pub(super) struct Replies {
    begun: Vec<u8>,
}

impl Replies {
    /// There is a new connection: what had begun on the last one goes on no more.
    pub(super) fn reset(&mut self) {
        self.begun.clear();
    }

    /// Tells of everything that is complete with `bytes`, until one is refused. Behind an error nothing can be trusted.
    pub(super) fn take<E: From<Fault>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Reply) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.begun.is_empty() {
            let used = all(bytes, &mut each)?;
            self.begun.extend_from_slice(&bytes[used..]);
        } else {
            self.begun.extend_from_slice(bytes);
            let used = all(&self.begun, &mut each)?;
            self.begun.drain(..used);
        }
        Ok(())
    }
}

/// Returns how many bytes the whole frames have.
fn all<E: From<Fault>>(bytes: &[u8], each: &mut impl FnMut(Reply) -> Result<(), E>) -> Result<usize, E> {
    let mut used = 0;
    while let Decoded::Frame { header, body, len } = frame::decode(&bytes[used..], frame::DEFAULT_MAX_LEN)? {
        match header.kind {
            Kind::Welcome => each(Reply::Welcome(header.welcome(body)?))?,
            Kind::Ack => ack::decode(&header, body)?.try_for_each(|range| each(Reply::Answer(range)))?,
            Kind::Ping => each(Reply::Ping)?,
            Kind::Pong => each(Reply::Pong)?,
            // No server sends those.
            Kind::Event | Kind::Hello => return Err(Fault::Kind(header.kind as u8).into()),
        }
        used += len;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ack::Status;
    use crate::frame::{Durability, Header};

    fn conversation() -> (Vec<u8>, Vec<Reply>) {
        let welcome = Welcome {
            session: 7,
            last_sequence: 3,
            max_len: 1000,
            credit: 9,
            version: 1,
            durability: Durability::Synced,
        };
        let ranges = [Range::of(4, Status::Accepted), Range::of(5, Status::Throttled)];
        let (mut bytes, mut buffer) = (Vec::new(), [0; 128]);
        let len = welcome.encode(&mut buffer).unwrap();
        bytes.extend(&buffer[..len]);
        bytes.extend(Header::new(Kind::Ping).encode());
        let len = ack::encode(&ranges, &mut buffer).unwrap();
        bytes.extend(&buffer[..len]);
        bytes.extend(Header::new(Kind::Pong).encode());
        let [first, second] = ranges.map(Reply::Answer);
        (bytes, vec![Reply::Welcome(welcome), Reply::Ping, first, second, Reply::Pong])
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_changes_nothing(cuts in proptest::collection::vec(1..60usize, 1..40)) {
            let (bytes, expected) = conversation();
            let (mut replies, mut told, mut rest) = (Replies::default(), Vec::new(), &bytes[..]);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                replies.take::<Fault>(now, |reply| { told.push(reply); Ok(()) }).unwrap();
                rest = later;
            }
            prop_assert_eq!(told, expected);
            prop_assert!(replies.begun.is_empty());
        }
    }

    #[test]
    fn what_no_server_says_is_refused() {
        let hello = Header { body_len: 0, ..Header::new(Kind::Hello) }.encode();
        let refused = Replies::default().take(&hello, |_| Ok(()));
        assert_eq!(refused, Err(Fault::Kind(2)));
        assert_eq!(Replies::default().take(b"HTTP/1.1 400", |_| Ok(())), Err(Fault::Magic));
    }
}
