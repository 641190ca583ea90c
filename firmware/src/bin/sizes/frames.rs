use conduit::ring::{FrameLoan, FrameRingReader, FrameRingWriter, FrameSample, ReadError, WriteError};

type Message = [u8; 256];
const N: usize = 4;
const R: usize = 2;

operations! {
    fn frame_loan<'a>(
        writer: &'a mut FrameRingWriter<'static, Message, N, R>
    ) -> Result<FrameLoan<'a, 'static, Message, N, R>, WriteError> {
        writer.loan()
    }

    fn frame_commit(loan: FrameLoan<'_, 'static, Message, N, R>) -> u64 {
        loan.commit()
    }

    fn frame_read(
        reader: &mut FrameRingReader<'static, Message, N, R>
    ) -> Result<FrameSample<'static, Message, N, R>, ReadError> {
        reader.read()
    }

    fn frame_release(sample: FrameSample<'static, Message, N, R>) {
        drop(sample);
    }
}
