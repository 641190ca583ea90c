//! What is shared: the latest value, and locks.

use std::hint::black_box;

use conduit::lock::{Semaphore, SpinLock};
use conduit::seqlock::{Reader, SeqLock, Writer};

use crate::{BATCH, Message, ROUNDS, counted, message};

counted! {
    fn seqlock_write_64_bytes(writer: &mut Writer<'static, Message>, value: &Message) {
        writer.write(value);
    }
    fn seqlock_read_64_bytes(reader: &Reader<'static, Message>, target: &mut Message) -> bool {
        reader.read().map(|value| *target = value).is_ok()
    }
    // Twice what its name says: `check` demands that it is seen to be far from that.
    fn control_seqlock_write_64_bytes(writer: &mut Writer<'static, Message>, value: &Message) {
        writer.write(value);
        writer.write(value);
    }
    fn spinlock_lock_and_unlock(lock: &SpinLock<u64>) {
        *lock.lock() += 1;
    }
    fn semaphore_acquire_and_release(semaphore: &Semaphore) {
        drop(semaphore.acquire());
    }
}

pub fn seqlock() {
    static LOCK: SeqLock<Message> = SeqLock::new();
    let (mut writer, reader) = LOCK.split().expect("not split yet");
    let mut target = message(0);
    for n in 0..ROUNDS * BATCH as u64 {
        seqlock_write_64_bytes(&mut writer, &message(n));
        assert!(seqlock_read_64_bytes(&reader, &mut target));
        assert_eq!(target, message(n));
        control_seqlock_write_64_bytes(&mut writer, &message(n));
    }
}

pub fn locks() {
    static LOCK: SpinLock<u64> = SpinLock::new(0);
    static SEMAPHORE: Semaphore = Semaphore::new(1);
    for _ in 0..ROUNDS * BATCH as u64 {
        spinlock_lock_and_unlock(black_box(&LOCK));
        semaphore_acquire_and_release(black_box(&SEMAPHORE));
    }
}
