//! Events over TCP and UDP. The frames are told of in `docs/frame.md`.
//!
//! | to | use |
//! |---|---|
//! | send events from threads, each taken once whatever the connection does | [`Client`] |
//! | the same on tokio | [`AsyncClient`] |
//! | send many in datagrams, and hear nothing of them | [`UdpSender`] |
//! | keep and resend events over a transport of your own; pure | [`outbox`] |

mod client;

pub use client::outbox::{self, Acks, Fate, First, Outcome, Retry};
pub use client::{
    AsyncClient, Client, ClientError, ClientOptions, Receipt, Reconnect, Report, UdpCounts, UdpOptions, UdpSender,
};
