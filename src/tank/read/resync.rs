//! Finding records again behind bytes that are none, such as those of a bad sector.

use super::block::Loader;
use super::source::{Source, Window};
use super::walk::{Place, Stop};
use crate::tank::format::op;
use crate::tank::format::parse::{self, Chunk, HEAD, Records};

/// How much is looked through at a time.
const PIECE: u64 = 1 << 18;
/// What has to be seen of a chunk to tell whether it may be one.
const BEGINNING: usize = HEAD + Chunk::PREFIX;
/// So many may look like chunks and be none, before whoever made the file is taken to have done it on purpose.
const TRIES: u32 = 64;

/// Whether what begins at `offset` is a chunk that was not written to its end: then all of the rest is its.
pub(super) fn is_torn_chunk(source: &Source, offset: u64) -> Result<bool, Stop> {
    let mut bytes = vec![0; source.len().saturating_sub(offset).min(BEGINNING as u64) as usize];
    source.read_exact_at(offset, &mut bytes)?;
    Ok(candidate(&bytes).is_some())
}

/// Where the next chunk begins that is whole, from `start` on.
pub(super) fn next_chunk(source: &Source, start: u64, limit: u64) -> Result<Option<u64>, Stop> {
    let (mut window, mut loader, mut records) = (Window::new(source.clone()), Loader::new(source.clone()), Vec::new());
    let (mut at, end) = (start, source.len());
    let mut tries = 0;
    while at < end {
        let len = (end - at).min(PIECE) as usize;
        let piece = window.bytes(at, len)?;
        // What begins closer to the piece's end is looked at with the next one.
        let is_last = at + len as u64 == end;
        let seen = if is_last { len } else { len - BEGINNING };
        for from in (0..seen).filter(|&from| piece[from] == op::CHUNK) {
            let offset = at + from as u64;
            let Some(len) = candidate(&piece[from..len.min(from + BEGINNING)]) else { continue };
            if len > end - offset - HEAD as u64 {
                continue;
            }
            let place = Place { offset, opcode: op::CHUNK, len };
            match loader.chunk(place, limit, &mut records) {
                Ok(()) if !records.is_empty() && Records::new(&records).all(|record| record.is_ok()) => {
                    return Ok(Some(offset));
                }
                Ok(()) | Err(Stop::Fault { .. }) => {}
                Err(error) => return Err(error),
            }
            tries += 1;
            if tries == TRIES {
                return Ok(None);
            }
        }
        at += seen as u64;
    }
    Ok(None)
}

/// The length of the body, if the bytes are the beginning of a chunk.
fn candidate(bytes: &[u8]) -> Option<u64> {
    let (head, prefix) = bytes.split_first_chunk::<HEAD>()?;
    let (opcode, len) = parse::head(*head);
    (opcode == op::CHUNK && is_exact(prefix, len)).then_some(len)
}

/// Whether what a chunk says of its lengths fits together to the byte, which other bytes hardly ever do.
pub(super) fn is_exact(prefix: &[u8], len: u64) -> bool {
    Chunk::parse(prefix, len).is_ok_and(|chunk| {
        chunk.records_at.checked_add(chunk.records_len) == Some(len)
            && matches!(chunk.compression, "" | "lz4" | "zstd")
            && chunk.start_time <= chunk.end_time
    })
}
