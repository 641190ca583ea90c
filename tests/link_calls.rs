//! What calls over a link promise.
#![cfg(feature = "std")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conduit::link::calls::{self, CallError, Caller, Failure, Methods, Request, Service};
use conduit::link::{Link, Options};

const SOON: Duration = Duration::from_secs(30);

/// An address that nobody else has.
fn address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("@conduit-calls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Two ends, the server's first.
fn ends(server: Options, client: Options) -> (Link, Link) {
    let address = address();
    let mut listener = server.listen(&address).unwrap();
    let connecting = thread::spawn(move || client.connect(&address).unwrap());
    let server = listener.accept_timeout(SOON).unwrap();
    (server, connecting.join().unwrap())
}

fn methods() -> Methods {
    Methods::new()
        .on("echo", |request| Ok(request.payload().to_vec()))
        .on("fail", |request| Err(Failure::new(7, String::from_utf8_lossy(request.payload()))))
}

#[test]
fn many_threads_call_at_once_and_each_has_its_own_answer() {
    for workers in [1, 3] {
        let (here, there) = ends(Link::options(), Link::options());
        let service = calls::Options::default().workers(workers).serve(here, methods()).unwrap();
        let caller = there.into_caller();
        let start = Instant::now();
        for number in 0..20_000u32 {
            assert_eq!(caller.call("echo", &number.to_le_bytes(), SOON).unwrap(), number.to_le_bytes());
        }
        eprintln!("{workers}: {:?} a call", start.elapsed() / 20_000);
        thread::scope(|scope| {
            for thread in 0..8u32 {
                let caller = caller.clone();
                scope.spawn(move || {
                    for number in 0..2000u32 {
                        let request = [thread.to_le_bytes(), number.to_le_bytes()].concat();
                        assert_eq!(caller.call("echo", &request, SOON).unwrap(), request);
                    }
                });
            }
        });
        assert_eq!(caller.call("fail", b"no", SOON), Err(CallError::Failed { code: 7, text: "no".into() }));
        eprintln!("{:?} {:?}", caller.metrics(), service.metrics());
    }
}
