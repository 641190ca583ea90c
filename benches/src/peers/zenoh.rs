//! zenoh 1.10: shared-memory buffers whose descriptors travel over a Unix socket. Subscribers sleep.

use super::{Peer, Publisher, Setup, Subscriber, prefix};
use crate::message::Message;
use std::time::Duration;
use zenoh::handlers::FifoChannelHandler;
use zenoh::sample::Sample;
use zenoh::shm::{BlockOn, GarbageCollect, PosixShmProviderBackend};
use zenoh::shm::{ShmProvider, ShmProviderBuilder};
use zenoh::{Config, Session, Wait};

pub struct Zenoh;

pub struct Publishing {
    out: zenoh::pubsub::Publisher<'static>,
    provider: ShmProvider<PosixShmProviderBackend>,
    _session: Session,
}

pub struct Subscribing {
    inlet: zenoh::pubsub::Subscriber<FifoChannelHandler<Sample>>,
    _session: Session,
}

/// The publisher listens on a socket of the topic's name, the subscriber connects to it.
fn session(setup: &Setup, side: &str) -> Session {
    let mut config = Config::default();
    let socket = format!("unixsock-stream//tmp/{}{}", prefix("zenoh"), setup.name);
    let mut set = |key: &str, value: &str| config.insert_json5(key, value).expect(key);
    set("scouting/multicast/enabled", "false");
    set("listen/endpoints", "[]");
    set(&format!("{side}/endpoints"), &format!("[\"{socket}\"]"));
    set("transport/shared_memory/enabled", "true");
    zenoh::open(config).wait().expect("zenoh session")
}

impl<const N: usize> Peer<N> for Zenoh {
    type Shared = ();
    type Publisher = Publishing;
    type Subscriber = Subscribing;

    const POLLS: bool = false;

    fn prepare(_: &Setup) {}

    fn publisher(_: &(), setup: &Setup) -> Publishing {
        let session = session(setup, "listen");
        let out = session.declare_publisher(setup.name.clone());
        Publishing {
            out: out.wait().expect("zenoh publisher"),
            provider: ShmProviderBuilder::default_backend(setup.depth * N * 8 + (1 << 20))
                .wait()
                .expect("zenoh memory"),
            _session: session,
        }
    }

    fn subscriber(_: &(), setup: &Setup, _: usize) -> Subscribing {
        let session = session(setup, "connect");
        let inlet = session.declare_subscriber(setup.name.clone());
        let inlet = inlet.wait().expect("zenoh subscriber");
        // The declaration reaches the publisher some time after this call.
        std::thread::sleep(Duration::from_millis(200));
        Subscribing { inlet, _session: session }
    }
}

impl<const N: usize> Publisher<N> for Publishing {
    fn send(&mut self, message: &Message<N>) {
        let room = self.provider.alloc(N * 8);
        let room = room.with_policy::<BlockOn<GarbageCollect>>().wait();
        let mut buffer = room.expect("zenoh buffer");
        buffer.as_mut().copy_from_slice(message.bytes());
        self.out.put(buffer).wait().expect("put");
    }
}

impl<const N: usize> Subscriber<N> for Subscribing {
    fn receive(&mut self, _: &mut Message<N>) -> bool {
        unreachable!("subscribers of zenoh sleep")
    }

    fn wait(&mut self, into: &mut Message<N>) {
        let sample = self.inlet.recv().expect("received");
        into.bytes_mut().copy_from_slice(&sample.payload().to_bytes());
    }
}
