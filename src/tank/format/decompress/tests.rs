use std::io::Write;

use super::*;

fn lz4_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

type Compress = fn(&[u8]) -> Vec<u8>;
const KINDS: [(&str, Compress); 3] = [("", <[u8]>::to_vec), ("lz4", lz4_of), ("zstd", zstd_of)];

fn chunk(compression: &str, uncompressed_size: u64, crc: u32) -> Chunk<'_> {
    Chunk { start_time: 0, end_time: 0, uncompressed_size, crc, compression, records_at: 0, records_len: 0 }
}

const LIMIT: u64 = 1 << 24;

#[test]
fn what_was_compressed_comes_back_as_it_was() {
    let mut decompressor = Decompressor::default();
    let mut out = Vec::new();
    for len in [0, 1, 1000, 1 << 20, 5 << 20] {
        let bytes: Vec<u8> = (0..len).map(|at| (at / 7 * at) as u8).collect();
        for (name, compress) in KINDS {
            let chunk = chunk(name, len as u64, crc32fast::hash(&bytes));
            decompressor.decompress(&chunk, &compress(&bytes), LIMIT, &mut out).unwrap();
            assert!(out == bytes, "{len} bytes of {name}");
            // Frames one behind the other are one.
            let (a, b) = bytes.split_at(len / 3);
            decompressor.decompress(&chunk, &[compress(a), compress(b)].concat(), LIMIT, &mut out).unwrap();
            assert!(out == bytes, "{len} bytes of {name} in two frames");
        }
    }
}

#[test]
fn more_or_less_than_a_chunk_says_is_a_fault() {
    let (mut decompressor, mut out) = (Decompressor::default(), Vec::new());
    let bytes = [7; 100_000];
    for (name, compress) in KINDS {
        for said in [0, 1, 99_999, 100_001, 1 << 23] {
            let result = decompressor.decompress(&chunk(name, said, 0), &compress(&bytes), LIMIT, &mut out);
            assert!(matches!(result, Err(Fault::Length { recorded, .. }) if recorded == said), "{name}: {result:?}");
        }
        let result = decompressor.decompress(&chunk(name, 100_000, 1), &compress(&bytes), LIMIT, &mut out);
        assert!(matches!(result, Err(Fault::Checksum { recorded: 1, .. })), "{name}: {result:?}");
        // And goes on with the next one.
        decompressor.decompress(&chunk(name, 100_000, 0), &compress(&bytes), LIMIT, &mut out).unwrap();
    }
    let unknown = decompressor.decompress(&chunk("zip", 1, 0), b"1", LIMIT, &mut out);
    assert_eq!(unknown, Err(Fault::UnknownCompression("zip".into())));
}

#[test]
fn what_a_chunk_says_takes_no_memory_before_it_comes() {
    for (name, compress) in KINDS {
        let (mut decompressor, mut out) = (Decompressor::default(), Vec::new());
        let large = compress(&vec![0; LIMIT as usize + 1]);
        let more = decompressor.decompress(&chunk(name, LIMIT + 1, 0), &large, LIMIT, &mut out);
        assert_eq!(more, Err(Fault::TooLarge { bytes: LIMIT + 1, limit: LIMIT }), "{name}");
        // What no compression makes of so few bytes is damage, whatever is allowed.
        let most = decompressor.decompress(&chunk(name, LIMIT + 1, 0), &compress(&[0; 100]), LIMIT, &mut out);
        assert!(matches!(most, Err(Fault::Length { .. })), "{name}: {most:?}");
        let less = decompressor.decompress(&chunk(name, 1 << 40, 0), &compress(&[0; 100]), 1 << 40, &mut out);
        assert!(matches!(less, Err(Fault::Length { .. })), "{name}: {less:?}");
        assert!(out.capacity() < 1 << 20, "{name} took {}", out.capacity());
        // 16 MiB that are a few hundred bytes or so in the file, where 1 MiB is said.
        let bomb = decompressor.decompress(&chunk(name, 1 << 20, 0), &compress(&vec![0; 16 << 20]), LIMIT, &mut out);
        assert!(matches!(bomb, Err(Fault::Length { .. })), "{name}: {bomb:?}");
        assert!(out.capacity() <= 3 << 20, "{name} took {}", out.capacity());
    }
}

#[test]
fn damaged_bytes_are_a_fault_and_never_other_bytes() {
    let bytes: Vec<u8> = (0..3000u32).map(|at| ((at * at) >> 5) as u8).collect();
    let crc = crc32fast::hash(&bytes);
    let (mut decompressor, mut out) = (Decompressor::default(), Vec::new());
    for (name, compress) in KINDS {
        let compressed = compress(&bytes);
        for at in 0..compressed.len() {
            for bit in [1, 0x10, 0x80] {
                let mut damaged = compressed.clone();
                damaged[at] ^= bit;
                if decompressor.decompress(&chunk(name, 3000, crc), &damaged, LIMIT, &mut out).is_ok() {
                    assert!(out == bytes, "{name}, byte {at}");
                }
            }
            let cut = decompressor.decompress(&chunk(name, 3000, crc), &compressed[..at], LIMIT, &mut out);
            assert!(cut.is_err() || out == bytes, "{name}, cut at {at}");
        }
    }
}
