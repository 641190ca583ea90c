//! Receiving in async code, here with an executor of twenty lines: `cargo run --features std --example async_recv`.
//!
//! Any runtime will do in its place: the subscriber wakes its task from a thread of its own.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use conduit::{Publisher, Subscriber};

/// Runs one future on this thread, which sleeps while the future has nothing to do.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn main() -> Result<(), conduit::Error> {
    let mut publisher = Publisher::<[u8]>::options().domain("example").open("words")?;
    let mut words = Subscriber::<[u8]>::options().domain("example").open("words")?.into_async();

    let publish = thread::spawn(move || {
        for word in ["waiting", "takes", "no", "thread", "of", "yours", "."] {
            thread::sleep(Duration::from_millis(50));
            publisher.publish(word.as_bytes())?;
        }
        Ok::<_, conduit::Error>(publisher)
    });

    block_on(async move {
        loop {
            let word = words.recv().await?;
            println!("{}", String::from_utf8_lossy(&word));
            if *word == *b"." {
                return Ok::<(), conduit::Error>(());
            }
        }
    })?;
    publish.join().expect("the publisher does not panic")?.remove()
}
