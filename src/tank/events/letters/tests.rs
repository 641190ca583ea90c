//! Letters that are read, cleared and removed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::engine::{DeadReason, Event};
use crate::frame::Priority;
use crate::tank::events::series;
use crate::tank::events::tests::{Directory, event, sound};
use crate::tank::events::{Cleared, DeadLetterBox, Letter, LetterFilter, LetterId};
use crate::topic::Pattern;

fn letter(number: u64) -> DeadLetter<'static> {
    let reason = DeadReason::ALL[number as usize % 7];
    let priority = Priority::from_code((number % 5) as u8).unwrap();
    let topic = if number % 2 == 0 { "orders/new" } else { "orders/gone" };
    let event = Event { topic, priority, ..event((number << 32) + number) };
    DeadLetter { event, reason, attempts: number as u32, detail: "no \"such\"\nitem \u{1b}[31m" }
}

fn read(letters: &DeadLetterBox, filter: LetterFilter) -> Vec<Letter> {
    letters.letters(filter).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn everything_about_a_letter_is_read_again_also_while_more_are_written() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    for round in 1..4 {
        for number in (round - 1) * 50..round * 50 {
            assert!(store.has_room());
            store.keep(&letter(number)).unwrap();
        }
        store.flush().unwrap();
        let found = read(&letters, LetterFilter::new());
        assert_eq!(found.len() as u64, round * 50);
        for (number, found) in found.iter().enumerate() {
            assert_eq!(found.letter(), letter(number as u64));
            assert_eq!(letters.get(found.id).unwrap().as_ref(), Some(found));
        }
    }
    let ids: Vec<_> = read(&letters, LetterFilter::new()).iter().map(|letter| letter.id).collect();
    drop(store);
    sound(&files(&directory.0));
    let again: Vec<_> = read(&letters, LetterFilter::new()).iter().map(|letter| letter.id).collect();
    assert_eq!(ids, again, "names stay");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    series::files(directory, "dead-letters").unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn letters_are_found_by_what_is_asked_for() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    (0..140).for_each(|number| store.keep(&letter(number)).unwrap());
    drop(store);
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    let count = |filter: LetterFilter| read(&letters, filter).len();
    assert_eq!(count(LetterFilter::new()), 140);
    assert_eq!(count(LetterFilter::new().topic(Pattern::new("orders/g*"))), 70);
    assert_eq!(count(LetterFilter::new().reason(DeadReason::Panicked)), 20);
    assert_eq!(count(LetterFilter::new().priority(Priority::Critical)), 28);
    assert_eq!(count(LetterFilter::new().since(1_000_000_100)), 140 - (0..140u64).filter(|n| late(*n) < 100).count());
    let both = LetterFilter::new().reason(DeadReason::Panicked).topic(Pattern::new("orders/new"));
    assert_eq!(count(both), 10);
    assert_eq!(letters.get(LetterId { file: 1, place: 200 }).unwrap(), None);
}

fn late(number: u64) -> u64 {
    letter(number).event.received - 1_000_000_000
}

#[test]
fn what_is_cleared_is_gone_and_nothing_else() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::options().max_bytes(16 * 10_000).open(&directory.0).unwrap();
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    for number in 0..200 {
        store.keep(&letter(number)).unwrap();
        store.flush().unwrap();
    }
    let file_count = files(&directory.0).len();
    assert!(file_count > 3, "{file_count}");
    let cleared = letters.clear(&LetterFilter::new().reason(DeadReason::Rejected)).unwrap();
    assert_eq!((cleared.letters, cleared.files), ((0..200).filter(|number| number % 7 == 2).count() as u64, 0));
    let left: Vec<_> = (0..200).filter(|number| number % 7 != 2).collect();
    assert_eq!(read(&letters, LetterFilter::new()).iter().map(|l| u64::from(l.attempts)).collect::<Vec<_>>(), left);
    // One by its name.
    let first = read(&letters, LetterFilter::new()).remove(0);
    assert_eq!(letters.clear(&LetterFilter::new().ids([first.id])).unwrap().letters, 1);
    assert_eq!(letters.get(first.id).unwrap(), None);
    assert_eq!(letters.clear(&LetterFilter::new().ids([first.id])).unwrap(), Cleared::default());
    // All: those of the file that is being written are marked; the others go.
    let cleared = letters.clear(&LetterFilter::new()).unwrap();
    assert_eq!(cleared.letters, left.len() as u64 - 1);
    assert_eq!(cleared.files, file_count as u64 - 1);
    assert_eq!(read(&letters, LetterFilter::new()), []);
    // What comes behind it is seen.
    store.keep(&letter(7)).unwrap();
    store.flush().unwrap();
    let found = read(&letters, LetterFilter::new());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].letter(), letter(7));
    drop(store);
    assert_eq!(letters.clear(&LetterFilter::new()).unwrap().files, 1);
    assert_eq!(files(&directory.0), Vec::<PathBuf>::new());
    // A name is given once.
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    store.keep(&letter(8)).unwrap();
    drop(store);
    let found = read(&letters, LetterFilter::new());
    assert!(found[0].id.file as usize > file_count, "{}", found[0].id);
}

#[test]
fn a_store_that_is_full_has_room_again_when_it_is_cleared() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::options().max_bytes(64 << 10).open(&directory.0).unwrap();
    let mut kept = 0;
    while store.has_room() {
        store.keep(&letter(kept)).unwrap();
        store.flush().unwrap();
        kept += 1;
    }
    let on_disk: u64 = files(&directory.0).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    assert!((60 << 10..70 << 10).contains(&on_disk), "{on_disk} bytes");
    // A few may be on their way.
    store.keep(&letter(kept)).unwrap();
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    assert!(letters.clear(&LetterFilter::new()).unwrap().bytes > 50 << 10);
    let start = std::time::Instant::now();
    while !store.has_room() {
        assert!(start.elapsed() < Duration::from_secs(40));
        std::thread::yield_now();
    }
    store.flush().unwrap();
    let found = read(&letters, LetterFilter::new());
    assert_eq!(found.len(), 1, "what had not been written was not cleared");
    assert_eq!(found[0].letter(), letter(kept));
}

#[test]
fn letters_are_removed_when_their_file_is_too_old() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    (0..10).for_each(|number| store.keep(&letter(number)).unwrap());
    drop(store);
    let store = DeadLetterStore::options().max_age(Duration::from_nanos(1)).open(&directory.0).unwrap();
    assert_eq!((store.counts().removed_files, store.bytes()), (1, 0));
    assert_eq!(files(&directory.0), Vec::<PathBuf>::new());
}

#[test]
fn letters_of_more_topics_than_a_file_can_have_go_to_another() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    let topics: Vec<String> = (0..70_000).map(|number| format!("t{number}")).collect();
    for topic in &topics {
        let event = Event { topic, payload: b"", ..event(1) };
        store.keep(&DeadLetter { event, ..letter(1) }).unwrap();
    }
    drop(store);
    assert_eq!(files(&directory.0).len(), 2);
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    let found = letters.letters(LetterFilter::new()).unwrap().map(|letter| letter.unwrap().topic);
    assert!(found.eq(topics));
}

#[test]
fn what_a_killed_store_left_is_taken_over_and_can_be_cleared_before() {
    for clear in [false, true] {
        let directory = Directory::new();
        let mut store = DeadLetterStore::open(&directory.0).unwrap();
        (0..10).for_each(|number| store.keep(&letter(number)).unwrap());
        store.flush().unwrap();
        let file = files(&directory.0).remove(0);
        let bytes = std::fs::read(&file).unwrap();
        drop(store);
        std::fs::write(&file, &bytes).unwrap();
        // Torn behind the group.
        OpenOptions::new().append(true).open(&file).and_then(|mut file| file.write_all(b"\x06abc")).unwrap();
        let letters = DeadLetterBox::open(&directory.0).unwrap();
        assert_eq!(read(&letters, LetterFilter::new()).len(), 10);
        if clear {
            assert_eq!(letters.clear(&LetterFilter::new()).unwrap().files, 1);
        }
        let mut store = DeadLetterStore::open(&directory.0).unwrap();
        store.keep(&letter(11)).unwrap();
        drop(store);
        sound(&files(&directory.0));
        assert_eq!(read(&letters, LetterFilter::new()).len(), if clear { 1 } else { 11 });
    }
}

#[test]
fn a_topic_may_have_the_name_of_what_is_said_of_letters() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    for number in 0..4 {
        let topic = if number % 2 == 0 { "conduit.dead_letters" } else { "t" };
        let event = Event { topic, ..event(number) };
        store.keep(&DeadLetter { event, ..letter(number) }).unwrap();
    }
    drop(store);
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    let topics: Vec<_> = read(&letters, LetterFilter::new()).into_iter().map(|letter| letter.topic).collect();
    assert_eq!(topics, ["conduit.dead_letters", "t", "conduit.dead_letters", "t"]);
}
