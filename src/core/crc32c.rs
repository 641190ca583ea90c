//! CRC-32C (Castagnoli), as in iSCSI (RFC 3720), SSE4.2 and the Armv8 extension.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// The checksum of `bytes`.
#[inline]
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

/// # Safety
///
/// The processor has SSE4.2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
#[allow(unused_unsafe, reason = "the instructions are safe to call from here in newer compilers")]
unsafe fn by_instruction(state: u32, bytes: &[u8]) -> u32 {
    use ::core::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};
    let mut state = u64::from(state);
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        // SAFETY: the processor has SSE4.2, as below.
        state = unsafe { _mm_crc32_u64(state, u64::from_le_bytes(*word)) };
        rest = behind;
    }
    let mut state = state as u32;
    if let Some((word, behind)) = rest.split_first_chunk() {
        // SAFETY: as above.
        state = unsafe { _mm_crc32_u32(state, u32::from_le_bytes(*word)) };
        rest = behind;
    }
    for byte in rest {
        // SAFETY: as above.
        state = unsafe { _mm_crc32_u8(state, *byte) };
    }
    state
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
