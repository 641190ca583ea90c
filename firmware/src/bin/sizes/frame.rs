use conduit::frame::{self, Decoded, EncodeError, Event, Fault};

operations! {
    fn wire_encode(event: &Event<'_>, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        event.encode(buffer)
    }

    fn wire_decode<'a>(input: &'a [u8]) -> Result<Decoded<'a>, Fault> {
        frame::decode(input, frame::DEFAULT_MAX_LEN)
    }
}
