//! Looking on: which topics there are, and what comes on one of them, decoded by the schema it carries.
//!
//! `cargo run --features std --example observer -- imu` in one terminal, and in another
//! `conduit pub imu --type imu '{"angular_velocity": {"z": 0.1}}' --rate 10`. No subscriber's place is taken.

use std::error::Error;
use std::time::Duration;

use conduit::topic::decode::Format;
use conduit::topic::{Observer, Start, inspect, list};

fn main() -> Result<(), Box<dyn Error>> {
    let domain = std::env::var("CONDUIT_DOMAIN").unwrap_or_default();
    let Some(topic) = std::env::args().nth(1) else {
        for (_, topic) in list(Some(&domain))? {
            let info = inspect(Some(&domain), &topic)?;
            println!("{topic}: {} messages, {} subscribers", info.published, info.subscribers.len());
        }
        println!("which one? Name it as the argument");
        return Ok(());
    };

    let mut observer = Observer::open_in(&domain, &topic, Start::Oldest)?;
    let format = Format::of(observer.schema());
    while let Some(message) = observer.next_timeout(Duration::from_secs(5))? {
        match &format {
            Ok(format) => println!("#{} {}", message.sequence, format.decode(message.data)?),
            Err(_) => println!("#{} {} bytes", message.sequence, message.data.len()),
        }
    }
    println!("nothing for five seconds: done");
    Ok(())
}
