use conduit::records::{Consumer, Producer, ReadError, Ring, WriteError};

type Records = &'static Ring<64>;

operations! {
    fn records_push(producer: &mut Producer<Records>, record: &[u8]) -> Result<(), WriteError> {
        producer.push(record)
    }

    fn records_pop(consumer: &mut Consumer<Records>, into: &mut [u8]) -> Result<usize, ReadError> {
        consumer.pop(into)
    }

    fn records_fill(producer: &mut Producer<Records>, len: usize) -> Result<(), WriteError> {
        producer.grant(len).map(|mut grant| {
            grant.fill(1);
            let len = grant.len();
            grant.commit(len);
        })
    }

    fn records_drain(consumer: &mut Consumer<Records>) -> Result<u32, ReadError> {
        consumer.read().map(|record| {
            let sum = record.iter().fold(0, |sum: u32, &byte| sum.wrapping_add(byte.into()));
            record.release();
            sum
        })
    }

    fn records_drain_batch(consumer: &mut Consumer<Records>, limit: usize) -> Result<usize, ReadError> {
        let mut bytes = 0;
        consumer.read_batch(limit, |record| bytes += record.len()).map(|_| bytes)
    }
}
