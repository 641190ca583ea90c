//! Events over the network: a server that takes them over TCP and UDP and hands them to an [event engine](crate::engine), and
//! its clients.
//!
//! | to | use |
//! |---|---|
//! | take events | [`Server`] |
//! | send events from threads, each taken once whatever the connection does | [`Client`] |
//! | the same on tokio | [`AsyncClient`] |
//! | send many in datagrams, and hear nothing of them | [`UdpSender`] |
//! | keep and resend events over a transport of your own; pure | [`outbox`] |
//!
//! Frames of both kinds are taken on both ports, see `docs/frame.md`: the first byte of a connection or of a datagram tells
//! which they are. Each event whose producer asks for it is answered.
//!
//! ```
//! use conduit::engine::Engine;
//! use conduit::net::Server;
//! use std::io::Write;
//!
//! let domain = format!("doc-net-{}", std::process::id());
//! let engine = Engine::options().domain(&domain).start()?;
//! let server = Server::options().tcp("127.0.0.1:0").start(engine)?;
//!
//! // An older frame, as a few lines of any language write it: length, priority, length of the topic, topic, payload.
//! let mut connection = std::net::TcpStream::connect(server.tcp_addr().unwrap())?;
//! connection.write_all(b"\0\0\0\x0c\x02\0\x04demohello")?;
//! drop(connection);
//!
//! let subscriber = conduit::Subscriber::<[u8]>::options().domain(&domain).start(conduit::topic::Start::Oldest).wait_forever();
//! assert_eq!(&*subscriber.open("demo")?.recv()?, b"hello");
//! server.stop(std::time::Duration::from_secs(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod beginnings;
mod client;
mod datagrams;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod line;
mod metrics;
pub mod openmetrics;
mod server;
mod session;
mod tcp;
mod udp;

pub use client::outbox::{self, Acks, Fate, First, Outcome, Retry};
pub use client::{
    AsyncClient, Client, ClientError, ClientOptions, Receipt, Reconnect, Report, UdpCounts, UdpOptions, UdpSender,
};
pub use error::Error;
pub use metrics::metrics;
pub use server::{CloseReason, NetStats, Server, ServerOptions};
