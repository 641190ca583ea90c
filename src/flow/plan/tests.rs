use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::flow::file;
use crate::flow::model::{Flow, Step, StopStep};

fn plan(text: &str) -> Plan {
    let mut include = |_: &std::path::Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    let read = file::read(std::path::Path::new("f.flow.yaml"), text, &mut include, &[]);
    read.unwrap_or_else(|problems| panic!("{problems}")).plan
}

/// Each task and what it needs.
fn tasks(plan: &Plan) -> Vec<String> {
    let labels = |ids: &[TaskId]| ids.iter().map(|id| plan.label(*id)).collect::<Vec<_>>().join(" ");
    let tasks = plan.tasks.iter().enumerate();
    tasks.map(|(id, task)| format!("{}: {}", plan.label(TaskId(id)), labels(&task.needs)).trim_end().into()).collect()
}

fn stop_name(plan: &Plan, stop: usize) -> String {
    match plan.stops[stop].kind {
        StopKind::Node(id) => plan.label(id),
        StopKind::Wait(time) => format!("{time:?}"),
    }
}

fn stops(plan: &Plan) -> Vec<String> {
    let after = |stop: &StopTask| stop.after.iter().map(|it| stop_name(plan, *it)).collect::<Vec<_>>().join(" ");
    let stops = plan.stops.iter().enumerate();
    stops.map(|(id, stop)| format!("{}: {}", stop_name(plan, id), after(stop)).trim_end().into()).collect()
}

#[test]
fn a_step_needs_the_step_before_it_and_nothing_within_a_group() {
    let plan = plan("startup: [a, group: [b, c], wait: 1s, d]");
    assert_eq!(tasks(&plan), ["a:", "b: a", "c: a", "wait 1s: b c", "d: wait 1s"]);
    assert_eq!(stops(&plan), ["d:", "c: d", "b: d", "a: c b"], "through the wait, too");
}

#[test]
fn needs_replace_the_step_before_and_may_name_what_comes_later_in_the_file() {
    let plan = plan("startup: [a, { name: b, needs: [d] }, { name: c, needs: [] }, { name: d, needs: [a] }]");
    assert_eq!(tasks(&plan), ["a:", "c:", "d: a", "b: d"]);
    assert_eq!(stops(&plan), ["b:", "d: b", "c:", "a: d"]);
}

#[test]
fn waiting_for_a_node_is_needing_it() {
    let plan = plan("startup: [a, { name: b, needs: [] }, wait: 'node:a=ready', c]");
    assert_eq!(tasks(&plan), ["a:", "b:", "wait node:a=ready: a b", "c: wait node:a=ready"]);
}

#[test]
fn a_shutdown_goes_as_it_is_listed_and_what_is_not_listed_stops_last_in_reverse() {
    let plan = plan("startup: [a, b, c, d]\nshutdown: [a, wait: 100ms, group: [d, c]]");
    let expected = ["a:", "100ms: a", "d: 100ms", "c: 100ms", "b: d c"];
    assert_eq!(stops(&plan), expected);
}

#[test]
fn a_shutdown_is_bounded_by_its_critical_path() {
    // Each takes its timeout twice: to SIGTERM and to SIGKILL.
    let stop = |timeout: &str| format!("stop: {{ timeout: {timeout} }}");
    let text = format!(
        "startup: [{{ name: a, {} }}, group: [{{ name: b, {} }}, {{ name: c, {} }}]]",
        stop("1s"),
        stop("2s"),
        stop("3s")
    );
    assert_eq!(plan(&text).shutdown_bound(), Duration::from_secs(8));
}

#[test]
fn a_timeline_has_the_earliest_start_and_the_latest_end() {
    let plan = plan("startup: [{ name: a, ready: { notify: true, timeout: 5s } }, wait: 2s, b, wait: topic:t, run: c]");
    let timeline = plan.timeline();
    let seconds = |time: Duration| time.as_secs();
    let times: Vec<_> = timeline.entries.iter().map(|it| (seconds(it.start), it.deadline.map(seconds))).collect();
    assert_eq!(times, [(0, Some(5)), (0, Some(7)), (2, Some(7)), (2, Some(37)), (2, None)]);
    assert_eq!((timeline.up, timeline.deadline), (Duration::from_secs(2), None));
}

#[test]
fn pictures_show_each_task_and_each_need() {
    let plan = plan("startup: [a, 'wait': 'file:a\"b', run: c]");
    assert_eq!(
        plan.mermaid(),
        "flowchart TD\n    t0[\"a\"]\n    t1([\"wait file:a#34;b\"])\n    t2[[\"run c\"]]\n    t0 --> t1\n    t1 --> t2\n"
    );
    assert_eq!(
        plan.dot(),
        "digraph \"f\" {\n    t0 [label=\"a\", shape=box];\n    t1 [label=\"wait file:a\\\"b\", shape=ellipse];\n    \
         t2 [label=\"run c\", shape=cds];\n    t0 -> t1;\n    t1 -> t2;\n}\n"
    );
    let text = plan.text();
    assert!(text.contains("after wait 2"), "{text}");
    assert!(text.contains("at most 20s"), "{text}");
}

#[test]
fn what_is_no_plan_is_told_by_its_part() {
    let node = |flow: &str| match plan(flow).tasks.remove(0).kind {
        TaskKind::Node(node) => node,
        other => panic!("{other:?}"),
    };
    let (mut a, b) = (node("startup: [alpha]"), node("startup: [beta]"));
    a.needs = Some(vec!["beto".into(), "alpha".into()]);
    let flow = Flow {
        name: "f".into(),
        startup: vec![Step::Node(a.clone()), Step::Node(b), Step::Group(vec![])],
        shutdown: Some(vec![StopStep::Node("alpha".into()), StopStep::Group(vec!["alpha".into()])]),
    };
    let faults = Plan::new(&flow).expect_err("it is wrong");
    let reason = |at| faults.iter().find(|fault| fault.at == at).map(|fault| fault.reason.clone());
    let unknown = Reason::Unknown { name: "beto".into(), meant: Some("beta".into()) };
    assert_eq!(reason(At::Need(0, 0, 0)), Some(unknown));
    assert_eq!(reason(At::Step(2)), Some(Reason::Empty));
    assert_eq!(reason(At::StopNode(1, 0)), Some(Reason::Twice { name: "alpha".into() }));
    a.needs = Some(vec!["alpha".into()]);
    let flow = Flow { name: "f".into(), startup: vec![Step::Node(a)], shutdown: None };
    let circle = Reason::Circle { path: vec!["alpha".into(), "alpha".into()] };
    assert_eq!(Plan::new(&flow), Err(vec![Fault { at: At::Node(0, 0), reason: circle }]));
}

/// Steps of a flow: nodes with what they need of those that are less, groups, and waits.
fn text_of(steps: &[(u8, Vec<usize>)], listed: &[usize]) -> String {
    let mut text = String::from("startup:\n");
    for (at, (kind, needs)) in steps.iter().enumerate() {
        let needs: Vec<String> = needs.iter().filter(|_| at > 0).map(|need| format!("n{}", need % at.max(1))).collect();
        text += &match kind % 4 {
            0 => format!("  - n{at}\n"),
            1 => format!("  - {{ name: n{at}, needs: [{}] }}\n", needs.join(", ")),
            2 => format!("  - group: [n{at}, m{at}]\n"),
            _ => format!("  - wait: 1s\n  - n{at}\n"),
        };
    }
    let mut seen = std::collections::BTreeSet::new();
    let listed: Vec<String> = listed
        .iter()
        .map(|node| node % steps.len())
        .filter(|node| seen.insert(*node))
        .map(|node| format!("n{node}"))
        .collect();
    if listed.is_empty() { text } else { text + &format!("shutdown: [{}]\n", listed.join(", ")) }
}

proptest! {
    #[test]
    fn each_task_is_behind_its_needs_and_each_node_stops_once_behind_all_that_need_it(
        steps in prop::collection::vec((any::<u8>(), prop::collection::vec(0usize..40, 0..4)), 1..30),
        listed in prop::collection::vec(0usize..40, 0..6),
    ) {
        let plan = plan(&text_of(&steps, &listed));
        let mut stop_of = vec![None; plan.tasks.len()];
        for (at, stop) in plan.stops.iter().enumerate() {
            prop_assert!(stop.after.iter().all(|after| *after < at));
            if let StopKind::Node(TaskId(id)) = stop.kind {
                prop_assert_eq!(stop_of[id].replace(at), None, "stops twice");
            }
        }
        // Those that a task is needed by, with those of waits in between.
        let mut reached: Vec<std::collections::BTreeSet<usize>> = vec![Default::default(); plan.stops.len()];
        for (at, stop) in plan.stops.iter().enumerate() {
            for after in &stop.after {
                let more = reached[*after].clone();
                reached[at].extend(more);
                reached[at].insert(*after);
            }
        }
        for (id, task) in plan.tasks.iter().enumerate() {
            prop_assert!(task.needs.iter().all(|need| need.0 < id));
            let is_process = !matches!(task.kind, TaskKind::Wait(_));
            prop_assert_eq!(stop_of[id].is_some(), is_process);
            // Only what nobody listed is in reverse.
            if !is_process || !listed.is_empty() {
                continue;
            }
            let mut open: Vec<TaskId> = task.needs.clone();
            while let Some(need) = open.pop() {
                match stop_of[need.0] {
                    Some(stop) => prop_assert!(reached[stop].contains(&stop_of[id].unwrap())),
                    None => open.extend(&plan.tasks[need.0].needs),
                }
            }
        }
        let timeline = plan.timeline();
        prop_assert!(timeline.entries.iter().all(|entry| entry.deadline.is_none_or(|deadline| deadline >= entry.start)));
    }
}
