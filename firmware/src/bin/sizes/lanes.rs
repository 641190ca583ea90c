use conduit::frame::Priority;
use conduit::lanes::{Accepted, Dispatcher, Drain, Lane, Refused};

type Message = [u32; 2];

operations! {
    fn lanes_offer(
        dispatcher: &mut Dispatcher<'static, Message, 16, 16, 16>,
        priority: Priority,
        message: Message
    ) -> Result<Accepted, Refused<Message>> {
        dispatcher.offer(priority, message)
    }

    fn lanes_pop(drain: &mut Drain<'static, Message, 16, 16, 16>) -> Option<(Lane, Message)> {
        drain.pop()
    }
}
