//! Calls that tasks wait for, in async code of any runtime: nobody sleeps for them. What comes is received by a thread that waits for
//! something itself, or else by the reactor's.

use std::sync::Arc;
use std::task::Waker;

use super::codec::FOREVER;
use super::engine::{Engine, State, Want};
use super::table::Step;
use crate::std::futex;
use crate::std::link::reactor;
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
            reactor::wake_at(due, self.keys[1], &self.waker);
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
                reactor::wake_at(0, self.keys[2], &self.waker);
                let mut state = self.state();
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

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::task::Poll;
    use std::thread;
    use std::time::Duration;

    use crate::std::link::calls::{Caller, Options, Request, Service};
    use crate::std::link::{Link, reactor};

    const DAY: Duration = Duration::from_secs(86_400);

    fn ends(window: u32) -> (Service, Caller) {
        let address = format!("@conduit-tasks-{}-{window}", std::process::id());
        let options = || Link::options().size(1 << 20);
        let mut listener = options().listen(&address).unwrap();
        let connecting = thread::spawn(move || options().connect(&address).unwrap());
        let service = listener.accept().unwrap().serve(|request: &mut Request<'_>| {
            while request.is_stream() {
                request.send(b"x")?;
            }
            Ok(Vec::new())
        });
        (service.unwrap(), Options::default().window(window).caller(connecting.join().unwrap()))
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    /// Links of other tests have a few of their own.
    const OTHERS: usize = 1000;

    #[test]
    fn a_busy_stream_whose_time_is_far_away_leaves_no_timers_behind() {
        let (_service, caller) = ends(1 << 20);
        let mut stream = caller.stream("", b"", DAY).unwrap();
        let before = reactor::timers();
        run(async {
            for _ in 0..500_000 {
                stream.next_part().await.unwrap().unwrap();
            }
        });
        let left = reactor::timers();
        assert!(left < before + OTHERS, "{left} timers, {before} before");
    }

    #[test]
    fn calls_of_any_times_leave_no_timers_behind() {
        let (_service, caller) = ends(1 << 16);
        let before = reactor::timers();
        let count = 5000u32;
        run(async {
            for number in 0..count {
                // Earlier and earlier, so that each is the next one to be over.
                let mut call = caller.start("", b"", DAY - Duration::from_secs(number.into())).unwrap();
                let mut first = std::pin::pin!(&mut call);
                poll_fn(|context| {
                    let _ = first.as_mut().poll(context);
                    Poll::Ready(())
                })
                .await;
                drop(call);
            }
        });
        let left = reactor::timers();
        assert!(left < before + OTHERS, "{left} timers, {before} before");
    }

    #[test]
    fn a_task_is_woken_when_its_time_is_over_though_another_one_has_longer() {
        let (_service, caller) = ends(1 << 17);
        let _long = caller.stream("", b"", DAY).unwrap();
        let mut short = caller.stream("", b"", Duration::from_millis(20)).unwrap();
        let error = run(async {
            loop {
                if let Err(error) = short.next_part().await.unwrap() {
                    return error;
                }
            }
        });
        assert_eq!(error, crate::std::link::calls::CallError::DeadlinePassed);
    }
}
