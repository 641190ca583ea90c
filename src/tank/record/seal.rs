//! Compresses chunks, each thread one of its own.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender};

use super::control::lock;
use super::load::{Buffers, Load};
use crate::tank::format::chunk::{OpenChunk, SealedChunk, Sealer};

/// Seals what comes, until nobody sends any more.
pub(super) fn work(
    mut sealer: Sealer,
    loads: &Mutex<Receiver<Load<OpenChunk>>>,
    out: &Sender<Load<SealedChunk>>,
    buffers: &Buffers,
) {
    // Whoever waits for a load keeps the others out, who would only wait, too.
    while let Ok(load) = { lock(loads).recv() } {
        let sealed = load.map(|chunk| {
            let (sealed, left) = sealer.seal(chunk, || buffers.take());
            left.into_iter().for_each(|bytes| buffers.give_back(bytes));
            sealed
        });
        // Nobody receives only after the writer has panicked, which ends the recording.
        let _ = out.send(sealed);
    }
}
