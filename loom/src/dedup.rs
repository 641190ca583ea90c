//! The set of keys: of all who insert one while it is remembered, one is told that it is new.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};

use crate::core::dedup::{Insertion, KeySet, Keys};
use crate::model;

type Set = KeySet<1>;

/// A set for the threads of a model. Leaked for their sake, and freed when it is dropped after them.
struct Shared(&'static Set);

impl Shared {
    fn new() -> Self {
        Shared(Box::leak(Box::new(Set::new(0))))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the threads of the model have ended.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(self.0).cast_mut()) });
    }
}

fn inserting(keys: Keys<'static, 1>, which: &'static [u64]) -> JoinHandle<Vec<Insertion>> {
    thread::spawn(move || which.iter().map(|&key| keys.insert(key)).collect())
}

/// How many of the answers say so.
fn new(answers: &[Insertion]) -> usize {
    answers.iter().filter(|&&answer| answer == Insertion::New).count()
}

#[test]
fn of_two_that_insert_a_key_one_is_told_that_it_is_new() {
    model(2, || {
        let shared = Shared::new();
        let (keys, _ager) = shared.0.split().unwrap();
        let other = inserting(keys, &[1, 2]);
        let mine = [keys.insert(2), keys.insert(1)];
        let others = other.join().unwrap();
        // The answers for 1, and for 2.
        assert_eq!((new(&[others[0], mine[1]]), new(&[others[1], mine[0]])), (1, 1));
        assert_eq!((keys.contains(1), keys.contains(2), keys.count()), (true, true, 2));
    });
}

#[test]
fn of_two_generations_one_is_told_that_a_key_is_new() {
    model(2, || {
        let shared = Shared::new();
        let (keys, mut ager) = shared.0.split().unwrap();
        let other = inserting(keys, &[1]);
        ager.advance();
        let mine = keys.insert(1);
        let others = other.join().unwrap();
        assert_eq!(new(&[others[0], mine]), 1);
        assert!(keys.contains(1));
    });
}

#[test]
fn of_two_generations_one_is_told_that_a_key_is_new_also_behind_others() {
    model(2, || {
        let shared = Shared::new();
        let (keys, mut ager) = shared.0.split().unwrap();
        assert_eq!(keys.insert(3), Insertion::New);
        let other = inserting(keys, &[1]);
        ager.advance();
        let mine = [keys.insert(2), keys.insert(1)];
        let others = other.join().unwrap();
        assert_eq!((mine[0], new(&[others[0], mine[1]])), (Insertion::New, 1));
        assert_eq!(keys.insert(3), Insertion::Duplicate);
    });
}

#[test]
fn of_three_threads_with_a_generation_that_begins_one_is_told_that_a_key_is_new() {
    model(3, || {
        let shared = Shared::new();
        let (keys, mut ager) = shared.0.split().unwrap();
        let [one, two] = [inserting(keys, &[1]), inserting(keys, &[1])];
        ager.advance();
        let answers = [one, two].map(|thread| thread.join().unwrap()[0]);
        assert_eq!(new(&answers), 1);
        assert_eq!(keys.insert(1), Insertion::Duplicate);
    });
}

#[test]
fn who_is_late_by_two_generations_takes_no_key_away() {
    model(2, || {
        let shared = Shared::new();
        let (keys, mut ager) = shared.0.split().unwrap();
        let other = inserting(keys, &[1]);
        ager.advance();
        ager.advance();
        let mine = keys.insert(3);
        let others = other.join().unwrap();
        assert_eq!((mine, new(&others)), (Insertion::New, 1));
        assert!(keys.contains(3));
    });
}

#[test]
fn a_late_closing_takes_no_key_away() {
    model(2, || {
        let shared = Shared::new();
        let (keys, mut ager) = shared.0.split().unwrap();
        ager.advance();
        // Looks for it in the first generation, whose words are those of the third.
        let other = inserting(keys, &[1]);
        ager.advance();
        let mine = keys.insert(2);
        assert_eq!(other.join().unwrap(), [Insertion::New]);
        assert_eq!(mine, Insertion::New);
        assert!(keys.contains(1) && keys.contains(2));
    });
}

#[test]
fn of_two_that_insert_a_key_that_was_taken_back_one_is_told_that_it_is_new() {
    model(2, || {
        let shared = Shared::new();
        let (keys, _ager) = shared.0.split().unwrap();
        assert_eq!(keys.insert(1), Insertion::New);
        assert!(keys.remove(1));
        let other = inserting(keys, &[1]);
        let mine = [keys.insert(1), keys.insert(2)];
        let others = other.join().unwrap();
        assert_eq!((new(&[others[0], mine[0]]), mine[1], keys.count()), (1, Insertion::New, 2));
    });
}

#[test]
fn who_inserts_a_key_while_it_is_taken_back_has_it_or_is_told_of_the_one_before() {
    model(2, || {
        let shared = Shared::new();
        let (keys, _ager) = shared.0.split().unwrap();
        let other = inserting(keys, &[1, 2]);
        let mine = keys.insert(1);
        let removed = mine == Insertion::New && keys.remove(1);
        let others = other.join().unwrap();
        assert_eq!((removed, others[1]), (mine == Insertion::New, Insertion::New));
        // Of each time that it is new there is one, but for the one that was taken back.
        let live = new(&[mine, others[0]]) - usize::from(removed);
        assert_eq!((usize::from(keys.contains(1)), keys.count()), (live, live + 1));
        assert_eq!(new(&[keys.insert(1)]), 1 - live);
    });
}

#[test]
fn of_two_generations_one_is_told_that_a_key_that_was_taken_back_is_new() {
    model(2, || {
        let shared = Shared::new();
        let (keys, mut ager) = shared.0.split().unwrap();
        assert_eq!(keys.insert(1), Insertion::New);
        assert!(keys.remove(1));
        let other = inserting(keys, &[1]);
        ager.advance();
        let mine = keys.insert(1);
        let others = other.join().unwrap();
        assert_eq!((new(&[others[0], mine]), keys.count()), (1, 1));
    });
}

#[test]
fn a_key_of_the_generation_before_is_taken_back_while_others_insert_it() {
    model(2, || {
        let shared = Shared::new();
        let (keys, mut ager) = shared.0.split().unwrap();
        assert_eq!(keys.insert(1), Insertion::New);
        // Perhaps of the generation before.
        let other = inserting(keys, &[1]);
        ager.advance();
        assert!(keys.remove(1));
        let mine = keys.insert(1);
        let others = other.join().unwrap();
        assert_eq!((new(&[others[0], mine]), keys.contains(1), keys.count()), (1, true, 1));
    });
}

#[test]
fn who_is_late_by_two_generations_takes_no_other_key_back() {
    model(2, || {
        let shared = Shared::new();
        let (keys, mut ager) = shared.0.split().unwrap();
        assert_eq!(keys.insert(1), Insertion::New);
        let other = thread::spawn(move || keys.remove(1));
        ager.advance();
        ager.advance();
        let mine = keys.insert(3);
        other.join().unwrap();
        assert_eq!((mine, keys.contains(3), keys.contains(1)), (Insertion::New, true, false));
    });
}

/// What the models above look for is seen by them: two that look and insert without each other's knowledge.
#[test]
#[should_panic(expected = "one is new")]
fn who_looks_and_then_inserts_may_find_it_new_twice() {
    model(2, || {
        let shared = Arc::new(Shared::new());
        let (keys, _ager) = shared.0.split().unwrap();
        let look = move || !keys.contains(1);
        let other = thread::spawn(look);
        let mine = look();
        let others = other.join().unwrap();
        assert!(!(mine && others), "one is new");
    });
}
