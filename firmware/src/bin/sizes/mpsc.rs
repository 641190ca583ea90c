use conduit::mpsc::{Consumer, Producer};

type Message = [u32; 2];
const N: usize = 16;

operations! {
    fn mpsc_push(producer: Producer<'static, Message, N>, message: Message) -> Result<(), Message> {
        producer.push(message)
    }

    fn mpsc_pop(consumer: &mut Consumer<'static, Message, N>) -> Option<Message> {
        consumer.pop()
    }
}
