//! Sends readings as events to a server, each taken once whatever the connection does: `cargo run --example events --features net`.
//!
//! It needs a server at `127.0.0.1:9000`, or where its first argument says.

use std::error::Error;
use std::time::Duration;

use conduit::frame::{Encoding, Event, Priority};
use conduit::net::{Acks, Client};

fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".into());
    let mut client = Client::options().acks(Acks::Accepted).connect(&server)?;
    for reading in 0..1000 {
        let payload = format!(r#"{{"celsius": {}}}"#, 20 + reading % 5);
        client.send(&Event {
            priority: Priority::High,
            encoding: Encoding::Json,
            topic: b"sensors/temperature",
            payload: payload.as_bytes(),
            ..Event::default()
        })?;
    }
    // Waits for the last answers.
    let report = client.close(Duration::from_secs(10));
    println!("{} of {} events were taken", report.succeeded(), report.succeeded() + report.failed());
    for failure in &report.failures {
        println!("{}: {}", failure.sequence, failure.fate);
    }
    Ok(())
}
