//! What an event meets on its way in: a place, whether it was seen before, and a lane.

use std::hint::black_box;

use conduit::dedup::{Insertion, KeySet, Keys, ProducerId, Producers, Seen, Window};
use conduit::frame::Priority;
use conduit::lanes::{Dispatcher, Drain, Lanes};
use conduit::pool::{Magazine, Pool};

use crate::{BATCH, Message, ROUNDS, counted, message};

type Events = Lanes<u64, 128, 128, 128>;

counted! {
    fn pool_acquire_and_drop(magazine: &mut Magazine<'static, Message, 4, 64>, event: &Message) -> u64 {
        magazine.acquire(*event).map_or(0, |handle| handle[0])
    }
    fn window_look_and_record(window: &mut Window, sequence: u64) -> bool {
        let new = window.look(sequence) == Seen::New;
        window.record(sequence);
        new
    }
    fn producers_look_and_record(producers: &mut Producers<64>, producer: &ProducerId, sequence: u64) -> bool {
        let new = producers.look(producer, sequence) == Seen::New;
        producers.record(producer, sequence);
        new
    }
    fn keys_insert_new(keys: &Keys<'static, 1024>, key: u64) -> bool {
        keys.insert(key) == Insertion::New
    }
    fn keys_insert_duplicate(keys: &Keys<'static, 1024>, key: u64) -> bool {
        // Not the very same code as above, or the compiler would make one function of the two.
        black_box(keys).insert(key) == Insertion::Duplicate
    }
    fn keys_remove(keys: &Keys<'static, 1024>, key: u64) -> bool {
        keys.remove(key)
    }
    fn lanes_offer(dispatcher: &mut Dispatcher<'static, u64, 128, 128, 128>, priority: Priority, event: u64) -> bool {
        dispatcher.offer(priority, event).is_ok()
    }
    fn lanes_pop(drain: &mut Drain<'static, u64, 128, 128, 128>) -> Option<u64> {
        drain.pop().map(|(_, event)| event)
    }
}

pub fn pool() {
    static POOL: Pool<Message, 4, 64> = Pool::new();
    let mut magazine = POOL.magazine();
    for n in 0..ROUNDS * BATCH as u64 {
        assert_eq!(pool_acquire_and_drop(&mut magazine, &message(n)), n);
    }
}

pub fn dedup() {
    static KEYS: KeySet<1024> = KeySet::new(1);
    static REFUSED: KeySet<1024> = KeySet::new(1);
    let (keys, _ager) = KEYS.split().expect("not split yet");
    let (refused, _ager) = REFUSED.split().expect("not split yet");
    let mut window = Window::new();
    let mut producers = Producers::<64>::new(1);
    for n in 1..=ROUNDS * BATCH as u64 {
        assert!(window_look_and_record(&mut window, black_box(n)));
        // Not the same one twice in a row.
        let producer = [(n % 48) as u8; 16];
        assert!(producers_look_and_record(&mut producers, black_box(&producer), n));
        assert!(keys_insert_new(&keys, black_box(n)));
        assert!(keys_insert_duplicate(&keys, black_box(n)));
        assert_eq!(refused.insert(n), Insertion::New);
        assert!(keys_remove(&refused, black_box(n)));
    }
}

pub fn lanes() {
    static LANES: Events = Lanes::new();
    let (mut dispatcher, mut drain) = LANES.split().expect("not split yet");
    const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Medium, Priority::Low];
    for _ in 0..ROUNDS {
        for n in 0..BATCH {
            assert!(lanes_offer(&mut dispatcher, black_box(PRIORITIES[n % 3]), n as u64));
        }
        for _ in 0..BATCH {
            assert!(lanes_pop(&mut drain).is_some());
        }
    }
}
