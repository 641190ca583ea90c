//! Datagrams.

use std::net::UdpSocket;
use std::sync::Arc;

use tokio::sync::watch;

use super::server::{Shared, Stage};
use crate::engine::Engine;

/// Receives datagrams until the server is closed.
pub(super) fn receive(
    _socket: &UdpSocket,
    _engine: &Arc<Engine>,
    _shared: &Arc<Shared>,
    _stage: &watch::Receiver<Stage>,
) {
}
