//! The eventcount, one call after the other.

use super::super::EventCount;
use super::super::Ordering::Relaxed;

#[test]
fn nobody_is_woken_where_nobody_sleeps() {
    let count = EventCount::new();
    assert!(!count.notify());
    assert_eq!(count.word().load(Relaxed), 0);
}

#[test]
fn a_sleeper_is_woken_once_and_changes_its_word() {
    let count = EventCount::new();
    let ticket = count.prepare();
    assert_eq!(ticket, count.prepare(), "another sleeper makes no difference");
    assert!(count.notify());
    assert_ne!(count.word().load(Relaxed), ticket);
    assert!(!count.notify(), "all were woken, the next change costs nothing");
}

#[test]
fn who_takes_over_wakes_whether_or_not_somebody_sleeps() {
    let count = EventCount::new();
    count.announce();
    assert_eq!(count.word().load(Relaxed), 1);
    let ticket = count.prepare();
    count.announce();
    assert_ne!(count.word().load(Relaxed), ticket);
}
