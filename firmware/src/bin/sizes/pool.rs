use conduit::pool::{Handle, Magazine};

type Event = [u32; 8];

operations! {
    fn pool_acquire(magazine: &mut Magazine<'static, Event, 4, 16>, event: &Event) -> Option<Handle<'static, Event>> {
        magazine.acquire(*event).ok()
    }

    fn pool_drop(handle: Handle<'static, Event>) {
        drop(handle);
    }
}
