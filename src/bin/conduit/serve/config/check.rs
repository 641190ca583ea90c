//! Values that are possible by themselves, but not together, or not on this machine.

use std::net::IpAddr;
use std::path::Path;

use conduit::yaml::quantity::show_size as size;
use conduit::yaml::{Fault, Place, Problem};

use super::kinds::{Words, listed};
use super::{Loaded, QueueKind};

/// What a machine has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// The CPUs that this process may run on.
    pub cpus: Vec<usize>,
    /// The nodes that have memory of their own.
    pub nodes: Vec<u32>,
}

impl Machine {
    /// This one. What the kernel does not tell is as on the simplest machine: one node, all CPUs.
    pub fn this() -> Self {
        let cpus = rustix::thread::sched_getaffinity(None).map_or_else(
            |_| (0..rustix::thread::CpuSet::MAX_CPU).collect(),
            |set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        );
        let nodes = std::fs::read_to_string(Path::new("/sys/devices/system/node/online"));
        Machine { cpus, nodes: nodes.ok().and_then(|text| ranges(&text)).unwrap_or_else(|| vec![0]) }
    }

    /// The CPUs of a node; none if the kernel does not tell.
    pub fn cpus_of(node: u32) -> Vec<usize> {
        let list = std::fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist"));
        let cpus = list.ok().and_then(|text| ranges(&text)).unwrap_or_default();
        cpus.into_iter().map(|cpu| cpu as usize).collect()
    }
}

/// Reads `0-1,4`, as the kernel writes it.
fn ranges(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        numbers.extend(first..=last.min(4095));
    }
    Some(numbers)
}

/// All that does not fit.
pub fn together(loaded: &Loaded, machine: &Machine) -> Vec<Problem> {
    let mut checks = Checks { loaded, problems: Vec::new() };
    checks.server();
    checks.queues();
    checks.workers(machine);
    checks.thresholds();
    checks.problems
}

struct Checks<'a> {
    loaded: &'a Loaded,
    problems: Vec<Problem>,
}

impl Checks<'_> {
    fn wrong(&mut self, key: &str, reason: String) {
        let place = self.loaded.place(key).clone();
        self.problems.push(Problem { place, key: key.into(), fault: Fault::Conflict(reason) });
    }

    /// The one of two keys that is to be blamed: the second, unless only the first was written by somebody.
    fn blamed<'k>(&self, one: &'k str, other: &'k str) -> (&'k str, &'k str) {
        if *self.loaded.place(other) == Place::Default && *self.loaded.place(one) != Place::Default {
            (one, other)
        } else {
            (other, one)
        }
    }

    /// Where the value of `key` was said, for a sentence about another.
    fn said(&self, key: &str) -> String {
        match self.loaded.place(key) {
            Place::Default => "by default".into(),
            place => place.to_string(),
        }
    }

    fn server(&mut self) {
        let (server, metrics) = (&self.loaded.config.server, &self.loaded.config.metrics);
        if server.tcp_port.is_none() && server.udp_port.is_none() {
            self.wrong("server.udp_port", "it is off, and server.tcp_port is: events need a way in".into());
        }
        if server.token.is_some() && server.token_file.is_some() {
            let said = self.said("server.token");
            self.wrong("server.token_file", format!("there is a server.token ({said}), too: remove one"));
        }
        if !server.bind.is_loopback() && server.token.is_none() && server.token_file.is_none() {
            let reason = format!(
                "anybody who reaches {} could send: set server.token_file or server.token, or bind 127.0.0.1",
                server.bind
            );
            self.wrong("server.bind", reason);
        }
        if let (Some(port), Some(other)) = (server.tcp_port, metrics.port) {
            if port == other && port != 0 && overlap(server.bind, metrics.bind) {
                let (key, other) = self.blamed("server.tcp_port", "metrics.port");
                let said = self.said(other);
                self.wrong(key, format!("{port} is the port of {other} ({said}), too"));
            }
        }
        let (memory, frame) = (self.loaded.config.memory, server.max_frame);
        if memory / 4 < frame {
            let (key, other) = self.blamed("server.max_frame", "memory");
            let reason = format!(
                "memory ({}) has no room for four frames of server.max_frame ({}), set {}",
                size(memory),
                size(frame),
                self.said(other)
            );
            self.wrong(key, reason);
        }
    }

    fn queues(&mut self) {
        let queues = &self.loaded.config.queues;
        for (key, queue, fits, why) in [
            ("queues.realtime.type", &queues.realtime, QueueKind::Spsc, "one dispatcher pushes to it"),
            ("queues.transactional.type", &queues.transactional, QueueKind::Mpsc, "several threads push to it"),
            ("queues.batch.type", &queues.batch, QueueKind::Mpsc, "several threads push to it"),
        ] {
            if queue.kind != fits {
                let (found, fits) = (queue.kind.word(), fits.word());
                self.wrong(key, format!("this lane is {fits} ({why}) and cannot be {found}"));
            }
        }
    }

    fn workers(&mut self, machine: &Machine) {
        let (workers, numa) = (&self.loaded.config.workers, &self.loaded.config.numa);
        let cpus = &workers.cpu_affinity;
        if cpus.len() > workers.count {
            let (key, other) = self.blamed("workers.count", "workers.cpu_affinity");
            let said = self.said(other);
            let reason = format!(
                "workers.cpu_affinity has {} CPUs for a workers.count of {} ({other}: {said})",
                cpus.len(),
                workers.count
            );
            self.wrong(key, reason);
        }
        if numa.enabled && !machine.nodes.contains(&numa.node) {
            let nodes = listed(&machine.nodes);
            self.wrong("numa.node", format!("there is no node {}; the nodes are {nodes}", numa.node));
        }
        let retries = &workers.retries;
        if retries.backoff > retries.max_backoff {
            let (key, other) = self.blamed("workers.retries.backoff", "workers.retries.max_backoff");
            let said = self.said(other);
            self.wrong(key, format!("backoff is more than max_backoff ({other}: {said})"));
        }
    }

    fn thresholds(&mut self) {
        let thresholds = &self.loaded.config.backpressure;
        let rising = [
            ("backpressure.pause_threshold", thresholds.paused),
            ("backpressure.drain_threshold", thresholds.draining),
            ("backpressure.drop_threshold", thresholds.dropping),
            ("backpressure.emergency_threshold", thresholds.emergency),
        ];
        let fraction = |percent: u8| f64::from(percent) / 100.0;
        if thresholds.paused <= thresholds.hysteresis {
            let reason =
                format!("a state ends {} below where it begins: expected more", fraction(thresholds.hysteresis));
            self.wrong(rising[0].0, reason);
        }
        for pair in rising.windows(2) {
            let [(lower, low), (upper, high)] = pair else { continue };
            if low >= high {
                let (key, other) = self.blamed(lower, upper);
                let (is, value) = if key == *upper { ("above", *low) } else { ("below", *high) };
                let said = self.said(other);
                self.wrong(key, format!("expected it to be {is} {other}, which is {} ({said})", fraction(value)));
            }
        }
    }
}

fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other || one.is_unspecified() || other.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_of_nodes_is_read() {
        assert_eq!(ranges("0\n"), Some(vec![0]));
        assert_eq!(ranges("0-1,4\n"), Some(vec![0, 1, 4]));
        assert_eq!(ranges(""), None);
        assert!(Machine::this().nodes.contains(&0) && !Machine::this().cpus.is_empty());
    }
}
