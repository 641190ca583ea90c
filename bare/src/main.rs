//! The kernel with nothing below it. Exits with 0 if each use went as it should, or else with the number of the first that
//! did not. By the number of its arguments it is told which use is to find a message changed, so that it shows that it can fail.

#![no_std]
#![no_main]

mod memory;

use core::arch::{asm, global_asm};

use conduit::frame::{self, Decoded, Event, Flags};
use conduit::pool::Pool;
use conduit::ring::{Start, WordRing};
use conduit::{dedup, mpsc, records, seqlock, spsc};

/// In the order of their numbers, from 1. `true`: it went as it should. The argument is added to a message.
const USES: [fn(u8) -> bool; 8] = [ring, one_to_one, many_to_one, latest, wire, any_length, places, seen];

fn ring(change: u8) -> bool {
    static RING: WordRing<[u32; 3], 4> = WordRing::new();
    let Some((mut writer, readers)) = RING.split() else { return false };
    let mut reader = readers.reader(Start::New);
    for n in 0..10 {
        writer.publish(&[n, n + 1, n + 2 + u32::from(change)]);
    }
    let (mut next, mut lost) = (0, 0);
    while let Ok(message) = reader.read() {
        lost += message.lagged();
        next = message.sequence() + 1;
        let n = message.sequence() as u32;
        if *message != [n, n + 1, n + 2] {
            return false;
        }
    }
    next == 10 && lost >= 6 && RING.split().is_none()
}

fn one_to_one(change: u8) -> bool {
    static QUEUE: spsc::Queue<u8, 4> = spsc::Queue::starting_at(usize::MAX - 1);
    let Some((mut producer, mut consumer)) = QUEUE.split() else { return false };
    let mut out = [0; 8];
    producer.push_slice(&[1, 2, 3 + change]) == 3
        && producer.push(4).is_ok()
        && producer.push(5) == Err(5)
        && consumer.pop_slice(&mut out) == 4
        && out == [1, 2, 3, 4, 0, 0, 0, 0]
        && consumer.pop().is_none()
}

fn many_to_one(change: u8) -> bool {
    static QUEUE: mpsc::Queue<u8, 4> = mpsc::Queue::starting_at(usize::MAX - 1);
    let Some((one, mut consumer)) = QUEUE.split() else { return false };
    let other = one;
    let pushed = [one.push(1), other.push(2), one.push(3 + change), other.push(4), one.push(5)];
    let (mut sum, mut last) = (0, 0);
    let popped = consumer.pop_batch(8, |message| (sum, last) = (sum + message, message));
    pushed == [Ok(()), Ok(()), Ok(()), Ok(()), Err(5)] && (popped, sum, last) == (4, 10, 4)
}

fn latest(change: u8) -> bool {
    static LATEST: seqlock::SeqLock<[u8; 13]> = seqlock::SeqLock::new();
    let Some((mut writer, reader)) = LATEST.split() else { return false };
    let empty = reader.read() == Err(seqlock::ReadError::Empty);
    writer.write(&[1; 13]);
    writer.write(&[2 + change; 13]);
    empty && reader.read() == Ok([2; 13]) && reader.writes() == 2
}

fn wire(change: u8) -> bool {
    let mut buffer = [0; 128];
    let event = Event { flags: Flags::BODY_CRC, sequence: 7, topic: b"imu", payload: b"hello", ..Event::default() };
    let Ok(len) = event.encode(&mut buffer) else { return false };
    // Of the body, which has a checksum.
    buffer[frame::HEADER_LEN] += change;
    match frame::decode(&buffer[..len], frame::DEFAULT_MAX_LEN) {
        Ok(Decoded::Frame { header, body, len: used }) => used == len && header.event(body) == Ok(event),
        _ => false,
    }
}

fn any_length(change: u8) -> bool {
    static RING: records::Ring<8> = records::Ring::starting_at(u64::MAX - 1);
    let Some((mut producer, mut consumer)) = RING.split() else { return false };
    let mut out = [0; 16];
    (1..20).all(|n| {
        let len = usize::from(n) % 15;
        producer.push(&[n + change; 16][..len]).is_ok()
            && consumer.pop(&mut out) == Ok(len)
            && out[..len].iter().all(|&byte| byte == n)
    }) && consumer.pop(&mut out) == Err(records::ReadError::Empty)
}

fn places(change: u8) -> bool {
    static POOL: Pool<[u8; 8], 2, 1> = Pool::new();
    let mut magazine = POOL.magazine();
    let (one, other) = (magazine.acquire([1 + change; 8]), magazine.acquire([2; 8]));
    let none = magazine.acquire([3; 8]).err() == Some([3; 8]);
    let (Ok(one), Ok(other)) = (one, other) else { return false };
    none && *one == [1; 8] && other.into_inner() == [2; 8] && POOL.free() == 1
}

fn seen(change: u8) -> bool {
    let mut window = dedup::Window::new();
    window.record(7 + u64::from(change));
    window.look(7) == dedup::Seen::Duplicate && window.look(6) == dedup::Seen::New
}

// Where a program begins: the stack pointer points to the number of its arguments, its name included.
global_asm!(".globl _start", "_start:", "mov rdi, [rsp]", "and rsp, -16", "call {main}", main = sym main);

extern "C" fn main(arguments: usize) -> ! {
    let mut code = 0;
    for (number, used) in (1..).zip(USES) {
        if code == 0 && !used(u8::from(number + 1 == arguments)) {
            code = number;
        }
    }
    exit(code)
}

fn exit(code: usize) -> ! {
    // SAFETY: system call 231, exit_group, touches no memory of this program and does not return.
    unsafe { asm!("syscall", in("rax") 231, in("rdi") code, options(noreturn)) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(101)
}
