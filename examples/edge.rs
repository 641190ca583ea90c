//! A server that takes events over TCP and UDP, publishes them, and keeps what it promises to keep:
//! `cargo run --example edge --features net,tank`, then `cargo run --example events --features net`.

use std::error::Error;
use std::time::Duration;

use conduit::engine::{Engine, Event, Failure};
use conduit::net::Server;
use conduit::tank::{DeadLetterStore, EventLog};

fn main() -> Result<(), Box<dyn Error>> {
    let state = std::env::temp_dir().join("conduit-edge");
    let engine = Engine::options()
        .handler("sensors/*", |event: &Event<'_>| {
            let reading = std::str::from_utf8(event.payload).map_err(Failure::reject)?;
            println!("{} {} {reading}", event.topic, event.origin);
            Ok(())
        })
        .durable_log(EventLog::open(state.join("events"))?)
        .dead_letters(DeadLetterStore::open(state.join("dead-letters"))?)
        .start()?;
    let server =
        Server::options().tcp("127.0.0.1:9000").udp("127.0.0.1:9001").metrics("127.0.0.1:9464").start(engine)?;
    println!("press enter to end");
    std::io::stdin().read_line(&mut String::new())?;
    let stats = server.stop(Duration::from_secs(10));
    println!("{} events, {} of them on disk", stats.accepted.iter().sum::<u64>(), stats.logged);
    Ok(())
}
