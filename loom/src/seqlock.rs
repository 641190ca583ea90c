//! The latest value: what is read is whole, and never older than what was read before.

use loom::thread;

use crate::core::seqlock::{ReadError, SeqLock};
use crate::model;

fn race(writes: u64, readers: usize, reads: usize) {
    model(readers + 1, move || {
        let lock: &'static SeqLock<[u64; 2]> = Box::leak(Box::new(SeqLock::new()));
        let (mut writer, reader) = lock.split().unwrap();
        let reading: Vec<_> = (0..readers)
            .map(|_| {
                thread::spawn(move || {
                    let mut last = 0;
                    for _ in 0..reads {
                        match reader.try_read() {
                            Ok([one, other]) => {
                                assert_eq!(other, one + 1000, "torn");
                                assert!(last <= one, "older than what was read before");
                                last = one;
                            }
                            Err(ReadError::Empty) => assert_eq!(last, 0),
                            Err(ReadError::Contended) => {}
                        }
                    }
                })
            })
            .collect();
        for value in 1..=writes {
            writer.write(&[value, value + 1000]);
        }
        reading.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(reader.try_read(), Ok([writes, writes + 1000]));
        // SAFETY: both ends are used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(lock).cast_mut()) });
    });
}

#[test]
fn a_value_is_read_whole() {
    race(2, 1, 2);
}

#[test]
fn two_readers_do_not_disturb_each_other() {
    race(1, 2, 1);
}

/// A value that is there when a reader is told of it by something else is read, or a newer one.
#[test]
fn a_value_that_was_announced_is_there() {
    use crate::core::atomic::{AtomicUsize, Ordering};
    model(2, || {
        let lock: &'static (SeqLock<u64>, AtomicUsize) = Box::leak(Box::new((SeqLock::new(), AtomicUsize::new(0))));
        let (mut writer, reader) = lock.0.split().unwrap();
        let reading = thread::spawn(move || {
            if lock.1.load(Ordering::Acquire) == 1 {
                assert_eq!(reader.try_read(), Ok(7));
            }
        });
        writer.write(&7);
        lock.1.store(1, Ordering::Release);
        reading.join().unwrap();
        // SAFETY: all is used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(lock).cast_mut()) });
    });
}
