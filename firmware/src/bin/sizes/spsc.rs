use conduit::spsc::{Consumer, Producer};

type Message = [u32; 2];
const N: usize = 16;

operations! {
    fn spsc_push(producer: &mut Producer<'static, Message, N>, message: Message) -> Result<(), Message> {
        producer.push(message)
    }

    fn spsc_push_slice(producer: &mut Producer<'static, Message, N>, messages: &[Message]) -> usize {
        producer.push_slice(messages)
    }

    fn spsc_pop(consumer: &mut Consumer<'static, Message, N>) -> Option<Message> {
        consumer.pop()
    }

    fn spsc_pop_slice(consumer: &mut Consumer<'static, Message, N>, messages: &mut [Message]) -> usize {
        consumer.pop_slice(messages)
    }

    fn spsc_fill(producer: &mut Producer<'static, Message, N>, limit: usize) -> usize {
        let mut grant = producer.grant(limit);
        let (slots, wrapped) = grant.slots();
        slots.iter_mut().chain(wrapped).for_each(|slot| {
            slot.write([1, 2]);
        });
        let count = grant.len();
        // SAFETY: each slot was written.
        unsafe { grant.commit(count) };
        count
    }

    fn spsc_drain(consumer: &mut Consumer<'static, Message, N>, limit: usize) -> u32 {
        let grant = consumer.grant(limit);
        let (messages, wrapped) = grant.messages();
        let sum = messages.iter().chain(wrapped).fold(0, |sum: u32, message| sum.wrapping_add(message[0]));
        let count = grant.len();
        grant.release(count);
        sum
    }
}
