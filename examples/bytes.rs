//! Bytes of any length, written where they are read: `cargo run --features std --example bytes`.

use conduit::topic::Start;
use conduit::{Publisher, Subscriber};

fn main() -> Result<(), conduit::Error> {
    let mut publisher = Publisher::<[u8]>::options().domain("example").max_len(1 << 20).depth(8).open("image")?;
    for shade in 0..3 {
        // The loan is the slot itself: what fills it, a camera driver say, writes the message in its last place.
        let mut image = publisher.loan(640 * 480)?;
        image.fill(shade * 100);
        image.truncate(320 * 240);
        let sequence = image.commit();
        println!("published image {sequence}");
    }

    // A late subscriber may begin with what the topic still holds.
    let mut subscriber = Subscriber::<[u8]>::options().domain("example").start(Start::Oldest).open("image")?;
    while let Some(image) = subscriber.try_recv()? {
        let average = image.iter().map(|&pixel| u64::from(pixel)).sum::<u64>() / image.len() as u64;
        println!("image {}: {} B, average {average}, in place: {}", image.sequence(), image.len(), image.is_in_place());
    }
    publisher.remove()
}
