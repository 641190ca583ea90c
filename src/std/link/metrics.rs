//! What is known of a link.

use std::sync::Arc;

use super::Transport;
use super::shared::Shared;
use crate::core::atomic::Ordering;

/// What is known of a link at the moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// The way that messages go from here, `None` while there is no connection. Elsewhere named `SharedMemory.Active`.
    pub transport: Option<Transport>,
    /// Bytes that can be sent before there is no room. Elsewhere `SharedMemory.BytesAvailable`.
    pub bytes_available: usize,
    /// How often the socket took the place of the ring: connections without shared memory, and messages too long for it.
    /// Elsewhere `SharedMemory.FallbackCount`.
    pub fallbacks: u64,
    /// Messages that were received and are not acknowledged. Elsewhere `BatchAck.PendingCount`.
    pub pending_acks: u64,
    /// How often acknowledgements were sent. Elsewhere `BatchAck.FlushCount`.
    pub ack_flushes: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that were sent and are not acknowledged, as far as was looked.
    pub unacknowledged: u64,
    /// Messages that were sent once more over a new connection.
    pub resent: u64,
    /// The sequence of the last message that came from the peer. It begins anew when the peer is a new process, which counts its own.
    /// What this end has sent and the former has not acknowledged is sent to the new one, also a request that the former had answered.
    pub received: u64,
    /// Connections that the link has had.
    pub connections: u64,
}

impl Metrics {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        let mut metrics = Metrics { connections: shared.connections(), ..Metrics::default() };
        // In a forked child a thread of the parent's may be inside for ever.
        if shared.check_fork().is_err() {
            return metrics;
        }
        let is_connected = shared.connection().is_some();
        {
            let mut outgoing = shared.outgoing();
            // What is wrong with it whoever sends next finds out.
            let _ = outgoing.look();
            if is_connected {
                metrics.transport = outgoing.transport();
                metrics.bytes_available = outgoing.room();
            }
            metrics.sent = outgoing.sent();
            metrics.unacknowledged = outgoing.pending();
            metrics.resent = outgoing.resent;
            metrics.fallbacks = shared.fallbacks.load(Ordering::Relaxed) + outgoing.by_socket;
        }
        let incoming = shared.incoming();
        metrics.pending_acks = incoming.pending();
        metrics.ack_flushes = incoming.flushes;
        metrics.received = incoming.received().1;
        metrics
    }
}
