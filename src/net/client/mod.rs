//! Sending events.

mod asynchronous;
mod blocking;
mod error;
mod exchange;
mod options;
pub mod outbox;
mod packer;
mod replies;
mod report;
mod udp;

pub use asynchronous::{AsyncClient, Receipt};
pub use blocking::Client;
pub use error::ClientError;
pub use options::{ClientOptions, Reconnect};
pub use report::Report;
pub use udp::{UdpCounts, UdpOptions, UdpSender};
