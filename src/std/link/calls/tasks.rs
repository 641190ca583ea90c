//! Calls that tasks wait for, in async code of any runtime: nobody sleeps for them. What comes is received by a thread that waits for
//! something itself, or else by the reactor's.

use std::sync::Arc;
use std::task::Waker;

use super::codec::FOREVER;
use super::engine::{Engine, State, Want};
use super::table::Step;
use crate::std::futex;
use crate::std::link::shared::{For, Look};

impl Engine {
    /// What there is of a call of a task; if there is nothing, the task is woken when there is.
    pub(super) fn poll(self: &Arc<Self>, id: u64, waker: &Waker) -> Option<Step> {
        let mut state = self.state();
        if let Some(step) = state.table.step(id, futex::now()) {
            state.tasks.remove(&id);
            return Some(step);
        }
        state.tasks.insert(id, waker.clone());
        if let Some(due) = state.table.deadline(id).filter(|due| *due < state.alarm) {
            self.set_alarm(&mut state, due);
        }
        let is_led = state.leader.is_some_and(|leader| leader != Want::Tasks);
        drop(state);
        if !is_led {
            self.receive_for_tasks();
        }
        let mut state = self.state();
        let step = state.table.step(id, futex::now())?;
        state.tasks.remove(&id);
        Some(step)
    }

    /// Has this engine woken at a time. Sets it with `state` locked, so that the one that is set is the one that is told.
    fn set_alarm(&self, state: &mut State, due: u64) {
        state.alarm = due;
        if due != FOREVER {
            self.shared.wake_at(due, self.keys[1], &self.waker);
        }
    }

    /// Wakes the tasks whose time is over.
    pub(super) fn expire(&self) {
        let now = futex::now();
        let mut state = self.state();
        if now < state.alarm {
            return;
        }
        let State { tasks, table, .. } = &mut *state;
        let mut next = FOREVER;
        let mut woken = Vec::new();
        tasks.retain(|id, waker| {
            let due = table.deadline(*id).unwrap_or(0);
            if due > now {
                next = next.min(due);
                return true;
            }
            woken.push(waker.clone());
            false
        });
        self.set_alarm(&mut state, next);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Receives what there is for the tasks that wait, and has the reactor do so when there is more.
    pub(super) fn receive_for_tasks(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if state.leader == Some(Want::Tasks) {
                state.again = true;
            }
            if state.leader.is_some() || state.tasks.is_empty() {
                return;
            }
            state.leader = Some(Want::Tasks);
        }
        loop {
            let mut is_all = self.drain(Look::BeforeSleep, |_| true);
            if is_all {
                self.shared.register(For::Messages, self.keys[0], &self.waker);
                // What came before it could be told of: another look.
                is_all = self.drain(Look::BeforeSleep, |_| true);
            }
            if !is_all {
                // Other links have their turn in between.
                let mut state = self.state();
                self.set_alarm(&mut state, 0);
                state.again = false;
                state.leader = None;
                state.have_one_lead();
                return;
            }
            let mut state = self.state();
            if std::mem::take(&mut state.again) && !state.tasks.is_empty() {
                continue;
            }
            state.leader = None;
            state.have_one_lead();
            return;
        }
    }
}
