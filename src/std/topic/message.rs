//! Message types: structs whose bytes in shared memory are the message, in Rust and in CDR alike.

use std::mem::MaybeUninit;

use super::schema::{MAX_NAME, Schema, SchemaBuilder, short_name};
use crate::core::plain::Plain;

/// A fixed-size message type. Declare one with [`message!`](crate::message).
///
/// # Safety
///
/// The implementer promises what [`Plain`] asks for, that the type is aligned to 8 bytes, and that
/// [`define`](Message::define) describes its bytes: each field in order, padding included, each primitive at a multiple
/// of its own size. Then the bytes are the body of a little-endian XCDR1 message as they stand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message type",
    note = "declare it with `conduit::message! {{ .. }}`, or use `[u8]` for bytes"
)]
pub unsafe trait Message: Plain {
    /// Name of the type, as `package/msg/Type`.
    const NAME: &'static str;
    /// Room for a copy of a message on a topic with Words slots: `[u64; inline_words(size_of::<Self>())]`.
    type Inline: Inline;
    /// Adds the definition of this type, and of those in its fields, to a schema.
    fn define(builder: &mut SchemaBuilder);
}

/// A type that a field of a message can have: a fixed-width number, another message, or an array of either.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a message",
    label = "not a fixed-width number, another `message!`, or an array of either",
    note = "use `conduit::msgs::Bool` for a `bool`, `Text<N>` for a `String`, `Bytes<N>` for a `Vec<u8>`, `u32` for a `char`, and `u64` or `u32` for a `usize`; for an array of arrays, one long array"
)]
pub trait Field: Plain {
    /// What the offset of such a field must be a multiple of, by XCDR1's table: not the target's `align_of`, which for
    /// `f64` is 4 on i686.
    const ALIGN: usize;
    /// The type's name in the `ros2msg` format.
    fn type_name() -> String;
    /// Adds the definitions that the field's type needs.
    fn define(builder: &mut SchemaBuilder);
}

macro_rules! number {
    ($($t:ty => $name:literal),*) => {$(
        impl Field for $t {
            const ALIGN: usize = size_of::<$t>();
            fn type_name() -> String {
                $name.into()
            }
            fn define(_: &mut SchemaBuilder) {}
        }
        impl Element for $t {}
    )*};
}
number!(u8 => "uint8", i8 => "int8", u16 => "uint16", i16 => "int16", u32 => "uint32", i32 => "int32",
        u64 => "uint64", i64 => "int64", f32 => "float32", f64 => "float64");

/// A field that is not an array: the format has no arrays of arrays.
pub trait Element: Field {}

impl<T: Message> Field for T {
    const ALIGN: usize = 8;
    fn type_name() -> String {
        short_name(T::NAME)
    }
    fn define(builder: &mut SchemaBuilder) {
        <T as Message>::define(builder);
    }
}
impl<T: Message> Element for T {}

impl<T: Element, const N: usize> Field for [T; N] {
    const ALIGN: usize = T::ALIGN;
    fn type_name() -> String {
        format!("{}[{N}]", T::type_name())
    }
    fn define(builder: &mut SchemaBuilder) {
        T::define(builder);
    }
}

/// The largest message that travels in Words slots unless an option says otherwise.
pub(crate) const MAX_INLINE: usize = 256;

/// How many words a copy of a message of `size` bytes takes; 0 for one that never travels in Words slots.
pub const fn inline_words(size: usize) -> usize {
    if size <= MAX_INLINE { size.div_ceil(8) } else { 0 }
}

/// Room for the copy of a small message: an array of `u64`.
pub trait Inline: sealed::Room + Copy + Send + Sync + 'static {
    /// Bytes of room.
    const LEN: usize;
}

impl<const N: usize> Inline for [u64; N] {
    const LEN: usize = N * 8;
}

/// What it holds, aligned as messages are: a `u64` is not on every target.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Aligned<T>(pub(super) T);

pub(crate) mod sealed {
    pub trait Room {}
    impl<const N: usize> Room for [u64; N] {}

    pub trait Sealed {}
    impl<T: super::Message> Sealed for T {}
    impl Sealed for [u8] {}
}

/// What a topic can carry: any [`Message`], or bytes.
pub trait Payload: sealed::Sealed + Send + Sync + 'static {
    /// Room for a copy of a message on a topic with Words slots.
    type Inline: Inline;
    /// The one length that every message has, if there is one.
    #[doc(hidden)]
    const LEN: Option<usize>;
    /// Whether more is known of the messages than their bytes.
    #[doc(hidden)]
    const IS_TYPED: bool;
    /// How the messages are to be read.
    #[doc(hidden)]
    fn schema() -> Schema;
    /// Whether the messages of a topic that says this of itself are of this type.
    #[doc(hidden)]
    fn accepts(found: &Schema) -> bool {
        *found == Self::schema()
    }
    /// The message that stands at `data`.
    ///
    /// # Safety
    ///
    /// `data` is aligned to 8 bytes and readable for `len` bytes, `len` is `LEN` if there is one, and nobody writes
    /// there while the result lives.
    #[doc(hidden)]
    unsafe fn view<'a>(data: *const u8, len: usize) -> &'a Self;
}

impl<T: Message> Payload for T {
    type Inline = T::Inline;
    const LEN: Option<usize> = Some(size_of::<T>());
    const IS_TYPED: bool = true;

    fn schema() -> Schema {
        let mut builder = SchemaBuilder::default();
        <T as Message>::define(&mut builder);
        Schema {
            message_encoding: "cdr".into(),
            schema_encoding: "ros2msg".into(),
            name: T::NAME.into(),
            data: builder.finish().into_bytes(),
        }
    }

    #[inline(always)]
    unsafe fn view<'a>(data: *const u8, _: usize) -> &'a T {
        // SAFETY: the caller promises room, alignment and quiet; T is valid for every bit pattern.
        unsafe { &*data.cast() }
    }
}

impl Payload for [u8] {
    // A line; longer copies go to the heap, so that samples stay small enough to be moved around.
    type Inline = [u64; 8];
    const LEN: Option<usize> = None;
    const IS_TYPED: bool = false;

    fn schema() -> Schema {
        Schema::opaque()
    }

    fn accepts(_: &Schema) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn view<'a>(data: *const u8, len: usize) -> &'a [u8] {
        // SAFETY: the caller promises `len` readable bytes and quiet.
        unsafe { std::slice::from_raw_parts(data, len) }
    }
}

/// A payload whose messages differ in length: bytes, and what is serialised.
pub trait Varying: Payload {}
impl Varying for [u8] {}

/// The bytes of a message.
#[inline(always)]
pub(crate) fn bytes_of<T: Message>(message: &T) -> &[u8] {
    // SAFETY: T is plain, so each of its bytes is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(message).cast(), size_of::<T>()) }
}

/// A message of zeros.
#[doc(hidden)]
pub fn zeroed<T: Plain>() -> T {
    // SAFETY: T is valid for every bit pattern.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Whether `name` is a type's name: `package/msg/Type`, each part a letter and then letters, digits and underscores.
#[doc(hidden)]
pub const fn is_type_name(name: &str) -> bool {
    let name = name.as_bytes();
    let (mut at, mut part, mut part_began) = (0, 0, 0);
    while at <= name.len() {
        if at == name.len() || name[at] == b'/' {
            let middle =
                part == 1 && at == part_began + 3 && matches!(name.split_at(part_began).1, [b'm', b's', b'g', ..]);
            if at == part_began || (part == 1) != middle {
                return false;
            }
            (part, part_began) = (part + 1, at + 1);
        } else if !(name[at].is_ascii_alphabetic()
            || at > part_began && (name[at].is_ascii_digit() || name[at] == b'_'))
        {
            return false;
        }
        at += 1;
    }
    part == 3 && name.len() <= MAX_NAME
}

/// Whether a field that must be aligned to `align` may begin at `offset`.
#[doc(hidden)]
pub const fn is_aligned(offset: usize, align: usize) -> bool {
    offset % align == 0
}

/// Declares a message type: the struct, its checked layout and its schema together.
///
/// ```
/// conduit::message! {
///     /// What one joint does.
///     #[derive(PartialEq)]
///     pub struct Joint: "arm_msgs/msg/Joint" {
///         /// Radians.
///         pub position: f64,
///         /// Newton metres.
///         pub effort: f32,
///         pub id: u16,
///         pub pad: [u8; 2],
///     }
/// }
///
/// let joint = Joint { position: 0.5, id: 3, ..Joint::default() };
/// assert_eq!(joint, Joint { position: 0.5, effort: 0.0, id: 3, pad: [0; 2] });
/// ```
///
/// The name has the form `package/msg/Type`. Fields are fixed-width numbers, other messages, arrays of either, and
/// [`Text`](crate::msgs::Text), [`Bytes`](crate::msgs::Bytes) and [`Bool`](crate::msgs::Bool); pointers, `usize`, `bool`, `char` and
/// 128-bit integers are refused at compile time. So is implicit padding: each number
/// stands at a multiple of its own size, each message at a multiple of 8, and the struct is a multiple of 8 bytes long.
/// Padding must be named as a field, because the schema names every byte, which is what makes the struct in memory a CDR
/// message as it stands.
///
/// ```compile_fail
/// conduit::message! {
///     pub struct Holey: "demo/msg/Holey" {
///         pub small: u8,
///         pub large: u64, // begins at 1: seven bytes of padding are missing
///     }
/// }
/// ```
///
/// The struct is `Copy`, `Debug`, and `Default` (all zeros).
#[macro_export]
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $type_name:literal {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $field_type:ty),+ $(,)?
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C, align(8))]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $field_type),+
        }

        const _: () = {
            assert!(
                $crate::topic::is_type_name($type_name),
                ::core::concat!("`", $type_name, "` is no type name: it has the form `package/msg/Type`, up to 128 letters, \
                    digits and underscores, each part beginning with a letter")
            );
            let mut end = 0;
            $(
                assert!(
                    $crate::topic::is_aligned(end, <$field_type as $crate::topic::Field>::ALIGN),
                    ::core::concat!("`", stringify!($field), "` of `", stringify!($name), "` would have padding in front \
                        of it: put a field such as `pad: [u8; N]` there, so that it begins at a multiple of its size")
                );
                assert!(::core::mem::offset_of!($name, $field) == end);
                end += ::core::mem::size_of::<$field_type>();
            )+
            assert!(
                end == ::core::mem::size_of::<$name>(),
                ::core::concat!("`", stringify!($name), "` is not a multiple of 8 bytes long: end it with a field such as \
                    `pad: [u8; N]`")
            );
        };

        // SAFETY: each field is plain, and the assertions above leave no byte between or behind them.
        unsafe impl $crate::ring::Plain for $name {}

        // SAFETY: as above; the struct is aligned to 8, and the definition lists its fields in order.
        unsafe impl $crate::Message for $name {
            const NAME: &'static str = $type_name;
            type Inline = [u64; $crate::topic::inline_words(::core::mem::size_of::<$name>())];

            fn define(builder: &mut $crate::topic::SchemaBuilder) {
                builder.define($type_name, |builder| {
                    let mut lines = ::std::string::String::new();
                    $(
                        <$field_type as $crate::topic::Field>::define(builder);
                        lines.push_str(&<$field_type as $crate::topic::Field>::type_name());
                        // `r#type` is how Rust spells `type`.
                        let field = stringify!($field);
                        lines.extend([" ", field.strip_prefix("r#").unwrap_or(field), "\n"]);
                    )+
                    lines
                });
            }
        }

        impl ::core::default::Default for $name {
            fn default() -> Self {
                $crate::topic::zeroed()
            }
        }
    )+};
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msgs::{Imu, Vector3};

    #[test]
    fn a_schema_defines_each_type_once_and_the_message_first() {
        let schema = Imu::schema();
        let text = String::from_utf8(schema.data.clone()).unwrap();
        assert!(text.starts_with("conduit_msgs/Header header\ngeometry_msgs/Quaternion orientation\n"), "{text}");
        assert_eq!(text.matches("MSG: geometry_msgs/Vector3\n").count(), 1);
        assert_eq!(text.matches(&"=".repeat(80)).count(), 4);
        assert!(text.contains("float64[9] linear_acceleration_covariance\n"));
        assert_eq!(schema.hash(), Imu::schema().hash());
        assert_ne!(schema.hash(), Vector3::schema().hash());
    }

    #[test]
    fn a_type_has_a_package_and_a_name() {
        for name in ["a/msg/B", "conduit_msgs/msg/Imu", "p2/msg/T_3"] {
            assert!(is_type_name(name), "{name}");
        }
        let long = format!("a/msg/{}", "b".repeat(MAX_NAME));
        for name in [
            "",
            "Imu",
            "a/B",
            "a/msg/",
            "/msg/B",
            "a//B",
            "a/srv/B",
            "a/msgs/B",
            "a/msg/B/C",
            "2/msg/B",
            "a/msg/_",
            "a/msg/b-c",
            &long,
        ] {
            assert!(!is_type_name(name), "{name}");
        }
    }

    #[test]
    fn only_messages_that_words_slots_take_have_room_for_a_copy() {
        assert_eq!(<Vector3 as Message>::Inline::LEN, 24);
        assert_eq!(<Imu as Message>::Inline::LEN, 0);
        assert_eq!((inline_words(0), inline_words(1), inline_words(256), inline_words(257)), (0, 1, 32, 0));
    }
}
