use conduit::dedup::{ProducerId, Producers, Seen, Window};

operations! {
    fn window_look(window: &Window, sequence: u64) -> Seen {
        window.look(sequence)
    }

    fn window_record(window: &mut Window, sequence: u64) {
        window.record(sequence);
    }

    fn producers_look(producers: &mut Producers<16>, producer: &ProducerId, sequence: u64) -> Seen {
        producers.look(producer, sequence)
    }

    fn producers_record(producers: &mut Producers<16>, producer: &ProducerId, sequence: u64) {
        producers.record(producer, sequence);
    }
}
