//! One thread for several topics, asleep until any of them has a message: `cargo run --features std --example wait_set`.

use std::thread;
use std::time::Duration;

use conduit::msgs::{Header, Imu, Time, Vector3};
use conduit::{Publisher, Subscriber, WaitSet};

fn main() -> Result<(), conduit::Error> {
    let mut imus = Publisher::<Imu>::options().domain("example").open("body/imu")?;
    let mut winds = Publisher::<Vector3>::options().domain("example").open("mast/wind")?;

    let mut imu = Subscriber::<Imu>::options().domain("example").open("body/imu")?;
    let mut wind = Subscriber::<Vector3>::options().domain("example").open("mast/wind")?;
    let mut set = WaitSet::new();
    let (imu_key, wind_key) = (set.attach(&imu), set.attach(&wind));

    let publish = thread::spawn(move || {
        for sec in 0..10 {
            imus.publish(&Imu {
                header: Header { stamp: Time { sec, nanosec: 0 }, ..Header::default() },
                ..Imu::default()
            })?;
            if sec % 3 == 0 {
                winds.publish(&Vector3 { x: f64::from(sec), ..Vector3::default() })?;
            }
            thread::sleep(Duration::from_millis(50));
        }
        imus.remove()?;
        winds.remove()
    });

    loop {
        let ready = set.wait_timeout(Duration::from_millis(500))?;
        if ready.is_empty() {
            println!("quiet for half a second: done");
            break;
        }
        for key in ready {
            if key == imu_key {
                while let Some(imu) = imu.try_recv()? {
                    println!("imu at {} s", imu.header.stamp.sec);
                }
            } else if key == wind_key {
                while let Some(wind) = wind.try_recv()? {
                    println!("wind {} m/s", wind.x);
                }
            }
        }
    }
    publish.join().expect("the publisher does not panic")
}
