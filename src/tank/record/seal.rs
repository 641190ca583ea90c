//! Compresses chunks, each thread one of its own.

use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use super::control::{Control, lock};
use super::load::{Buffers, Load};
use crate::tank::format::chunk::{OpenChunk, SealedChunk, Sealer};
use crate::tank::{Compression, Error};

/// Seals what comes, until nobody sends any more.
pub(super) fn work(
    compression: Compression,
    loads: &Mutex<Receiver<Load<OpenChunk>>>,
    out: &Sender<Load<SealedChunk>>,
    buffers: &Buffers,
    control: &Arc<Control>,
) {
    let mut sealer = match Sealer::new(compression) {
        Ok(sealer) => sealer,
        Err(source) => return control.fail(Error::System { what: "set up a compressor", source }),
    };
    // Whoever waits for a load keeps the others out, who would only wait, too.
    while let Ok(load) = { lock(loads).recv() } {
        let sealed = load.map(|chunk| {
            let (sealed, left) = sealer.seal(chunk, || buffers.take())?;
            left.into_iter().for_each(|bytes| buffers.give_back(bytes));
            Ok(sealed)
        });
        match sealed {
            // Nobody receives only after the writer has panicked, which whoever joins it learns.
            Ok(load) => drop(out.send(load)),
            Err(source) => control.fail(Error::System { what: "compress a chunk", source }),
        }
    }
}
