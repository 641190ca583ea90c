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
/// So many may look like chunks and be none in all of a file, before whoever made it is taken to have done it on purpose.
pub(super) const TRIES: u32 = 64;

/// Whether what begins at `offset` is a chunk that was not written to its end: then all of the rest is its.
pub(super) fn is_torn_chunk(source: &Source, offset: u64) -> Result<bool, Stop> {
    let mut bytes = vec![0; source.len().saturating_sub(offset).min(BEGINNING as u64) as usize];
    source.read_exact_at(offset, &mut bytes)?;
    Ok(candidate(&bytes).is_some())
}

/// Where the next chunk begins that is whole, from `start` on and before `until`. Takes from `tries` what only looks like one.
pub(super) fn next_chunk(
    source: &Source,
    start: u64,
    until: u64,
    limit: u64,
    tries: &mut u32,
) -> Result<Option<u64>, Stop> {
    let (mut window, mut loader, mut records) = (Window::new(source.clone()), Loader::new(source.clone()), Vec::new());
    let (mut at, end) = (start, source.len());
    while at < until.min(end) && *tries > 0 {
        let len = (end - at).min(PIECE) as usize;
        let piece = window.bytes(at, len)?;
        // What begins closer to the piece's end is looked at with the next one.
        let is_last = at + len as u64 == end;
        let seen = if is_last { len } else { len - BEGINNING };
        for from in (0..seen).filter(|&from| piece[from] == op::CHUNK) {
            let offset = at + from as u64;
            if offset >= until {
                return Ok(None);
            }
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
            *tries -= 1;
            if *tries == 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_goes_no_further_than_it_is_told_and_counts_what_only_looks_like_a_chunk() {
        let bytes = include_bytes!("../../../tests/data/zstd.mcap").to_vec();
        let search = |bytes: &[u8], start, until, tries: &mut u32| {
            next_chunk(&Source::Bytes(bytes.into()), start, until, 1 << 30, tries).unwrap()
        };
        let (end, mut tries) = (bytes.len() as u64, 2);
        let first = search(&bytes, 8, end, &mut tries).unwrap();
        assert_eq!(search(&bytes, 8, first, &mut tries), None);
        assert_eq!(search(&bytes, first, first + 1, &mut tries), Some(first));
        assert_eq!(tries, 2, "nothing else in the file looks like one");
        let mut damaged = bytes.clone();
        // The last byte of its checksum.
        damaged[first as usize + HEAD + 27] ^= 1;
        assert_eq!(search(&damaged, first, first + 1, &mut tries), None);
        assert_eq!((search(&damaged, first, first + 1, &mut tries), tries), (None, 0));
        assert_eq!(search(&bytes, 8, end, &mut tries), None, "there are no tries left");
    }
}
