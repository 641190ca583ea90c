//! A message type of one's own, published and received: `cargo run --features std --example typed`.
//!
//! While it runs, `conduit --domain example echo joint` shows the messages by name.

use std::thread;
use std::time::Duration;

use conduit::{Publisher, Subscriber};

conduit::message! {
    /// What one joint does.
    pub struct Joint: "example_msgs/msg/Joint" {
        /// Radians.
        pub position: f64,
        /// Newton metres.
        pub effort: f32,
        pub id: u16,
        pub pad: [u8; 2],
    }
}

fn main() -> Result<(), conduit::Error> {
    let mut publisher = Publisher::<Joint>::options().domain("example").open("joint")?;

    let receive = thread::spawn(|| {
        let mut subscriber = Subscriber::<Joint>::options().domain("example").open("joint")?;
        for _ in 0..20 {
            let joint = subscriber.recv()?;
            println!("#{}: joint {} is at {:.2} rad", joint.sequence(), joint.id, joint.position);
            if joint.lagged() > 0 {
                println!("(lost {} before it)", joint.lagged());
            }
        }
        Ok::<(), conduit::Error>(())
    });

    let mut position = 0.0;
    while !receive.is_finished() {
        position += 0.05;
        publisher.publish(&Joint { position, id: 3, ..Joint::default() })?;
        thread::sleep(Duration::from_millis(50));
    }
    receive.join().expect("the subscriber does not panic")?;
    publisher.remove()
}
