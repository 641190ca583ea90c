//! The message every transport carries: `N` words that tell which message they belong to.

/// `N` words of 8 bytes. Up to [`SMALL`] words the whole message is made from its number; a larger
/// one is filled once and marked in every page and at its end, so that the time goes into moving it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Message<const N: usize>(pub [u64; N]);

const SMALL: usize = 32;
const PAGE: usize = 512;
const MARK: u64 = 0x9e37_79b9_7f4a_7c15;

impl<const N: usize> Message<N> {
    pub fn blank() -> Self {
        Message([MARK; N])
    }

    /// Makes this message number `number`.
    #[inline(always)]
    pub fn number(&mut self, number: u64) {
        if N <= SMALL {
            for (i, word) in self.0.iter_mut().enumerate() {
                *word = number.wrapping_add(i as u64);
            }
        } else {
            for page in (0..N).step_by(PAGE) {
                self.0[page] = number;
            }
            self.0[N - 1] = number;
        }
    }

    /// Whether this is message `number`, whole.
    #[inline(always)]
    pub fn is(&self, number: u64) -> bool {
        let mut wrong = 0;
        if N <= SMALL {
            for (i, word) in self.0.iter().enumerate() {
                wrong |= word ^ number.wrapping_add(i as u64);
            }
        } else {
            for page in (0..N).step_by(PAGE) {
                wrong |= self.0[page] ^ number;
            }
            wrong |= self.0[N - 1] ^ number;
        }
        wrong == 0
    }

    /// Panics unless this is message `number`.
    #[inline(always)]
    pub fn check(&self, number: u64) {
        if !self.is(number) {
            self.torn(number);
        }
    }

    /// Panics unless every word is right; too slow for each message, done while warming up.
    pub fn check_all(&self, number: u64) {
        self.check(number);
        let marked = |i: usize| i.is_multiple_of(PAGE) || i == N - 1;
        if N > SMALL && (0..N).any(|i| !marked(i) && self.0[i] != MARK) {
            self.torn(number);
        }
    }

    /// The number a message claims to have.
    #[inline(always)]
    pub fn claimed(&self) -> u64 {
        self.0[0]
    }

    #[cold]
    #[inline(never)]
    fn torn(&self, number: u64) -> ! {
        panic!("message {number} expected, but it starts with {:?}", &self.0[..N.min(8)])
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: words are bytes without padding, and any byte may be read.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr().cast(), N * 8) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and any bytes make valid words.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), N * 8) }
    }
}
