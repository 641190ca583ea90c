//! A topic in use whose words the fuzzer overwrites: errors and counted losses, never a crash or a hang.
#![no_main]

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use conduit::topic::{Observer, Overflow, SlotKind, Start};
use conduit::{Publisher, Subscriber};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&shape, steps)) = input.split_first() else { return };
    let domain = format!("fuzz-corruption-{}", std::process::id());
    let slots = if shape & 1 == 0 { SlotKind::Words } else { SlotKind::Frames };
    let overflow = if shape & 2 == 0 { Overflow::Overwrite } else { Overflow::Reject };
    let options = Publisher::<[u8]>::options().domain(&domain).slots(slots).overflow(overflow).depth(2).max_len(16);
    let mut publisher = options.samples(1).subscribers(2).open("t").expect("a topic");
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm/conduit_{domain}@t")).expect("its file");
    let len = file.metadata().expect("its length").len();
    let open = || Subscriber::<[u8]>::options().domain(&domain).start(Start::Oldest).samples(1);
    let mut subscriber = open().open("t").expect("a place");
    let mut observer = Observer::open_in(&domain, "t", Start::Oldest).expect("a topic");
    let mut held = None;

    // Each step: what to do, where, and with which value.
    for step in steps.chunks_exact(11).take(200) {
        let at = u64::from(u16::from_le_bytes([step[1], step[2]])) * 8;
        let value: [u8; 8] = step[3..].try_into().expect("eight bytes");
        match step[0] % 8 {
            0 | 1 => {
                // Behind the header, which is read once.
                let at = 4096 + at % (len - 4096 - 8);
                file.write_all_at(&value, at).expect("within the file");
            }
            2 => drop(publisher.publish(&[step[3]; 16])),
            3 => {
                if let Ok(mut loan) = publisher.loan(16) {
                    loan.fill(step[3]);
                    loan.commit();
                }
            }
            4 => {
                if let Ok(Some(sample)) = subscriber.try_recv() {
                    // Each byte is read, which nothing comes of, so the compiler must not know.
                    black_box(sample.iter().map(|&byte| u64::from(byte)).sum::<u64>());
                    held = Some(sample);
                }
            }
            5 => held = None,
            6 => drop(observer.try_next()),
            _ => {
                drop(subscriber.recv_timeout(Duration::ZERO));
                drop(open().open("t"));
            }
        }
    }
    drop((held, subscriber, observer));
    // Its file may say that it was superseded, so that it is not this publisher's to remove.
    drop(publisher);
    let _ = std::fs::remove_file(format!("/dev/shm/conduit_{domain}@t"));
});
