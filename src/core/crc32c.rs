//! CRC-32C (Castagnoli), as in iSCSI (RFC 3720), SSE4.2 and the Armv8 extension.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// The checksum of `bytes`.
#[inline(always)]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if has_instruction() {
        // SAFETY: the processor has it.
        return !unsafe { by_instruction(!0, bytes) };
    }
    !by_table(!0, bytes)
}

/// Whether the processor has the instruction. Found out once.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn has_instruction() -> bool {
    use ::core::sync::atomic::{AtomicU8, Ordering::Relaxed};
    /// 0 not known, 1 no, 2 yes. Everybody who finds out stores the same; Relaxed.
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    #[cold]
    fn find_out() -> bool {
        // SSE4.2 is bit 20 of ECX of leaf 1; it needs nothing of the operating system but what SSE does.
        #[allow(unused_unsafe, reason = "safe in newer compilers")]
        // SAFETY: each x86-64 processor has CPUID and this leaf.
        let yes = unsafe { ::core::arch::x86_64::__cpuid(1) }.ecx & 1 << 20 != 0;
        KNOWN.store(1 + u8::from(yes), Relaxed);
        yes
    }
    cfg!(target_feature = "sse4.2")
        || match KNOWN.load(Relaxed) {
            0 => find_out(),
            known => known == 2,
        }
}

/// One step of 1, 4 or 8 bytes. In assembler, because a function that the compiler lets use the instruction cannot become
/// part of one that it doesn't: with a call for each checksum a small frame took a third longer.
#[cfg(target_arch = "x86_64")]
macro_rules! step {
    ($state:ident, $operands:literal, $class:ident, $bytes:expr) => {
        ::core::arch::asm!(
            concat!("crc32 ", $operands),
            inout(reg) $state,
            in($class) $bytes,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// # Safety
///
/// The processor has SSE4.2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn by_instruction(state: u32, bytes: &[u8]) -> u32 {
    let mut state = u64::from(state);
    let mut rest = bytes;
    // A line at a time, so that steps of the next message may begin while these wait for each other.
    while let Some((line, behind)) = rest.split_first_chunk::<64>() {
        let mut words = &line[..];
        while let Some((word, behind)) = words.split_first_chunk() {
            // SAFETY: the processor has SSE4.2, says the caller; the instruction touches two registers.
            unsafe { step!(state, "{}, {}", reg, u64::from_le_bytes(*word)) };
            words = behind;
        }
        rest = behind;
    }
    while let Some((word, behind)) = rest.split_first_chunk() {
        // SAFETY: as above.
        unsafe { step!(state, "{}, {}", reg, u64::from_le_bytes(*word)) };
        rest = behind;
    }
    if let Some((word, behind)) = rest.split_first_chunk() {
        // SAFETY: as above.
        unsafe { step!(state, "{:e}, {:e}", reg, u32::from_le_bytes(*word)) };
        rest = behind;
    }
    for byte in rest {
        // SAFETY: as above.
        unsafe { step!(state, "{:e}, {}", reg_byte, *byte) };
    }
    state as u32
}

/// The checksum of each byte, for processors without the instruction: 1 KiB.
static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut state, mut bit) = (byte as u32, 0);
        while bit < 8 {
            state = state >> 1 ^ if state & 1 == 0 { 0 } else { POLYNOMIAL };
            bit += 1;
        }
        table[byte] = state;
        byte += 1;
    }
    table
};

#[cfg_attr(target_arch = "x86_64", cold, inline(never))]
fn by_table(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| state >> 8 ^ TABLE[(state as u8 ^ byte) as usize])
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_standards_examples_hold() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(&::core::array::from_fn::<u8, 32, _>(|n| n as u8)), 0x46DD_794E);
        assert_eq!(crc32c(&[]), 0);
    }

    proptest! {
        #[test]
        fn the_instruction_and_the_table_agree(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(crc32c(&bytes), !by_table(!0, &bytes));
        }
    }
}
