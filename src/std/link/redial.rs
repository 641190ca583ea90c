//! The thread that makes a lost connection anew. It lives for as long as that takes.

use std::sync::{Arc, Weak};

use super::shared::{For, Shared};
use super::{Error, Event, handshake};
use crate::std::futex::{Deadline, Spin};
use crate::std::random;

/// Has a thread try: at once, or, if the last connection `was_brief`, after the usual wait, so that a server that accepts and hangs up
/// is not asked without end.
pub(super) fn start(shared: &Arc<Shared>, was_brief: bool) {
    let weak = shared.downgrade();
    let started = std::thread::Builder::new().name("conduit-redial".into()).spawn(move || run(&weak, was_brief));
    if let Err(error) = started {
        shared.tell(&Event::Error(format!("cannot start a thread to reconnect: {error}")));
        shared.give_up(0);
    }
}

fn run(weak: &Weak<Shared>, was_brief: bool) {
    let mut attempts = 0;
    while let Some(shared) = weak.upgrade() {
        let reconnect = &shared.options.reconnect;
        if attempts == reconnect.attempts {
            return shared.give_up(attempts);
        }
        let wait =
            Deadline::after(reconnect.wait(attempts + u32::from(was_brief), random::chance() as f64 / u64::MAX as f64));
        // Until then, or until the link is closed.
        let until_closed = |shared: &Arc<Shared>, _| Ok(shared.ending().map(drop));
        match shared.wait(For::Room, Some(wait), &mut Spin::new(), until_closed) {
            Err(Error::TimedOut) => {}
            _ => return,
        }
        attempts += 1;
        match handshake::connect(&shared).and_then(|greeted| shared.resume(greeted, attempts).map_err(Error::from)) {
            Ok(()) => return,
            Err(error) => shared.tell(&Event::Error(format!("attempt {attempts} to reconnect: {error}"))),
        }
        if shared.ending().is_some() {
            return;
        }
    }
}
