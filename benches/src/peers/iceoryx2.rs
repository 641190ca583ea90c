//! iceoryx2 0.10, with fixed-size typed payloads, which is its fastest way.

use super::{Peer, Setup, files_in, prefix};
use crate::message::Message;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::{publisher::Publisher as Out, subscriber::Subscriber as In};
use iceoryx2::prelude::*;
use std::path::PathBuf;

pub struct Iceoryx2;

/// Where its nodes and services keep their files in this run.
pub fn root() -> String {
    format!("/tmp/{}", prefix("iceoryx2"))
}

// SAFETY: plain words of a fixed layout, without pointers.
unsafe impl<const N: usize> ZeroCopySend for Message<N> {}

pub struct Publishing<const N: usize> {
    out: Out<ipc::Service, Message<N>, ()>,
    /// Data and wake-up are two services; the second is there only for subscribers that sleep.
    notifier: Option<Notifier<ipc::Service>>,
    _node: Node<ipc::Service>,
}

pub struct Subscribing<const N: usize> {
    inlet: In<ipc::Service, Message<N>, ()>,
    listener: Option<Listener<ipc::Service>>,
    _node: Node<ipc::Service>,
}

fn node() -> Node<ipc::Service> {
    set_log_level(LogLevel::Fatal);
    // Its own root and prefix, so that only this run's files are counted.
    let mut config = Config::default();
    config.global.prefix = prefix("iceoryx2").as_str().try_into().expect("a file name");
    config.global.set_root_path(&root().as_str().try_into().expect("a path"));
    NodeBuilder::new().config(&config).create().expect("iceoryx2 node")
}

type Service<const N: usize> =
    iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, Message<N>, ()>;

fn service<const N: usize>(node: &Node<ipc::Service>, setup: &Setup) -> Service<N> {
    node.service_builder(&setup.name.as_str().try_into().expect("a name"))
        .publish_subscribe::<Message<N>>()
        .enable_safe_overflow(!setup.lossless)
        .subscriber_max_buffer_size(setup.depth)
        .max_subscribers(setup.subscribers.max(1))
        .max_nodes(setup.subscribers + 3)
        .open_or_create()
        .expect("iceoryx2 service")
}

type Events = iceoryx2::service::port_factory::event::PortFactory<ipc::Service>;

fn events(node: &Node<ipc::Service>, setup: &Setup) -> Events {
    node.service_builder(&setup.name.as_str().try_into().expect("a name"))
        .event()
        .open_or_create()
        .expect("iceoryx2 event service")
}

impl<const N: usize> Peer<N> for Iceoryx2 {
    type Shared = ();
    type Publisher = Publishing<N>;
    type Subscriber = Subscribing<N>;

    fn prepare(_: &Setup) {}

    fn publisher(_: &(), setup: &Setup) -> Publishing<N> {
        let node = node();
        let out = service::<N>(&node, setup)
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .expect("iceoryx2 publisher");
        let notifier = setup.sleepers.then(|| {
            let notifier = events(&node, setup).notifier_builder().create();
            notifier.expect("iceoryx2 notifier")
        });
        Publishing { out, notifier, _node: node }
    }

    fn subscriber(_: &(), setup: &Setup, _: usize) -> Subscribing<N> {
        let node = node();
        let listener = setup.sleepers.then(|| {
            let listener = events(&node, setup).listener_builder().create();
            listener.expect("iceoryx2 listener")
        });
        let inlet = service::<N>(&node, setup).subscriber_builder().create().expect("iceoryx2 subscriber");
        Subscribing { inlet, listener, _node: node }
    }

    fn files() -> Vec<PathBuf> {
        let mut found = files_in("/dev/shm", &prefix("iceoryx2"));
        let mut folders = vec![PathBuf::from(root())];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => found.push(path),
                }
            }
        }
        found
    }
}

impl<const N: usize> super::Publisher<N> for Publishing<N> {
    #[inline(always)]
    fn send(&mut self, message: &Message<N>) {
        let mut sample = self.out.loan_uninit().expect("a loan");
        // SAFETY: the loan is room for one message; the copy initialises all of it.
        let sample = unsafe {
            std::ptr::copy_nonoverlapping(message, sample.payload_mut().as_mut_ptr(), 1);
            sample.assume_init()
        };
        sample.send().expect("sent");
        if let Some(notifier) = &self.notifier {
            notifier.notify().expect("notified");
        }
    }

    #[inline(always)]
    fn hand_over(&mut self, number: Option<u64>) {
        let mut sample = self.out.loan_uninit().expect("a loan");
        // SAFETY: any words make a valid message, and the segment was zeroed when it was made.
        let sample = unsafe {
            if let Some(number) = number {
                (&raw mut (*sample.payload_mut().as_mut_ptr()).0[0]).write(number);
            }
            sample.assume_init()
        };
        sample.send().expect("sent");
    }
}

impl<const N: usize> super::Subscriber<N> for Subscribing<N> {
    #[inline(always)]
    fn receive(&mut self, into: &mut Message<N>) -> bool {
        match self.inlet.receive().expect("received") {
            Some(sample) => {
                // SAFETY: both are one message, and they do not overlap.
                unsafe { std::ptr::copy_nonoverlapping(sample.payload(), into, 1) };
                true
            }
            None => false,
        }
    }

    fn wait(&mut self, into: &mut Message<N>) {
        while !self.receive(into) {
            let listener = self.listener.as_ref().expect("a listener");
            listener.blocking_wait(|_| {}).expect("woken");
        }
    }

    #[inline(always)]
    fn take(&mut self, look: bool) -> Option<u64> {
        let sample = self.inlet.receive().expect("received")?;
        Some(if look { sample.payload().0[0] } else { 0 })
    }
}
