extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::core::frame::{self, Decoded};

const STATUSES: [Status; 11] = [
    Status::Accepted,
    Status::Durable,
    Status::Duplicate,
    Status::Throttled,
    Status::Dropped,
    Status::DeadLettered,
    Status::BadFrame,
    Status::BadTopic,
    Status::TooLarge,
    Status::Unauthorized,
    Status::Expired,
];

fn range() -> impl Strategy<Value = Range> {
    (any::<u64>(), 0..100u64, 0..STATUSES.len(), 0..3u8, any::<u32>(), any::<u32>()).prop_map(
        |(first, more, status, lane, retry_after_ms, credit)| {
            let range = Range::through(first, first.saturating_add(more), STATUSES[status]).unwrap();
            Range { lane, retry_after_ms, credit, ..range }
        },
    )
}

proptest! {
    #[test]
    fn ranges_come_back_as_they_were(ranges in proptest::collection::vec(range(), 0..20)) {
        let mut buffer = vec![0; 32 + 32 * ranges.len()];
        prop_assert_eq!(encode(&ranges, &mut buffer), Ok(buffer.len()));
        prop_assert_eq!(encode(&ranges, &mut buffer[1..]), Err(EncodeError::NoRoom { need: buffer.len() }));
        let Ok(Decoded::Frame { header, body, .. }) = frame::decode(&buffer, 4096) else { panic!("no frame") };
        prop_assert_eq!(decode(&header, body).unwrap().collect::<Vec<_>>(), ranges);
    }

    #[test]
    fn a_body_of_anything_is_ranges_or_a_fault(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        match decode(&Header::new(Kind::Ack), &body) {
            Ok(ranges) => {
                prop_assert_eq!(ranges.clone().count() * 32, body.len());
                prop_assert!(ranges.clone().all(|range| range.first() <= range.last()));
            }
            Err(fault) => prop_assert_eq!(fault, Fault::Body(Kind::Ack)),
        }
        prop_assert_eq!(decode(&Header::new(Kind::Ping), &body).map(drop), Err(Fault::Kind(4)));
    }

    /// Whatever is added, each event's answer is in one range, in order; none is made up.
    #[test]
    fn a_batch_says_of_each_event_what_was_said(answers in proptest::collection::vec((1..40u64, 0..3usize), 0..60)) {
        let mut batch = Batch::<4>::new(Policy::Deferred);
        let (mut said, mut told) = (Vec::new(), Vec::new());
        let tell = |batch: &mut Batch<4>, told: &mut Vec<_>| {
            for range in batch.ranges() {
                told.extend((range.first()..=range.last()).map(|sequence| (sequence, range.status)));
            }
            batch.clear();
        };
        for (sequence, status) in answers {
            let answer = Range::of(sequence, STATUSES[status]);
            if batch.add(answer, 0).is_err() {
                prop_assert!(batch.is_due(0), "it is full");
                tell(&mut batch, &mut told);
                batch.add(answer, 0).unwrap();
            }
            said.push((sequence, answer.status));
        }
        prop_assert_eq!(batch.pending(), (said.len() - told.len()) as u64);
        tell(&mut batch, &mut told);
        prop_assert_eq!(said, told);
        prop_assert_eq!(batch.pending(), 0);
    }
}

#[test]
fn each_status_has_its_number() {
    let numbers = STATUSES.map(|status| status as u8);
    assert_eq!(numbers, [0, 1, 2, 16, 17, 18, 32, 33, 34, 35, 36]);
    for number in 0..=u8::MAX {
        assert_eq!(Status::from_code(number).map(|status| status as u8), numbers.contains(&number).then_some(number));
    }
    assert_eq!(STATUSES.map(Status::is_success).iter().filter(|success| **success).count(), 3);
}

#[test]
fn answers_are_due_by_number_by_age_at_once_or_when_asked_for() {
    let accepted = |sequence| Range::of(sequence, Status::Accepted);
    let mut batch = Batch::<8>::new(Policy::Batch { events: 3, age: 5 });
    assert_eq!((batch.is_due(u64::MAX), batch.due_at()), (false, None), "nothing to say");
    batch.add(accepted(1), 100).unwrap();
    batch.add(accepted(2), 104).unwrap();
    assert_eq!((batch.is_due(104), batch.is_due(105), batch.due_at()), (false, true, Some(105)));
    batch.add(accepted(3), 104).unwrap();
    assert!(batch.is_due(104));
    batch.clear();
    batch.add(accepted(4), 200).unwrap();
    assert_eq!((batch.is_due(204), batch.due_at()), (false, Some(205)));
    // A whole read batch in one range.
    let through = |first, last| Range::through(first, last, Status::Accepted).unwrap();
    batch.add(through(5, 9), 200).unwrap();
    assert!(batch.is_due(200));
    assert_eq!((batch.ranges(), batch.pending()), (&[through(4, 9)][..], 6));

    let mut immediate = Batch::<1>::new(Policy::Immediate);
    immediate.add(accepted(1), 0).unwrap();
    assert!(immediate.is_due(0));
    let mut deferred = Batch::<2>::new(Policy::Deferred);
    deferred.add(accepted(1), 0).unwrap();
    assert_eq!((deferred.is_due(u64::MAX), deferred.due_at()), (false, None));
    deferred.add(accepted(9), 0).unwrap();
    assert!(deferred.is_due(0), "no room for more");
    assert_eq!(deferred.add(accepted(20), 0), Err(accepted(20)));
    deferred.add(accepted(10), 0).expect("what goes on a range takes no room");
}

#[test]
fn a_range_at_the_end_of_all_sequences_is_not_gone_on() {
    let mut batch = Batch::<2>::new(Policy::default());
    batch.add(Range::of(u64::MAX, Status::Accepted), 0).unwrap();
    batch.add(Range::of(0, Status::Accepted), 0).unwrap();
    assert_eq!(batch.ranges().len(), 2);
}

#[test]
fn no_range_ends_before_it_begins() {
    assert_eq!(Range::through(2, 1, Status::Accepted), None);
    assert_eq!(Range::through(u64::MAX, 0, Status::Accepted), None);
    assert_eq!(Range::through(7, 7, Status::Accepted), Some(Range::of(7, Status::Accepted)));
    let all = Range::through(0, u64::MAX, Status::Accepted).unwrap();
    let mut batch = Batch::<1>::new(Policy::default());
    batch.add(all, 0).unwrap();
    assert_eq!((batch.ranges(), batch.pending()), (&[all][..], u64::MAX), "one too many to count");
}

/// The rule, case by case.
#[test]
fn an_answer_is_merged_with_the_one_before_if_it_goes_on_there() {
    let first = Range { lane: 1, retry_after_ms: 30, credit: 8, ..Range::of(5, Status::Throttled) };
    let next = Range { retry_after_ms: 20, credit: 4, ..Range { first: 6, last: 7, ..first } };
    let merged = |answers: &[Range]| {
        let mut batch = Batch::<4>::new(Policy::Deferred);
        answers.iter().for_each(|answer| batch.add(*answer, 0).unwrap());
        batch.ranges().to_vec()
    };
    assert_eq!(merged(&[first, next]), [Range { last: 7, credit: 4, ..first }], "the newest credit, the longest wait");
    let longer = Range { retry_after_ms: 40, ..next };
    assert_eq!(merged(&[first, longer]), [Range { last: 7, retry_after_ms: 40, credit: 4, ..first }]);
    let apart = [
        [first, Range { status: Status::Dropped, ..next }],
        [first, Range { lane: 2, ..next }],
        [first, Range { first: 7, ..next }],
        [first, Range { first: 5, ..next }],
        [first, first],
        [next, first],
    ];
    for answers in apart {
        assert_eq!(merged(&answers), answers);
    }
    let between = Range::of(100, Status::Accepted);
    assert_eq!(merged(&[first, between, next]), [first, between, next], "only with the one before");
}
