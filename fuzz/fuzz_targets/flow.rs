//! Any text as a flow's file that may include itself and others: a plan or what is wrong with it. In a plan each task is behind
//! what it needs, and each node is stopped once.
#![no_main]

use std::io;
use std::path::Path;

use conduit::flow::file::read;
use conduit::flow::plan::{StopKind, TaskKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    // Files behind each other, with a zero between; their names are their places.
    let parts: Vec<&str> = text.split('\0').collect();
    let mut include = |path: &Path| {
        let part = path.to_str().and_then(|path| path.parse().ok()).and_then(|part: usize| parts.get(part));
        part.map(|part| part.to_string()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let plan = match read(Path::new("0"), parts[0], &mut include, &[]) {
        Ok(read) => read.plan,
        Err(problems) => {
            assert!(!problems.0.is_empty() && !problems.to_string().is_empty());
            return;
        }
    };
    for (id, task) in plan.tasks.iter().enumerate() {
        assert!(task.needs.iter().all(|need| need.0 < id));
    }
    let mut stopped = vec![0; plan.tasks.len()];
    for (id, stop) in plan.stops.iter().enumerate() {
        assert!(stop.after.iter().all(|after| *after < id));
        if let StopKind::Node(task) = stop.kind {
            stopped[task.0] += 1;
        }
    }
    for (task, stops) in plan.tasks.iter().zip(stopped) {
        assert_eq!(stops, usize::from(!matches!(task.kind, TaskKind::Wait(_))));
    }
    let _ = (plan.text(), plan.mermaid(), plan.dot(), plan.dry_run());
});
