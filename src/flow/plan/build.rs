//! From steps to tasks.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{At, Fault, Plan, Reason, StopKind, StopTask, Task, TaskId, TaskKind};
use crate::flow::model::{Condition, Flow, Step, StopStep};
use crate::yaml::meant::nearest;

/// Faults for which a suggestion is looked for: who has more has no typing mistakes.
const SUGGESTED: usize = 50;

impl Plan {
    /// The graph of a flow.
    ///
    /// A step needs the step before it: of a group, all of it. A node with [`needs`](crate::flow::model::Node::needs) needs
    /// those instead. What waits for a node needs it, too. Tasks stand in the order of the file as far as their needs let
    /// them.
    ///
    /// A node is stopped after all that need it, directly or through waits; or, if the flow says in which order, in that one,
    /// and those that it does not name after them.
    ///
    /// # Errors
    ///
    /// All that is wrong: names that are not there or there twice, steps with nothing in them, and else one circle.
    pub fn new(flow: &Flow) -> Result<Plan, Vec<Fault>> {
        let mut build = Build::default();
        build.steps(flow);
        build.needs(flow);
        let stops = flow.shutdown.as_ref().map(|steps| build.shutdown(steps));
        if build.faults.is_empty() {
            build.order();
        }
        if !build.faults.is_empty() {
            return Err(build.faults);
        }
        let (tasks, place) = build.tasks();
        let listed = stops.unwrap_or_default();
        let stops = stops_of(&tasks, &place, &listed);
        Ok(Plan { name: flow.name.clone(), tasks, stops })
    }
}

/// A step of the shutdown, by the tasks as they stand in the file.
enum Stopping {
    Nodes(Vec<usize>),
    Wait(std::time::Duration),
}

#[derive(Default)]
struct Build {
    /// In the file's order, as are all indices here.
    kinds: Vec<TaskKind>,
    at: Vec<At>,
    /// The tasks of each step.
    steps: Vec<Vec<usize>>,
    needs: Vec<BTreeSet<usize>>,
    names: HashMap<String, usize>,
    /// Each behind all that it needs.
    order: Vec<usize>,
    faults: Vec<Fault>,
}

impl Build {
    fn fault(&mut self, at: At, reason: Reason) {
        self.faults.push(Fault { at, reason });
    }

    fn steps(&mut self, flow: &Flow) {
        for (index, step) in flow.startup.iter().enumerate() {
            let first = self.kinds.len();
            let kinds: Vec<TaskKind> = match step {
                Step::Node(node) => vec![TaskKind::Node(node.clone())],
                Step::Run(node) => vec![TaskKind::Run(node.clone())],
                Step::Group(nodes) => nodes.iter().cloned().map(TaskKind::Node).collect(),
                Step::Wait(wait) => vec![TaskKind::Wait(wait.clone())],
            };
            let is_empty = kinds.is_empty() || matches!(step, Step::Wait(wait) if wait.conditions.is_empty());
            if is_empty {
                self.fault(At::Step(index), Reason::Empty);
            }
            for (place, kind) in kinds.into_iter().enumerate() {
                let at = if matches!(kind, TaskKind::Wait(_)) { At::Step(index) } else { At::Node(index, place) };
                if let TaskKind::Node(node) | TaskKind::Run(node) = &kind {
                    let name = node.name.clone();
                    if self.names.contains_key(&name) {
                        self.fault(at, Reason::Twice { name });
                    } else {
                        self.names.insert(name, self.kinds.len());
                    }
                }
                self.kinds.push(kind);
                self.at.push(at);
            }
            self.steps.push((first..self.kinds.len()).collect());
        }
    }

    fn find(&mut self, name: &str, at: At) -> Option<usize> {
        let found = self.names.get(name).copied();
        if found.is_none() {
            let known = self.names.keys().map(String::as_str);
            let meant = if self.faults.len() < SUGGESTED { nearest(name, known).map(String::from) } else { None };
            self.fault(at, Reason::Unknown { name: name.into(), meant });
        }
        found
    }

    fn needs(&mut self, flow: &Flow) {
        for (index, step) in flow.startup.iter().enumerate() {
            for (place, task) in self.steps[index].clone().into_iter().enumerate() {
                let said = match &self.kinds[task] {
                    TaskKind::Node(node) | TaskKind::Run(node) => node.needs.clone(),
                    TaskKind::Wait(_) => None,
                };
                let mut needs: BTreeSet<usize> = match (said, index.checked_sub(1)) {
                    (Some(names), _) => {
                        let found = names.iter().enumerate();
                        found.filter_map(|(need, name)| self.find(name, At::Need(index, place, need))).collect()
                    }
                    (None, Some(before)) => self.steps[before].iter().copied().collect(),
                    (None, None) => BTreeSet::new(),
                };
                if let Step::Wait(wait) = step {
                    for (condition, it) in wait.conditions.iter().enumerate() {
                        if let Condition::NodeReady(name) | Condition::NodeExited(name) = it {
                            needs.extend(self.find(name, At::Condition(index, condition)));
                        }
                    }
                }
                self.needs.push(needs);
            }
        }
    }

    fn shutdown(&mut self, steps: &[StopStep]) -> Vec<Stopping> {
        let mut seen = HashSet::new();
        let mut stopping = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let names = match step {
                StopStep::Wait(time) => {
                    stopping.push(Stopping::Wait(*time));
                    continue;
                }
                StopStep::Node(name) => std::slice::from_ref(name),
                StopStep::Group(names) => names,
            };
            if names.is_empty() {
                self.fault(At::Stop(index), Reason::Empty);
            }
            let mut nodes = Vec::new();
            for (place, name) in names.iter().enumerate() {
                let at = At::StopNode(index, place);
                match self.find(name, at) {
                    Some(task) if seen.insert(task) => nodes.push(task),
                    Some(_) => self.fault(at, Reason::Twice { name: name.clone() }),
                    None => {}
                }
            }
            stopping.push(Stopping::Nodes(nodes));
        }
        stopping
    }

    /// Takes again and again the first task of the file that needs nothing more.
    fn order(&mut self) {
        let mut open: Vec<usize> = self.needs.iter().map(BTreeSet::len).collect();
        let mut needed_by = vec![Vec::new(); open.len()];
        for (task, needs) in self.needs.iter().enumerate() {
            needs.iter().for_each(|need| needed_by[*need].push(task));
        }
        let mut free: BTreeSet<usize> = (0..open.len()).filter(|task| open[*task] == 0).collect();
        while let Some(task) = free.pop_first() {
            self.order.push(task);
            for next in &needed_by[task] {
                open[*next] -= 1;
                if open[*next] == 0 {
                    free.insert(*next);
                }
            }
        }
        let Some(mut task) = (0..open.len()).find(|task| open[*task] > 0) else { return };
        // Whatever is left needs something that is left, so this comes back to where it was.
        let mut path = vec![task];
        while let Some(next) = self.needs[task].iter().copied().find(|need| open[*need] > 0) {
            let seen = path.iter().position(|it| *it == next);
            path.push(next);
            task = next;
            if let Some(seen) = seen {
                path.drain(..seen);
                break;
            }
        }
        let names = path.iter().map(|task| self.name(*task)).collect();
        self.fault(self.at[path[0]], Reason::Circle { path: names });
    }

    fn name(&self, task: usize) -> String {
        match (&self.kinds[task], self.at[task]) {
            (TaskKind::Node(node) | TaskKind::Run(node), _) => node.name.clone(),
            (TaskKind::Wait(_), At::Step(step)) => format!("the wait in step {}", step + 1),
            (TaskKind::Wait(_), _) => "a wait".into(),
        }
    }

    /// The tasks in order, and where each of the file's stands among them.
    fn tasks(&mut self) -> (Vec<Task>, Vec<usize>) {
        let mut place = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(to, from)| place[*from] = to);
        let task = |from: &usize| {
            let mut needs: Vec<TaskId> = self.needs[*from].iter().map(|need| TaskId(place[*need])).collect();
            needs.sort();
            Task { kind: self.kinds[*from].clone(), needs }
        };
        (self.order.iter().map(task).collect(), place)
    }
}

/// What is listed first, then the rest in reverse.
fn stops_of(tasks: &[Task], place: &[usize], listed: &[Stopping]) -> Vec<StopTask> {
    let mut stops: Vec<StopTask> = Vec::new();
    let mut before: Vec<usize> = Vec::new();
    let mut stop_of: Vec<Option<usize>> = vec![None; tasks.len()];
    for step in listed {
        let first = stops.len();
        match step {
            Stopping::Wait(time) => stops.push(StopTask { kind: StopKind::Wait(*time), after: before.clone() }),
            Stopping::Nodes(nodes) => {
                for task in nodes.iter().map(|task| place[*task]) {
                    stop_of[task] = Some(stops.len());
                    stops.push(StopTask { kind: StopKind::Node(TaskId(task)), after: before.clone() });
                }
            }
        }
        if stops.len() > first {
            before = (first..stops.len()).collect();
        }
    }
    // What has to be stopped before this task is: whoever needs it, and of a wait whoever needs that.
    let mut users: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); tasks.len()];
    for id in (0..tasks.len()).rev() {
        let is_process = !matches!(tasks[id].kind, TaskKind::Wait(_));
        let listed = stop_of[id].is_some();
        if is_process && !listed {
            stop_of[id] = Some(stops.len());
            let mut after: BTreeSet<usize> = before.iter().copied().collect();
            after.extend(users[id].iter().filter_map(|user| stop_of[*user]));
            stops.push(StopTask { kind: StopKind::Node(TaskId(id)), after: after.into_iter().collect() });
        }
        let passed: BTreeSet<usize> = match is_process {
            true => BTreeSet::from([id]),
            false => std::mem::take(&mut users[id]),
        };
        for need in &tasks[id].needs {
            users[need.0].extend(passed.iter().copied());
        }
    }
    stops
}
