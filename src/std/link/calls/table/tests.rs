use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const OWN: u64 = 11;
const WINDOW: u32 = 200;

fn table() -> Table {
    let mut table = Table::new(OWN, 22, 4);
    table.serve(3, 100);
    table
}

fn say(table: &mut Table, id: u64, body: Body<'_>, now: u64) -> String {
    let bytes = Message { to: OWN, id, body }.to_bytes();
    format!("{:?}", table.take_in(&bytes, now).unwrap())
}

fn request(remaining: u64, window: u32, payload: &[u8]) -> Body<'_> {
    Body::Request { remaining, window, method: "m", payload }
}

/// A part of an answer, or how the call has ended.
type ToCome = Result<Vec<u8>, Result<Vec<u8>, CallError>>;

/// What is known of a call of this end, as a list of what is to come of it.
#[derive(Debug)]
struct Call {
    deadline: u64,
    window: u64,
    /// Bytes granted, and come.
    granted: u64,
    come: u64,
    taken: u64,
    to_come: Vec<ToCome>,
    has_end: bool,
}

/// Calls of this end, each with what is to come of it.
#[derive(Debug, Default)]
struct Model {
    calls: BTreeMap<u64, Call>,
    strays: u64,
    overruns: u64,
    closed: bool,
}

impl Model {
    fn end(&mut self, id: u64, outcome: Result<Vec<u8>, CallError>) -> bool {
        match self.calls.get_mut(&id).filter(|call| !call.has_end) {
            Some(call) => {
                call.to_come.push(Err(outcome));
                call.has_end = true;
                true
            }
            None => false,
        }
    }

    fn end_all(&mut self, error: &CallError) {
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            self.end(id, Err(error.clone()));
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Begin { stream: bool, patience: u64 },
    Answer(u64),
    Part(u64, usize),
    Fail(u64),
    Step(u64),
    Abandon(u64),
    Wait(u64),
    Replace,
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let id = || 1..12u64;
    prop_oneof![
        5 => (any::<bool>(), 1..100u64).prop_map(|(stream, patience)| Op::Begin { stream, patience }),
        4 => id().prop_map(Op::Answer),
        8 => (id(), 0..150usize).prop_map(|(id, len)| Op::Part(id, len)),
        2 => id().prop_map(Op::Fail),
        10 => id().prop_map(Op::Step),
        1 => id().prop_map(Op::Abandon),
        2 => (0..30u64).prop_map(Op::Wait),
        1 => Just(Op::Replace),
        1 => prop::bool::weighted(0.1).prop_map(|closes| if closes { Op::Close } else { Op::Wait(1) }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Each call has the parts that came for it, in order, then one end, and nothing else; and each is counted once.
    #[test]
    fn calls_have_what_was_said_of_them_and_one_end(ops in proptest::collection::vec(op(), 0..120)) {
        let (mut table, mut model) = (table(), Model::default());
        let (mut now, mut begun, mut peer) = (0, 0, 22);
        for op in ops {
            match op {
                Op::Begin { stream, patience } => {
                    let window = if stream { WINDOW } else { 0 };
                    match table.begin(now + patience, window) {
                        Ok((id, to)) => {
                            prop_assert!(model.calls.len() < 4 && !model.closed && to == peer && id > begun);
                            begun = id;
                            let window = u64::from(window);
                            let call = Call {
                                deadline: now + patience,
                                window, granted: window, come: 0, taken: 0, to_come: Vec::new(), has_end: false,
                            };
                            model.calls.insert(id, call);
                        }
                        Err(CallError::TooMany { max: 4 }) => prop_assert_eq!(model.calls.len(), 4),
                        Err(error) => prop_assert!(model.closed && error == CallError::Closed(Ending::Lost)),
                    }
                }
                Op::Answer(id) => {
                    say(&mut table, id, Body::Answer(b"yes"), now);
                    model.strays += u64::from(!model.end(id, Ok(b"yes".to_vec())));
                }
                Op::Fail(id) => {
                    say(&mut table, id, Body::Failed { reason: Reason::Busy, code: 0, text: "" }, now);
                    model.strays += u64::from(!model.end(id, Err(CallError::Busy)));
                }
                Op::Part(id, len) => {
                    say(&mut table, id, Body::Part(&vec![len as u8; len]), now);
                    match model.calls.get_mut(&id).filter(|call| !call.has_end) {
                        None => model.strays += 1,
                        Some(call) if call.come < call.granted => {
                            call.come += len as u64 + OVERHEAD;
                            call.to_come.push(Ok(vec![len as u8; len]));
                        }
                        Some(_) => {
                            model.overruns += 1;
                            model.end(id, Err(CallError::Overrun));
                        }
                    }
                }
                Op::Step(id) => {
                    let Some(call) = model.calls.get_mut(&id) else { continue };
                    let step = table.step(id, now);
                    if call.to_come.is_empty() {
                        if now >= call.deadline {
                            prop_assert_eq!(step, Some(Step::Overdue));
                            model.calls.remove(&id);
                        } else {
                            prop_assert_eq!(step, None);
                        }
                        continue;
                    }
                    match (call.to_come.remove(0), step) {
                        (Ok(part), Some(Step::Part(given, grant))) => {
                            prop_assert_eq!(&part, &given);
                            call.taken += part.len() as u64 + OVERHEAD;
                            if let Some(grant) = grant {
                                prop_assert!(!call.has_end && call.taken >= call.window / 2);
                                prop_assert_eq!(u64::from(grant), call.taken);
                                call.granted += call.taken;
                                call.taken = 0;
                            } else {
                                prop_assert!(call.has_end || call.taken < call.window, "a stream that stands still");
                            }
                        }
                        (Err(outcome), Some(Step::End(given))) => {
                            prop_assert_eq!(outcome, given);
                            model.calls.remove(&id);
                        }
                        (expected, given) => prop_assert!(false, "{expected:?} and {given:?}"),
                    }
                }
                Op::Abandon(id) => {
                    let tells = table.abandon(id);
                    let call = model.calls.remove(&id);
                    prop_assert_eq!(tells, call.is_some_and(|call| !call.has_end));
                }
                Op::Wait(time) => now += time,
                Op::Replace => {
                    peer += 1;
                    table.replace(peer);
                    model.end_all(&CallError::PeerReplaced);
                }
                Op::Close => {
                    table.close(CallError::Closed(Ending::Lost));
                    model.end_all(&CallError::Closed(Ending::Lost));
                    model.closed = true;
                }
            }
            let counts = *table.counts();
            let ended =
                counts.answered + counts.failed + counts.overdue + counts.cancelled + counts.replaced;
            prop_assert_eq!((counts.calling, counts.strays, counts.overruns),
                (model.calls.len(), model.strays, model.overruns));
            prop_assert_eq!(counts.called, ended + counts.calling as u64);
            // What waits for whoever does not take it is bounded.
            for ours in table.ours.values() {
                let bytes: usize = ours.parts.iter().map(Vec::len).sum();
                prop_assert!(bytes <= WINDOW as usize + 150, "{bytes}");
            }
        }
    }

    /// Whatever a stranger says, in whatever order, is answered, counted or acted on; what is kept of it is bounded.
    #[test]
    fn anything_a_peer_says_is_bounded(
        said in proptest::collection::vec((0..7u8, 0..6u64, any::<u32>(), 0..60usize, any::<bool>()), 0..200),
    ) {
        let mut table = table();
        let (mut live, mut served, mut refused) = (Vec::<(Served, bool, u64)>::new(), 0, 0);
        for (now, (kind, id, number, len, is_ours)) in said.into_iter().enumerate() {
            let now = now as u64;
            let payload = vec![0; len];
            let remaining = u64::from(number % 50);
            let body = match kind {
                0 => Body::Request { remaining, window: number, method: "m", payload: &payload },
                1 => Body::Answer(&payload),
                2 => Body::Part(&payload),
                3 => Body::Failed { reason: Reason::Failed, code: number, text: "no" },
                4 => Body::Cancel,
                5 => Body::Grant { bytes: number },
                _ => {
                    // One is worked off.
                    if let Some((served, is_cancelled, deadline)) = live.pop() {
                        let goes = table.finish(served, now).is_some();
                        prop_assert_eq!(goes, !is_cancelled && now < deadline);
                    }
                    continue;
                }
            };
            let bytes = Message { to: if is_ours { OWN } else { OWN + 1 }, id, body }.to_bytes();
            match table.take_in(&bytes, now).unwrap() {
                Effect::Request { served: key, deadline, .. } => {
                    prop_assert!(is_ours && live.iter().all(|(other, ..)| *other != key), "one call twice");
                    served += 1;
                    live.push((key, false, deadline));
                }
                Effect::Refuse { reason, .. } => {
                    prop_assert!(is_ours && reason == Reason::Busy);
                    refused += 1;
                }
                Effect::Theirs(key) => {
                    if let Some((_, is_cancelled, _)) = live.iter_mut().find(|(other, ..)| *other == key) {
                        *is_cancelled |= kind == 4;
                    }
                }
                Effect::Ours(_) => prop_assert!(false, "nothing was called"),
                Effect::Nothing => {}
            }
            prop_assert!(table.theirs.len() == live.len() && live.len() <= 3);
            prop_assert!(table.bytes <= 100);
        }
        let counts = *table.counts();
        prop_assert_eq!((counts.served, counts.refused), (served, refused));
    }
}

#[test]
fn a_request_is_worked_on_once_and_told_how_long() {
    let mut table = table();
    let said = say(&mut table, 5, request(30, 0, b"p"), 100);
    assert!(said.contains("deadline: 130") && said.contains(r#"method: "m""#), "{said}");
    assert_eq!(say(&mut table, 5, request(30, 0, b"p"), 100), "Nothing");
    assert_eq!(table.counts().reused, 1);
    let served = Served { era: 0, id: 5 };
    assert_eq!(table.check(served, 129), Ok(()));
    assert_eq!(table.check(served, 130), Err(Stopped::DeadlinePassed));
    assert_eq!(table.finish(served, 129), Some(22));
    assert_eq!(table.finish(served, 129), None, "answered once");
}

#[test]
fn there_are_no_more_of_the_others_calls_than_there_is_room_for() {
    let mut table = table();
    for id in 0..3 {
        assert!(say(&mut table, id, request(FOREVER, 0, b"p"), 0).starts_with("Request"));
    }
    assert_eq!(say(&mut table, 3, request(FOREVER, 0, b"p"), 0), "Refuse { id: 3, reason: Busy }");
    table.finish(Served { era: 0, id: 1 }, 0);
    assert_eq!(say(&mut table, 4, request(FOREVER, 0, &[0; 99]), 0), "Refuse { id: 4, reason: Busy }", "too long");
    table.finish(Served { era: 0, id: 0 }, 0);
    table.finish(Served { era: 0, id: 2 }, 0);
    assert!(say(&mut table, 5, request(FOREVER, 0, &[0; 500]), 0).starts_with("Request"), "one may always be there");
    table.serve(0, 0);
    assert_eq!(say(&mut table, 6, request(FOREVER, 0, b"p"), 0), "Refuse { id: 6, reason: NoHandler }");
}

#[test]
fn parts_go_as_far_as_they_were_asked_for_and_one_beyond() {
    let mut table = table();
    say(&mut table, 1, request(100, 150, b""), 0);
    let served = Served { era: 0, id: 1 };
    assert_eq!(table.spend(served, 36, 0), Ok(Some(22)));
    assert_eq!(table.spend(served, 1000, 0), Ok(Some(22)), "50 are left, so one goes beyond");
    assert_eq!(table.spend(served, 0, 0), Ok(None));
    say(&mut table, 1, Body::Grant { bytes: 1014 }, 0);
    assert_eq!(table.spend(served, 0, 0), Ok(None), "no more than was taken");
    assert_eq!(say(&mut table, 1, Body::Grant { bytes: 1 }, 0), "Theirs(Served { era: 0, id: 1 })");
    assert_eq!(table.spend(served, 0, 0), Ok(Some(22)));
    assert_eq!(table.spend(served, 0, 100), Err(Stopped::DeadlinePassed));
    say(&mut table, 1, Body::Cancel, 0);
    assert_eq!(table.spend(served, 0, 0), Err(Stopped::Cancelled));
    say(&mut table, 2, request(100, 0, b""), 0);
    assert_eq!(table.spend(Served { era: 0, id: 2 }, 0, 0), Err(Stopped::NotAStream));
}

#[test]
fn what_was_meant_for_another_process_is_not_acted_on() {
    let mut table = table();
    let bytes = Message { to: OWN + 1, id: 1, body: request(FOREVER, 0, b"p") }.to_bytes();
    assert_eq!(table.take_in(&bytes, 0), Ok(Effect::Nothing));
    assert_eq!((table.counts().stale, table.counts().served), (1, 0));
    // And what one peer has asked for is not told to the next one, who may use the same number.
    say(&mut table, 1, request(FOREVER, 0, b"p"), 0);
    let before = Served { era: 0, id: 1 };
    table.replace(33);
    assert!(say(&mut table, 1, request(FOREVER, 0, b"p"), 0).contains("era: 1"));
    assert_eq!(table.check(before, 0), Err(Stopped::Cancelled));
    assert_eq!(table.finish(before, 0), None);
    assert_eq!(table.finish(Served { era: 1, id: 1 }, 0), Some(33));
    assert_eq!((table.counts().dropped, table.counts().serving), (1, 0));
}
