//! MCAP as bytes: pure, without I/O.
//!
//! Source: the MCAP specification, <https://mcap.dev/spec>.

pub(crate) mod chunk;
pub(crate) mod decompress;
pub(crate) mod encode;
pub(crate) mod parse;
pub(crate) mod summary;

use std::fmt;
use std::str::FromStr;

/// What a file begins and ends with.
pub(crate) const MAGIC: [u8; 8] = *b"\x89MCAP0\r\n";

/// Kinds of records.
pub(crate) mod op {
    pub(crate) const HEADER: u8 = 0x01;
    pub(crate) const FOOTER: u8 = 0x02;
    pub(crate) const SCHEMA: u8 = 0x03;
    pub(crate) const CHANNEL: u8 = 0x04;
    pub(crate) const MESSAGE: u8 = 0x05;
    pub(crate) const CHUNK: u8 = 0x06;
    pub(crate) const MESSAGE_INDEX: u8 = 0x07;
    pub(crate) const CHUNK_INDEX: u8 = 0x08;
    pub(crate) const ATTACHMENT: u8 = 0x09;
    pub(crate) const ATTACHMENT_INDEX: u8 = 0x0a;
    pub(crate) const STATISTICS: u8 = 0x0b;
    pub(crate) const METADATA: u8 = 0x0c;
    pub(crate) const METADATA_INDEX: u8 = 0x0d;
    pub(crate) const SUMMARY_OFFSET: u8 = 0x0e;
    pub(crate) const DATA_END: u8 = 0x0f;
    /// From 0x80 on they are anybody's, and skipped by all others: here, what was found damaged.
    pub(crate) const GAP: u8 = 0x80;
}

/// How the messages of a chunk are compressed.
///
/// ```
/// use conduit::tank::Compression;
///
/// assert_eq!("zstd:3".parse(), Ok(Compression::Zstd { level: 3 }));
/// assert_eq!(Compression::Lz4.to_string(), "lz4");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Not at all: the fastest, gigabytes a second.
    #[default]
    None,
    /// LZ4: hundreds of megabytes a second for each processor.
    Lz4,
    /// Zstandard, at a level from 1 to 22: the smallest.
    Zstd {
        /// 1 is the fastest, 22 the smallest.
        level: i32,
    },
}

impl Compression {
    /// As files name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Lz4 => "lz4",
            Compression::Zstd { .. } => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::None => f.write_str("none"),
            Compression::Lz4 => f.write_str("lz4"),
            Compression::Zstd { level } => write!(f, "zstd:{level}"),
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    /// `none`, `lz4`, `zstd` (level 1) or `zstd:LEVEL`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(Compression::None),
            None if text == "lz4" => Ok(Compression::Lz4),
            None if text == "zstd" => Ok(Compression::Zstd { level: 1 }),
            Some(("zstd", level)) => match level.parse() {
                Ok(level @ 1..=22) => Ok(Compression::Zstd { level }),
                _ => Err(format!("`{level}` is no level of zstd: 1 to 22 are")),
            },
            _ => Err(format!("`{text}` is no compression: none, lz4, zstd and zstd:LEVEL are")),
        }
    }
}
