//! A broker and two subprocesses: work goes out, answers come back. One of them is killed, and its successor is sent what it has not
//! acknowledged. `cargo run --features std --example link`

use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use conduit::ack::Policy;
use conduit::link::{Link, Listener, Options};

const WORKERS: u8 = 2;
const TASKS: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().collect::<Vec<_>>().as_slice() {
        [_, address, worker] => work(address, worker.parse()?),
        _ => broker(),
    }
}

/// What both ends of worker number `worker`'s link are made with. Nothing counts as received before it is worked on.
fn options(worker: u8) -> Options {
    Link::options().session([worker; 16]).acks(Policy::Deferred)
}

fn work(address: &str, worker: u8) -> Result<(), Box<dyn Error>> {
    let mut link = options(worker).connect(address)?;
    // The broker closes the link when there is no more to do.
    while let Ok(task) = link.recv() {
        let number = u32::from_le_bytes(task.try_into()?);
        link.send(&(number * number).to_le_bytes())?;
        link.ack()?;
    }
    Ok(())
}

fn start(address: &str, worker: u8) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).args([address, &worker.to_string()]).spawn()
}

/// Starts a worker, and accepts its link.
fn hire(listener: &mut Listener, worker: u8) -> Result<(Child, Link), Box<dyn Error>> {
    let child = start(&listener.address(), worker)?;
    Ok((child, listener.accept_timeout(PATIENCE)?))
}

fn broker() -> Result<(), Box<dyn Error>> {
    let address = std::env::temp_dir().join(format!("conduit-broker-{}", std::process::id()));
    let mut listener = Link::options().listen(address.to_str().ok_or("the path is no text")?)?;
    let mut workers: Vec<_> = (1..=WORKERS).map(|worker| hire(&mut listener, worker)).collect::<Result<_, _>>()?;

    // The first one dies. Its successor, of the same session, comes back to the same link.
    workers[0].0.kill()?;
    workers[0].0.wait()?;
    workers[0].0 = start(&listener.address(), 1)?;
    // What comes back to a link it has, `accept` takes in without an answer.
    std::thread::spawn(move || while listener.accept().is_ok() {});

    for task in 0..TASKS {
        for (_, link) in &mut workers {
            link.send(&task.to_le_bytes())?;
        }
    }
    for task in 0..TASKS {
        for (worker, (_, link)) in workers.iter_mut().enumerate() {
            let answer = u32::from_le_bytes(link.recv_timeout(PATIENCE)?.try_into()?);
            println!("worker {}: {task} * {task} = {answer}", worker + 1);
        }
    }
    for (mut child, link) in workers {
        println!("{:?}", link.metrics());
        link.close(PATIENCE)?;
        child.wait()?;
    }
    // The listener lives as long as its thread, which is as long as the program.
    std::fs::remove_file(address)?;
    Ok(())
}
