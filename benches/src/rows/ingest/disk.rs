//! What the disk allows: a whole window of events in one write, and a wait until the disk has it.

use super::{figures, job, leave, time};
use crate::clock::{ns, span, ticks};
use crate::peers::brokers::{Ask, cpu_of};
use crate::rows::{Context, Outcome};
use crate::stage::role;
use crate::stats::summary;
use std::fs::File;
use std::io::Write;

pub const WHO: &str = "a file, synced each 512";

const WINDOW: usize = 512;
/// About what an event of 64 bytes takes in a log.
const LEN: usize = 112;

pub fn run(context: &Context) -> Outcome {
    let stage = context.stage;
    let (_directory, job) = job(context, 64, Ask::Durable)?;
    let act = || {
        let mut file = File::create(job.directory.join("file")).expect("a file");
        let group = [b'a'; WINDOW * LEN];
        let mut samples = Vec::new();
        let own = || cpu_of(std::process::id().into());
        let (before, start) = (own(), ticks());
        let deadline = start + span(time(context));
        while ticks() < deadline {
            let begun = ticks();
            file.write_all(&group).expect("written");
            file.sync_data().expect("synced");
            samples.push(ns(ticks() - begun));
        }
        let seconds = ns(ticks() - start) * 1e-9;
        let events = (samples.len() * WINDOW) as f64;
        let times = summary(&mut samples).expect("one at least");
        leave(stage, &[events / seconds, (own() - before) as f64 / events, 0.0, times.p50, times.p99, 0.0]);
    };
    context.play(vec![role(job.cores[0], act)])?;
    figures(stage, &["rate", "cpu", "client", "p50", "p99", "again"])
}
