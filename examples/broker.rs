//! A broker that loses nothing when a worker is killed: it starts two processes of this same program, gives them work, kills one of
//! them in the middle of it and starts it again. `cargo run --features std --example broker`

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use conduit::ack::Policy;
use conduit::link::{self, Link};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const TASKS: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(10);
/// By the environment, which other users cannot read: whoever knows a session can take its link over.
const SESSION: &str = "BROKER_SESSION";

fn main() -> Outcome {
    match std::env::args().nth(1) {
        Some(address) => work(&address),
        None => broker(),
    }
}

fn work(address: &str) -> Outcome {
    let session = u128::from_str_radix(&std::env::var(SESSION)?, 16)?.to_be_bytes();
    // A task is acknowledged once it is done, so that one which dies with this process is sent to the next.
    let mut link = Link::options().session(session).acks(Policy::Deferred).connect(address)?;
    loop {
        let task = match link.recv() {
            Ok(bytes) => u32::from_le_bytes(bytes.try_into()?),
            Err(link::Error::Closed(link::Ending::ByPeer)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        std::thread::sleep(Duration::from_millis(20)); // the work
        // The answer first: killed between the two, this answers twice, and the other way round not at all.
        link.send(&[task, task * task].map(u32::to_le_bytes).concat())?;
        link.ack()?;
    }
}

fn start(address: &str, session: u128) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).arg(address).env(SESSION, format!("{session:x}")).spawn()
}

fn broker() -> Outcome {
    let directory = std::env::temp_dir().join(format!("conduit-broker-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&directory)?;
    let address = directory.join("socket").to_str().ok_or("the path is no text")?.to_string();
    let mut listener = Link::options().on_event(|event| println!("{event:?}")).listen(&address)?;
    let (tell, links) = mpsc::channel();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        // All the time, as it is here, too, that a successor is taken in: to the link that there is, without making another.
        threads.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                if let Ok(link) = listener.accept_timeout(Duration::from_millis(50)) {
                    let _ = tell.send(link);
                }
            }
        });
        let outcome = give_work(&address, &links);
        is_done.store(true, Ordering::Relaxed);
        outcome
    })?;
    drop(listener); // and with it the socket's file
    Ok(fs::remove_dir(directory)?)
}

fn give_work(address: &str, links: &mpsc::Receiver<Link>) -> Outcome {
    let mut workers = Vec::new();
    for _ in 0..2 {
        let mut session = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut session)?;
        let session = u128::from_be_bytes(session);
        // One after the other: a link does not say which child it is to.
        let child = start(address, session)?;
        workers.push((child, session, links.recv_timeout(PATIENCE)?));
    }
    for task in 0..TASKS {
        workers[task as usize % 2].2.send(&task.to_le_bytes())?;
    }
    // By number, as an answer may come a second time.
    let mut done = BTreeSet::new();
    for number in 0..2 {
        while !(number..TASKS).step_by(2).all(|task| done.contains(&task)) {
            let (child, session, link) = &mut workers[number as usize];
            let (task, answer) = link.recv_timeout(PATIENCE)?.split_at_checked(4).ok_or("that is no answer")?;
            let [task, answer] = [task.try_into()?, answer.try_into()?].map(u32::from_le_bytes);
            println!("worker {number}, process {}: {task} * {task} = {answer}", child.id());
            if done.insert(task) && task == 4 {
                child.kill()?; // SIGKILL
                child.wait()?;
                *child = start(address, *session)?;
            }
        }
    }
    for (mut child, _, link) in workers {
        println!("sent once more: {}", link.metrics().resent);
        link.close(PATIENCE)?; // once all is acknowledged
        assert!(child.wait()?.success());
    }
    Ok(())
}
