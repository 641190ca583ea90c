use conduit::ring::{ReadError, Received, WordRingReader, WordRingWriter};

type Message = [u32; 2];
const N: usize = 16;

operations! {
    fn word_publish(writer: &mut WordRingWriter<'static, Message, N>, message: &Message) -> u64 {
        writer.publish(message)
    }

    fn word_read(reader: &mut WordRingReader<'static, Message, N>) -> Result<Received<Message>, ReadError> {
        reader.read()
    }
}
