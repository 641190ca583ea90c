//! Sequences of more producers than there is room for, against sets and a list by use.
#![no_main]

use std::collections::HashSet;

use conduit::dedup::{ProducerId, Producers, Seen, Window};
use libfuzzer_sys::fuzz_target;

const N: usize = 4;

/// What a window says.
#[derive(Default)]
struct Model {
    newest: u64,
    recorded: HashSet<u64>,
}

impl Model {
    fn look(&self, sequence: u64) -> Seen {
        if sequence == 0 || sequence > self.newest {
            Seen::New
        } else if self.newest - sequence > 1023 {
            Seen::TooOld
        } else if self.recorded.contains(&sequence) {
            Seen::Duplicate
        } else {
            Seen::New
        }
    }

    fn record(&mut self, sequence: u64) {
        if self.look(sequence) == Seen::New && sequence != 0 {
            self.recorded.insert(sequence);
            self.newest = self.newest.max(sequence);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&seed, steps)) = input.split_first() else { return };
    let mut producers = Producers::<N>::new(seed.into());
    let mut window = Window::new();
    let mut model = Model::default();
    // The one used last comes last.
    let mut models: Vec<(ProducerId, Model)> = vec![];
    let mut evicted = 0;
    // Each step: whose, whether it is only looked for, and which sequence: near the newest one, or anywhere.
    for step in steps.chunks_exact(4).take(500) {
        let id = [step[0] % 7; 16];
        let distance = u64::from(u16::from_le_bytes([step[2], step[3]]));
        let from = |newest: u64| match step[1] % 8 {
            0 => 0u64.wrapping_sub(distance),
            1 => distance << 48,
            2..5 => newest.saturating_add(distance % 1200),
            _ => newest.saturating_sub(distance % 1200),
        };
        let only_look = step[1] & 8 != 0;

        let sequence = from(model.newest);
        assert_eq!(window.look(sequence), model.look(sequence));
        if !only_look {
            window.record(sequence);
            model.record(sequence);
        }
        assert_eq!(window.newest(), model.newest);

        let known = models.iter().position(|(its, _)| *its == id).map(|at| models.remove(at));
        let sequence = from(known.as_ref().map_or(0, |(_, model)| model.newest));
        let expected = known.as_ref().map_or(Seen::New, |(_, model)| model.look(sequence));
        assert_eq!(producers.look(&id, sequence), expected);
        let recorded = !only_look && sequence != 0;
        if !only_look {
            producers.record(&id, sequence);
        }
        if known.is_some() || recorded {
            let (id, mut model) = known.unwrap_or((id, Model::default()));
            if recorded {
                model.record(sequence);
            }
            if models.len() == N {
                models.remove(0);
                evicted += 1;
            }
            models.push((id, model));
        }
        assert_eq!((producers.len(), producers.evicted()), (models.len(), evicted));
        for (id, model) in &models {
            assert_eq!(producers.newest(id), model.newest);
        }
    }
});
