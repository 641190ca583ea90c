//! The command line as a whole process, from its start to its exit.

use super::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::clock::{ns, ticks};
use crate::stage::role;
use crate::stats::summary;
use conduit::Publisher;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const DOMAIN: &str = "bench-list";

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("list topics", "the whole process: started, ten topics listed, exited")
            .column("p50", "p50", Time)
            .column("p99", "p99", Time)
            .cell("a process that does nothing", |context| run(context, "/bin/true".into(), &[]))
            .cell("conduit topics", |context| run(context, binary()?, &["topics"]))
            .target("conduit topics", "p50", &[], AtMost(5e6)),
    ]
}

/// `CONDUIT_BIN`, or what a release build left in the crate beside this one.
fn binary() -> Result<PathBuf, String> {
    let built = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/conduit"));
    let path = std::env::var_os("CONDUIT_BIN").map_or_else(built, PathBuf::from);
    match path.exists() {
        true => Ok(path),
        false => Err("no conduit binary: `cargo build --release --features cli` makes it".into()),
    }
}

fn run(context: &Context, program: PathBuf, arguments: &[&str]) -> Outcome {
    let stage = context.stage;
    let times = if context.quick { 10 } else { 20 };
    let starts = || {
        let topics: Vec<_> = (0..10).map(topic).collect();
        let samples = stage.lane(0);
        for sample in &mut samples[..times] {
            let start = ticks();
            let mut command = Command::new(&program);
            let status = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(status.is_ok_and(|status| status.success()), "{program:?} failed");
            *sample = ticks() - start;
        }
        for topic in topics {
            topic.remove().expect("removed");
        }
    };
    context.play(vec![role(context.cores[0], starts)])?;
    let recorded = &stage.recorded(0)[..times];
    let mut took: Vec<f64> = recorded.iter().map(|&t| ns(t)).collect();
    let times = summary(&mut took).ok_or("nothing was started")?;
    Ok(vec![("p50", times.p50), ("p99", times.p99)])
}

fn topic(number: u32) -> Publisher<[u8]> {
    let publisher = Publisher::<[u8]>::options().domain(DOMAIN).open(&format!("topic{number}"));
    publisher.expect("a publisher")
}
