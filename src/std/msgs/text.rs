//! Fields of messages that are no numbers: text, bytes and truth values, each of a fixed size and valid whatever its bits are.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::{FromStr, Utf8Error};

use crate::core::plain::Plain;
use crate::topic::{Element, Field, SchemaBuilder};

/// Text of up to `N` bytes in UTF-8, in a field of a message. What is left of the `N` bytes is zeros.
///
/// In a schema it is `char[N]`, which the tools of others show as numbers, and Conduit's as text.
///
/// ```
/// use conduit::msgs::Text;
///
/// conduit::message! {
///     pub struct Label: "demo_msgs/msg/Label" {
///         pub name: Text<32>,
///     }
/// }
///
/// let label = Label { name: "left arm".parse()? };
/// assert_eq!(label.name.as_str(), Ok("left arm"));
/// assert!(Text::<4>::new("too long").is_err());
/// # Ok::<(), conduit::msgs::TextError>(())
/// ```
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text<const N: usize>([u8; N]);

// SAFETY: an array of bytes.
unsafe impl<const N: usize> Plain for Text<N> {}

impl<const N: usize> Field for Text<N> {
    const ALIGN: usize = {
        assert!(N > 0, "`Text<N>`: text of no bytes is no field");
        1
    };

    fn type_name() -> String {
        format!("char[{N}]")
    }

    fn define(_: &mut SchemaBuilder) {}
}

/// Why a text does not go into a [`Text`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// There is no room for it.
    #[error("a text of {len} bytes, where {room} have room")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// How many have room.
        room: usize,
    },
    /// It has a NUL, which would end it.
    #[error("a text with a NUL at byte {at}, which would end there")]
    Nul {
        /// Where.
        at: usize,
    },
}

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Self = Text([0; N]);

    /// A copy of `text`.
    ///
    /// # Errors
    ///
    /// [`TextError`]. [`cut`](Self::cut) takes what fits.
    pub fn new(text: &str) -> Result<Self, TextError> {
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            return Err(TextError::Nul { at });
        }
        let mut bytes = [0; N];
        let room = bytes.get_mut(..text.len()).ok_or(TextError::TooLong { len: text.len(), room: N })?;
        room.copy_from_slice(text.as_bytes());
        Ok(Text(bytes))
    }

    /// A copy of as many whole characters of `text` as there is room for, up to the first NUL; and how many bytes were left
    /// out.
    pub fn cut(text: &str) -> (Self, usize) {
        let most = text.bytes().take(N).position(|byte| byte == 0).unwrap_or(text.len().min(N));
        let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        let mut bytes = [0; N];
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        (Text(bytes), text.len() - end)
    }

    /// The text's bytes, as somebody wrote them: up to the first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The text.
    ///
    /// # Errors
    ///
    /// Whoever published the message wrote something else than UTF-8.
    pub fn as_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self.as_bytes())
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> FromStr for Text<N> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

/// Whatever is no UTF-8 as replacement characters.
impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// What is behind the end does not count.
impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> Hash for Text<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl<const N: usize> PartialEq<str> for Text<N> {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// Up to `N` bytes in a field of a message; `N` is a multiple of 4.
///
/// In a schema it is a struct of a length and `uint8[N]`.
///
/// ```
/// use conduit::msgs::Bytes;
///
/// let bytes = Bytes::<64>::new(b"\x01\x02")?;
/// assert_eq!(*bytes, [1, 2]);
/// # Ok::<(), conduit::msgs::TooManyBytes>(())
/// ```
///
/// ```compile_fail
/// let bytes = conduit::msgs::Bytes::<63>::new(b""); // 1 byte of padding would be missing
/// ```
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Bytes<const N: usize> {
    /// A `u32`, as the schema has it. As bytes, it needs no padding whatever `N` is.
    len: [u8; 4],
    bytes: [u8; N],
}

impl<const N: usize> Bytes<N> {
    /// So that the next of them in an array begins where CDR has it.
    const FITS: () = assert!(N > 0 && N % 4 == 0 && N <= 1 << 30, "`Bytes<N>`: N is a multiple of 4, from 4 to 2^30");
}

// SAFETY: arrays of bytes. The length is looked at only together with `N`.
unsafe impl<const N: usize> Plain for Bytes<N> {}

impl<const N: usize> Field for Bytes<N> {
    const ALIGN: usize = {
        let () = Self::FITS;
        4
    };

    fn type_name() -> String {
        format!("conduit_msgs/Bytes{N}")
    }

    fn define(builder: &mut SchemaBuilder) {
        builder.define(format!("conduit_msgs/msg/Bytes{N}"), |_| format!("uint32 len\nuint8[{N}] bytes\n"));
    }
}

impl<const N: usize> Element for Bytes<N> {}

/// More bytes than a [`Bytes`] has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{len} bytes, where {room} have room")]
pub struct TooManyBytes {
    /// How many there are.
    pub len: usize,
    /// How many have room.
    pub room: usize,
}

impl<const N: usize> Bytes<N> {
    /// A copy of `bytes`.
    ///
    /// # Errors
    ///
    /// [`TooManyBytes`].
    pub fn new(bytes: &[u8]) -> Result<Self, TooManyBytes> {
        let () = Self::FITS;
        let mut copy = Bytes { len: (bytes.len() as u32).to_ne_bytes(), bytes: [0; N] };
        let room = copy.bytes.get_mut(..bytes.len()).ok_or(TooManyBytes { len: bytes.len(), room: N })?;
        room.copy_from_slice(bytes);
        Ok(copy)
    }
}

/// What whoever published the message says it has, and no more than there is.
impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..N.min(u32::from_ne_bytes(self.len) as usize)]
    }
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        let () = Self::FITS;
        Bytes { len: [0; 4], bytes: [0; N] }
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<const N: usize> PartialEq for Bytes<N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<const N: usize> Eq for Bytes<N> {}

impl<const N: usize> Hash for Bytes<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// True or false in a field of a message: `bool` in a schema. Whatever is not 0 is true.
///
/// ```
/// use conduit::msgs::Bool;
///
/// let present = Bool::from(true);
/// assert!(present.get() && present == true);
/// ```
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub struct Bool(u8);

// SAFETY: a byte, of which each value means something.
unsafe impl Plain for Bool {}

impl Field for Bool {
    const ALIGN: usize = 1;

    fn type_name() -> String {
        "bool".into()
    }

    fn define(_: &mut SchemaBuilder) {}
}

impl Element for Bool {}

impl Bool {
    /// Whether it is true.
    pub const fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Self {
        Bool(value.into())
    }
}

impl From<Bool> for bool {
    fn from(value: Bool) -> Self {
        value.get()
    }
}

impl PartialEq for Bool {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Bool {}

impl PartialEq<bool> for Bool {
    fn eq(&self, other: &bool) -> bool {
        self.get() == *other
    }
}

impl Hash for Bool {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

#[cfg(feature = "heapless")]
mod with_heapless {
    use heapless::{String, Vec};

    use super::{Bytes, Text, TextError, TooManyBytes, Utf8Error};

    /// Fails for text with a NUL, and for one that is too long.
    impl<const N: usize, const M: usize> TryFrom<&String<M>> for Text<N> {
        type Error = TextError;

        fn try_from(text: &String<M>) -> Result<Self, TextError> {
            Self::new(text)
        }
    }

    /// Fails for what is no UTF-8.
    impl<const N: usize> TryFrom<&Text<N>> for String<N> {
        type Error = Utf8Error;

        fn try_from(text: &Text<N>) -> Result<Self, Utf8Error> {
            // As long as the text's own room.
            text.as_str().map(|text| text.try_into().unwrap_or_default())
        }
    }

    impl<const N: usize, const M: usize> TryFrom<&Vec<u8, M>> for Bytes<N> {
        type Error = TooManyBytes;

        fn try_from(bytes: &Vec<u8, M>) -> Result<Self, TooManyBytes> {
            Self::new(bytes)
        }
    }

    impl<const N: usize> From<&Bytes<N>> for Vec<u8, N> {
        fn from(bytes: &Bytes<N>) -> Self {
            // As long as its own room.
            Vec::from_slice(bytes).unwrap_or_default()
        }
    }
}
