//! Flows of any shape.

use std::path::PathBuf;

use super::{Tape, ms};
use crate::flow::model::{Alive, Check, Condition, Node, Policy, Ready, Restart, Stop, Then, Wait};
use crate::flow::plan::{Plan, StopKind, StopTask, Task, TaskId, TaskKind};

pub(super) fn plan(tape: &mut Tape) -> Plan {
    let tasks: Vec<_> = (0..1 + tape.pick(7) as usize)
        .map(|index| Task {
            kind: match tape.pick(6) {
                5 if index > 0 => TaskKind::Wait(wait(tape, index)),
                4 => TaskKind::Run(node(tape, index)),
                _ => TaskKind::Node(node(tape, index)),
            },
            needs: some_below(tape, index).into_iter().map(TaskId).collect(),
        })
        .collect();
    let mut stops = Vec::new();
    for index in (0..tasks.len()).rev().filter(|index| matches!(tasks[*index].kind, TaskKind::Node(_))) {
        if tape.one_in(6) {
            let after = some_below(tape, stops.len());
            stops.push(StopTask { kind: StopKind::Wait(ms(tape.of(&[0, 10, 100, 1000]))), after });
        }
        let after = some_below(tape, stops.len());
        stops.push(StopTask { kind: StopKind::Node(TaskId(index)), after });
    }
    Plan { name: "random".into(), tasks, stops }
}

fn some_below(tape: &mut Tape, end: usize) -> Vec<usize> {
    (0..end).filter(|_| tape.one_in(3)).collect()
}

fn node(tape: &mut Tape, index: usize) -> Node {
    let check = match tape.pick(8) {
        3 => Some(Check::Topic { topic: "t".into(), hz: Some(20.0) }),
        4 => Some(Check::Log("up".into())),
        5 => Some(Check::Exec("true".into())),
        6 => Some(Check::Notify),
        7 => Some(Check::File(PathBuf::from("/f"))),
        _ => None,
    };
    let within = ms(tape.of(&[50, 500, 0]));
    let alive = match tape.pick(6) {
        3 => Some(Alive::Topic { topic: "t".into(), within }),
        4 => Some(Alive::Notify { within }),
        5 => Some(Alive::Exec { command: "true".into(), every: ms(tape.of(&[200, 1000, 0])), timeout: within }),
        _ => None,
    };
    Node {
        name: format!("t{index}"),
        program: "p".into(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        ready: check.map(|check| Ready { check, timeout: ms(tape.of(&[1000, 50, 0])) }),
        alive,
        restart: Restart {
            policy: tape.of(&[Policy::Never, Policy::OnFailure, Policy::Always]),
            backoff: (ms(tape.of(&[10, 0, 100])), ms(tape.of(&[100, 0, 1000]))),
            max: tape.of(&[2, 0, 1, 5]),
            window: ms(tape.of(&[1000, 10, 10_000])),
            then: tape.of(&[Then::StopFlow, Then::Ignore]),
        },
        stop: Stop {
            signal: tape.of(&[libc::SIGINT, libc::SIGTERM, libc::SIGKILL]),
            timeout: ms(tape.of(&[100, 0, 1000])),
        },
        cpu: Vec::new(),
        needs: None,
    }
}

fn wait(tape: &mut Tape, index: usize) -> Wait {
    let conditions = (0..tape.pick(3))
        .map(|_| match tape.pick(5) {
            0 => Condition::Time(ms(tape.of(&[0, 20, 200]))),
            1 => Condition::Topic("t".into()),
            2 => Condition::File(PathBuf::from("/f")),
            3 => Condition::NodeReady(format!("t{}", tape.pick(index as u64))),
            _ => Condition::NodeExited(format!("t{}", tape.pick(index as u64))),
        })
        .collect();
    Wait { conditions, timeout: ms(tape.of(&[10_000, 100, 0])) }
}
