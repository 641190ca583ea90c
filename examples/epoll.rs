//! A topic in an epoll loop, beside a timer: `cargo run --features std --example epoll`.

use std::error::Error;
use std::thread;
use std::time::Duration;

use conduit::{Publisher, Subscriber};
use rustix::event::{Timespec, epoll};

const TOPIC: u64 = 1;
const EVERY_100_MS: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

fn main() -> Result<(), Box<dyn Error>> {
    let mut publisher = Publisher::<[u8]>::options().domain("example").open("ticks")?;
    let mut ticks = Subscriber::<[u8]>::options().domain("example").open("ticks")?.into_pollable()?;

    let publish = thread::spawn(move || {
        for tick in 0..5u8 {
            thread::sleep(Duration::from_millis(130));
            publisher.publish(&[tick])?;
        }
        Ok::<_, conduit::Error>(publisher)
    });

    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &ticks, epoll::EventData::new_u64(TOPIC), epoll::EventFlags::IN)?;
    let mut events = Vec::with_capacity(8);
    let mut received = 0;
    while received < 5 {
        events.clear();
        if epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&EVERY_100_MS))? == 0 {
            println!("(time for something else)");
        }
        for event in &events {
            if event.data.u64() == TOPIC {
                // Until there is none: only then does the descriptor tell of the next one.
                while let Some(tick) = ticks.try_recv()? {
                    println!("tick {}", tick[0]);
                    received += 1;
                }
            }
        }
    }
    publish.join().expect("the publisher does not panic")?.remove()?;
    Ok(())
}
