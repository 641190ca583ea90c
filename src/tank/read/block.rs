//! Pieces of a file with messages in them.

use super::source::Source;
use super::walk::{Place, Stop};
use crate::tank::format::decompress::Decompressor;
use crate::tank::format::op;
use crate::tank::format::parse::{Chunk, Fault, HEAD, head};

/// A piece of a file with messages in it: a chunk, or records that lie in the file itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub offset: u64,
    pub len: u64,
    pub is_chunk: bool,
    /// The earliest log time in it.
    pub start: u64,
    /// The latest.
    pub end: u64,
    /// The channels that have messages in it, where that is known.
    pub channels: Option<Box<[u16]>>,
}

/// Reads blocks.
#[derive(Debug)]
pub(crate) struct Loader {
    source: Source,
    compressed: Vec<u8>,
    decompressor: Decompressor,
}

impl Loader {
    pub(crate) fn new(source: Source) -> Self {
        Loader { source, compressed: Vec::new(), decompressor: Decompressor::default() }
    }

    /// Puts the records of a block in `out`. Neither it nor what it is made from takes more than `limit` bytes.
    pub(crate) fn load(&mut self, block: &Block, limit: u64, out: &mut Vec<u8>) -> Result<(), Stop> {
        let fault = |fault| Stop::Fault { offset: block.offset, fault };
        if block.len > limit {
            return Err(fault(Fault::TooLarge { bytes: block.len, limit }));
        }
        // More than there is would be taken before it is found missing.
        let missing = block.offset.saturating_add(block.len).saturating_sub(self.source.len());
        if missing > 0 {
            return Err(fault(Fault::Torn { missing }));
        }
        if !block.is_chunk {
            return read(&self.source, block.offset, block.len, out);
        }
        read(&self.source, block.offset, block.len, &mut self.compressed)?;
        let Some((bytes, body)) = self.compressed.split_first_chunk::<HEAD>() else {
            return Err(fault(Fault::NoRecord));
        };
        let (opcode, len) = head(*bytes);
        if opcode != op::CHUNK || len != body.len() as u64 {
            return Err(fault(Fault::NoRecord));
        }
        let chunk = Chunk::parse(body, len).map_err(fault)?;
        let records = chunk.records(body).map_err(fault)?;
        self.decompressor.decompress(&chunk, records, limit, out).map_err(fault)
    }

    /// Puts the records of the chunk at `place` in `out`.
    pub(crate) fn chunk(&mut self, place: Place, limit: u64, out: &mut Vec<u8>) -> Result<(), Stop> {
        let (offset, len) = (place.offset, place.end() - place.offset);
        let block = Block { offset, len, is_chunk: true, start: 0, end: 0, channels: None };
        self.load(&block, limit, out)
    }
}

fn read(source: &Source, offset: u64, len: u64, out: &mut Vec<u8>) -> Result<(), Stop> {
    out.resize(len as usize, 0);
    Ok(source.read_exact_at(offset, out)?)
}
