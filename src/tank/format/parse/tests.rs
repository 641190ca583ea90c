use proptest::prelude::*;

use super::super::{encode, op};
use super::*;
use crate::core::rounds::rounds;

/// Something that reads the body of a record.
type Parser = fn(&[u8]) -> Result<(), Fault>;

/// Each reader of a body, but for those whose last field is all that is left.
const PARSERS: [(&str, Parser); 11] = [
    ("header", |body| Header::parse(body).map(drop)),
    ("footer", |body| Footer::parse(body).map(drop)),
    ("schema", |body| schema(body).map(drop)),
    ("channel", |body| channel(body).map(drop)),
    ("metadata", |body| metadata(body).map(drop)),
    ("message index", |body| MessageIndex::parse(body).map(|index| index.entries().for_each(drop))),
    ("chunk index", |body| chunk_index(body).map(drop)),
    ("attachment index", |body| attachment_index(body).map(drop)),
    ("metadata index", |body| metadata_index(body).map(drop)),
    ("statistics", |body| statistics(body).map(drop)),
    ("summary offset", |body| summary_offset(body).map(drop)),
];

/// A body of each kind, in the same order.
fn bodies() -> Vec<Vec<u8>> {
    let texts = BTreeMap::from([("a".into(), "1".into()), ("b".into(), String::new())]);
    let numbers = BTreeMap::from([(1, 100), (7, u64::MAX)]);
    let channel = Channel { id: 7, schema_id: 3, topic: "t".into(), message_encoding: "cdr".into(), metadata: texts };
    let statistics =
        Statistics { messages: 9, end_time: 5, channel_messages: numbers.clone(), ..Statistics::default() };
    let index =
        ChunkIndex { offset: 1, message_index_offsets: numbers, compression: "lz4".into(), ..Default::default() };
    let attachment =
        AttachmentIndex { offset: 1, name: "n".into(), media_type: "text/plain".into(), ..Default::default() };
    let of_channel = [&7u16.to_le_bytes()[..], &32u32.to_le_bytes(), &[1; 32]].concat();
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out.split_off(HEAD)
    };
    vec![
        written(&|out| encode::header(out, "ros2", "conduit")),
        written(&|out| encode::footer(out, 0, 100, 200)),
        written(&|out| {
            encode::schema(out, &Schema { id: 3, name: "n".into(), encoding: "e".into(), data: b"data".into() });
        }),
        written(&|out| encode::channel(out, &channel)),
        written(&|out| encode::metadata(out, "place", &channel.metadata)),
        of_channel,
        written(&|out| encode::chunk_index(out, &index)),
        written(&|out| encode::attachment_index(out, &attachment)),
        written(&|out| encode::metadata_index(out, &MetadataIndex { offset: 1, len: 2, name: "m".into() })),
        written(&|out| encode::statistics(out, &statistics)),
        written(&|out| encode::summary_offset(out, 3, 100, 20)),
    ]
}

#[test]
fn a_record_that_is_cut_off_anywhere_is_a_fault_and_what_is_behind_it_is_ignored() {
    for ((name, parse), body) in PARSERS.into_iter().zip(bodies()) {
        for len in 0..body.len() {
            assert!(parse(&body[..len]).is_err(), "{name} of {len} bytes");
        }
        assert_eq!(parse(&body), Ok(()), "{name}");
        assert_eq!(parse(&[&body[..], b"of a later version"].concat()), Ok(()), "{name}");
    }
}

#[test]
fn lists_that_end_within_an_entry_and_texts_that_are_none_are_faults() {
    let ragged = [&1u16.to_le_bytes()[..], &15u32.to_le_bytes(), &[0; 15]].concat();
    assert_eq!(MessageIndex::parse(&ragged), Err(Fault::Ragged { field: "entries" }));
    let body = [&[0; 42][..], &9u32.to_le_bytes(), &[0; 9]].concat();
    assert_eq!(statistics(&body), Err(Fault::Ragged { field: "messages of channels" }));
    let body = [&1u32.to_le_bytes()[..], &[0xff], &[0; 4]].concat();
    assert_eq!(Header::parse(&body), Err(Fault::NotText { field: "profile" }));
}

#[test]
fn lengths_that_reach_past_the_end_are_faults_however_large_they_are() {
    for len in [5, u64::from(u32::MAX), u64::MAX - 9, u64::MAX] {
        let record = [&[op::MESSAGE][..], &len.to_le_bytes(), b"data"].concat();
        let mut records = Records::new(&record);
        assert_eq!(records.next(), Some(Err(Fault::Torn { missing: len - 4 })));
        assert_eq!(records.next(), None);
        let head = [&[0; 28][..], &[0; 4], &len.to_le_bytes()].concat();
        assert_eq!(Chunk::parse(&head, 44), Err(Fault::Short { field: "records" }), "{len}");
        let head = [&[0; 16][..], &[0; 8], &len.to_le_bytes()].concat();
        assert_eq!(Attachment::parse(&head, 40), Err(Fault::Short { field: "data" }), "{len}");
    }
    assert_eq!(Records::new(&[0; 20]).next(), Some(Err(Fault::NoRecord)));
    assert_eq!(Records::new(&[1; 8]).next(), Some(Err(Fault::Torn { missing: 1 })));
}

proptest! {
    #![proptest_config(rounds(2000))]

    #[test]
    fn any_bytes_are_a_record_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
        for ((_, parse), mut body) in PARSERS.into_iter().zip(bodies()) {
            let _ = parse(&bytes);
            // One that begins well.
            body.truncate(at.index(body.len()));
            body.extend_from_slice(&bytes);
            let _ = parse(&body);
        }
        let _ = (Message::parse(&bytes), Chunk::parse(&bytes, 200), Attachment::parse(&bytes, 200), data_end(&bytes));
        let mut seen = 0;
        for record in Records::new(&bytes).flatten() {
            prop_assert_eq!(record.at, seen);
            seen += record.len();
        }
        prop_assert!(seen <= bytes.len());
    }
}
