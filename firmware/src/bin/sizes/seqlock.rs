use conduit::seqlock::{ReadError, Reader, Writer};

type Value = [u32; 4];

operations! {
    fn seqlock_write(writer: &mut Writer<'static, Value>, value: &Value) {
        writer.write(value);
    }

    fn seqlock_try_read(reader: Reader<'static, Value>) -> Result<Value, ReadError> {
        reader.try_read()
    }

    fn seqlock_read(reader: Reader<'static, Value>) -> Result<Value, ReadError> {
        reader.read()
    }
}
