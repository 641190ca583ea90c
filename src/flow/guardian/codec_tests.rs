use std::ffi::OsStr;

use proptest::prelude::*;

use super::*;

const REPORTS: [Report; 6] = [
    Report::Spawned { id: 7, pid: 4_194_303 },
    Report::SpawnFailed { id: u32::MAX, step: Step::Exec, errno: 2 },
    Report::Exited { id: 0, status: Status::Code(255) },
    Report::Exited { id: 1, status: Status::Signal(9) },
    Report::Emptied { id: 2, killed: 0 },
    Report::Emptied { id: 2, killed: u32::MAX },
];

#[test]
fn what_is_said_is_what_is_heard() {
    for report in REPORTS {
        assert_eq!(Report::decode(&report.encode()), Some(report));
    }
    for step in Step::ALL {
        let report = Report::SpawnFailed { id: 3, step, errno: 13 };
        assert_eq!(Report::decode(&report.encode()), Some(report));
    }
    for request in [
        Request::Spawn { id: 5, block: 0x1_2345_6789 },
        Request::Signal { id: u32::MAX, signal: libc::SIGKILL },
        Request::KillAll,
    ] {
        assert_eq!(Request::decode(&request.encode()), Some(request));
    }
}

#[test]
fn a_message_of_another_length_or_kind_is_none() {
    assert_eq!(Request::decode(&[]), None);
    assert_eq!(Request::decode(&Request::KillAll.encode()[..15]), None);
    assert_eq!(Request::decode(&[Request::KillAll.encode().as_slice(), &[0]].concat()), None);
    assert_eq!(Request::decode(&pack([4, 0, 0, 0])), None);
    assert_eq!(Report::decode(&pack([2, 0, 7, 0])), None, "no such step");
    assert_eq!(Report::decode(&pack([3, 0, 2, 0])), None, "neither a code nor a signal");
}

fn string_at(block: &[u8], at: usize) -> &[u8] {
    let rest = &block[at..];
    &rest[..rest.iter().position(|byte| *byte == 0).unwrap()]
}

/// The strings that an array of pointers in `block`, which is at `base`, points to.
fn strings_at(block: &[u8], base: usize, mut at: usize) -> Vec<&[u8]> {
    let mut strings = Vec::new();
    loop {
        let pointer = usize::from_ne_bytes(block[at..at + WORD].try_into().unwrap());
        if pointer == 0 {
            return strings;
        }
        strings.push(string_at(block, pointer - base));
        at += WORD;
    }
}

#[test]
fn a_block_says_what_to_execute() {
    let [program, dir, a, b] = ["/bin/cat", "/tmp", "cat", ""].map(OsStr::new);
    let mut block = encode_block(program, dir, &[a, b], &["X=1", "Y="], &[0, 3, 65]).unwrap();
    let base = 0x7000_0000;
    let linked = link(&mut block, base).unwrap();
    assert_eq!(string_at(&block, linked.program), b"/bin/cat");
    assert_eq!(string_at(&block, linked.working_dir), b"/tmp");
    assert_eq!(strings_at(&block, base, linked.argv), [b"cat".as_slice(), b""]);
    assert_eq!(strings_at(&block, base, linked.envp), [b"X=1".as_slice(), b"Y="]);
    let cpus = &block[linked.cpus..][..linked.cpus_len];
    assert_eq!(cpus.len() % WORD, 0);
    let first = usize::from_ne_bytes(cpus[..WORD].try_into().unwrap());
    assert_eq!(first & 0xff, 0b1001);
    assert_eq!(cpus.iter().map(|byte| byte.count_ones()).sum::<u32>(), 3);
    assert!((linked.argv | linked.envp | linked.cpus) % WORD == 0, "arrays are aligned");
}

#[test]
fn a_zero_byte_is_refused_and_not_cut_at() {
    let slash = OsStr::new("/");
    assert_eq!(encode_block(slash, slash, &[OsStr::new("a\0b")], &[] as &[&str], &[]), Err(Nul));
    assert_eq!(encode_block(slash, slash, &[], &["A=\0"], &[]), Err(Nul));
}

#[test]
fn a_block_that_was_cut_is_none() {
    let slash = OsStr::new("/");
    let whole = encode_block(slash, slash, &[slash], &["A=1"], &[1]).unwrap();
    for length in 0..whole.len() {
        assert_eq!(link(&mut whole[..length].to_vec(), 4096), None, "{length} of {}", whole.len());
    }
}

proptest! {
    #[test]
    fn hostile_bytes_are_no_more_than_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), base: usize) {
        let _ = (Request::decode(&bytes), Report::decode(&bytes), link(&mut bytes, base));
    }

    #[test]
    fn hostile_counts_are_no_more_than_refused(
        counts in [0u32..9, 0u32..9, 0u32..40],
        mut rest in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..300),
    ) {
        let mut block = pack([counts[0], counts[1], counts[2], 0]).to_vec();
        block.append(&mut rest);
        if let Some(linked) = link(&mut block, 4096) {
            let strings = strings_at(&block, 4096, linked.argv).len() + strings_at(&block, 4096, linked.envp).len();
            prop_assert_eq!(strings as u32, counts[0] + counts[1]);
            prop_assert!(linked.cpus + linked.cpus_len <= linked.program);
        }
    }

    #[test]
    fn any_message_that_is_taken_is_the_one_that_was_sent(numbers: [u32; 4], kind in 0u32..6) {
        let bytes = pack([kind, numbers[1], numbers[2], numbers[3]]);
        if let Some(request) = Request::decode(&bytes) {
            prop_assert_eq!(request.encode(), bytes);
        }
        if let Some(report) = Report::decode(&bytes) {
            prop_assert_eq!(report.encode(), bytes);
        }
    }
}
