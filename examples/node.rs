//! A node in ten lines, until Ctrl-C: `cargo run --features std --example node`.
//!
//! While it runs, `conduit nodes balance` shows what it does, and `conduit pub imu --type imu --rate 100Hz` gives it something to do.

use std::time::Duration;

use conduit::Node;
use conduit::msgs::{Imu, Vector3};

fn main() -> Result<(), conduit::Error> {
    let mut node = Node::new("balance")?;
    let mut command = node.advertise::<Vector3>("command")?;
    node.subscribe::<Imu>("imu", move |imu| {
        let rate = imu.angular_velocity;
        command.publish(&Vector3 { x: -rate.x, y: -rate.y, z: 0.0 }).expect("the topic takes it");
    })?;
    node.every(Duration::from_secs(1), |tick| println!("{} s, {:?} late", tick.number(), tick.late()))?;
    println!("{:#?}", node.run()?);
    Ok(())
}
