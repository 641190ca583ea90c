//! What was compressed, within limits.

use std::io::BufRead;

use zstd::stream::raw::{Decoder, Operation};
use zstd::zstd_safe::{InBuffer, OutBuffer};

use super::parse::{Chunk, Fault};

/// Decompresses chunks, and keeps what it needs for the next one.
#[derive(Default)]
pub(crate) struct Decompressor {
    zstd: Option<Decoder<'static>>,
}

impl Decompressor {
    /// Puts the records of a chunk in `out`, which is cleared: exactly as many bytes as the chunk says, with its checksum.
    ///
    /// Takes no more memory than `limit`, nor than the chunk says, nor much more than comes out.
    pub(crate) fn decompress(
        &mut self,
        chunk: &Chunk<'_>,
        compressed: &[u8],
        limit: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        out.clear();
        // Before the limit: what cannot be so is damage, and no chunk that somebody with more memory could read.
        let len = compressed.len() as u64;
        let most = match chunk.compression {
            "" => len,
            // A length takes a byte for each 255.
            "lz4" => len.saturating_mul(255).saturating_add(1 << 16),
            // A block of 128 KiB takes four bytes at least.
            "zstd" => len.saturating_mul(1 << 15).saturating_add(1 << 17),
            _ => u64::MAX,
        };
        if chunk.uncompressed_size > most {
            return Err(Fault::Length { recorded: chunk.uncompressed_size, found: most });
        }
        if chunk.uncompressed_size > limit {
            return Err(Fault::TooLarge { bytes: chunk.uncompressed_size, limit });
        }
        let size = usize::try_from(chunk.uncompressed_size)
            .map_err(|_| Fault::TooLarge { bytes: chunk.uncompressed_size, limit })?;
        match chunk.compression {
            "" => {
                if compressed.len() != size {
                    return Err(length(chunk, compressed.len()));
                }
                out.extend_from_slice(compressed);
            }
            "zstd" => self.zstd(chunk, compressed, size, out)?,
            "lz4" => lz4(chunk, compressed, size, out)?,
            other => return Err(Fault::UnknownCompression(other.into())),
        }
        check(chunk.crc, out)
    }

    fn zstd(&mut self, chunk: &Chunk<'_>, compressed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        let decoder = match &mut self.zstd {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new().map_err(failed)?),
        };
        decoder.reinit().map_err(failed)?;
        let mut input = InBuffer::around(compressed);
        // What is said to come is believed as far as usual messages can be compressed. Where all of it has room at once, it is
        // decompressed in one go.
        out.reserve(size.min(compressed.len().saturating_mul(64).max(1 << 16)));
        loop {
            let (len, read) = (out.len(), input.pos());
            let mut output = OutBuffer::around_pos(out, len);
            let hint = decoder.run(&mut input, &mut output).map_err(failed)?;
            if out.len() > size {
                return Err(length(chunk, out.len()));
            }
            let is_whole = hint == 0 && input.pos() == compressed.len();
            if is_whole && out.len() == size {
                return Ok(());
            }
            if is_whole || (out.len() < out.capacity() && out.len() == len && input.pos() == read) {
                return Err(length(chunk, out.len()));
            }
            if out.len() == out.capacity() {
                // One more than there should be, so that more is noticed.
                out.reserve_exact((size + 1 - out.len()).min(out.len().max(1 << 16)));
            }
        }
    }
}

fn lz4(chunk: &Chunk<'_>, compressed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(compressed);
    out.reserve(size.min(compressed.len().saturating_mul(16).max(1 << 16)));
    loop {
        let block = decoder.fill_buf().map_err(failed)?;
        if block.is_empty() {
            // Behind a frame there may be another one.
            if decoder.get_ref().is_empty() {
                break;
            }
            continue;
        }
        let len = block.len();
        if out.len() + len > size {
            return Err(length(chunk, out.len() + len));
        }
        out.extend_from_slice(block);
        decoder.consume(len);
    }
    if out.len() < size { Err(length(chunk, out.len())) } else { Ok(()) }
}

/// Compares a checksum, if one was taken.
pub(crate) fn check(recorded: u32, bytes: &[u8]) -> Result<(), Fault> {
    if recorded == 0 {
        return Ok(());
    }
    let found = crc32fast::hash(bytes);
    if found == recorded { Ok(()) } else { Err(Fault::Checksum { recorded, found }) }
}

fn length(chunk: &Chunk<'_>, found: usize) -> Fault {
    Fault::Length { recorded: chunk.uncompressed_size, found: found as u64 }
}

fn failed(error: std::io::Error) -> Fault {
    Fault::Compressed(error.to_string())
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
