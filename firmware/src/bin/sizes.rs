//! One function for each kernel operation, to be measured, and to be searched for ways to panic. No vector table, no
//! board: this is never run.

#![no_std]
#![no_main]

use core::hint::black_box;

use conduit::ring::{ReadError, Received, WordRingReader, WordRingWriter};

type Message = [u32; 2];
const N: usize = 16;

#[unsafe(no_mangle)]
fn word_publish(writer: &mut WordRingWriter<'static, Message, N>, message: &Message) -> u64 {
    writer.publish(message)
}

#[unsafe(no_mangle)]
fn word_read(reader: &mut WordRingReader<'static, Message, N>) -> Result<Received<Message>, ReadError> {
    reader.read()
}

#[cfg(target_has_atomic = "32")]
mod frames {
    use conduit::ring::{FrameLoan, FrameRingReader, FrameRingWriter, FrameSample, ReadError, WriteError};

    type Message = [u8; 256];
    const N: usize = 4;
    const R: usize = 2;

    #[unsafe(no_mangle)]
    fn frame_loan<'a>(
        writer: &'a mut FrameRingWriter<'static, Message, N, R>,
    ) -> Result<FrameLoan<'a, 'static, Message, N, R>, WriteError> {
        writer.loan()
    }

    #[unsafe(no_mangle)]
    fn frame_commit(loan: FrameLoan<'_, 'static, Message, N, R>) -> u64 {
        loan.commit()
    }

    #[unsafe(no_mangle)]
    fn frame_read(
        reader: &mut FrameRingReader<'static, Message, N, R>,
    ) -> Result<FrameSample<'static, Message, N, R>, ReadError> {
        reader.read()
    }

    #[unsafe(no_mangle)]
    fn frame_release(sample: FrameSample<'static, Message, N, R>) {
        drop(sample);
    }

    pub const OPERATIONS: [*const (); 4] =
        [frame_loan as *const (), frame_commit as *const (), frame_read as *const (), frame_release as *const ()];
}

/// Where the linker begins: it keeps what is named here.
#[unsafe(no_mangle)]
extern "C" fn operations() {
    black_box([word_publish as *const (), word_read as *const ()]);
    #[cfg(target_has_atomic = "32")]
    black_box(frames::OPERATIONS);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
