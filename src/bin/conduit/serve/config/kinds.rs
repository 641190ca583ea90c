//! The kinds of values: what each takes, and how it is written so that it can be read again.

use std::fmt::Display;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use conduit::topic::Pattern;
use conduit::yaml::quantity::{exact_size, show_duration as time, show_size as size};
use conduit::yaml::{Fault, Value};
use serde_json::Value as Json;

use super::Secret;
use crate::units;

/// A kind of values.
pub trait Kind {
    /// What a configuration has.
    type Of;

    /// What is possible, for an error.
    fn expected(&self) -> String;

    /// The value, if it is possible.
    fn read(&self, value: &Value) -> Option<Self::Of>;

    /// How it is written.
    fn show(&self, value: &Self::Of) -> Json;

    /// The value.
    ///
    /// # Errors
    ///
    /// [`Fault::Wrong`].
    fn take(&self, value: &Value) -> Result<Self::Of, Fault> {
        self.read(value).ok_or_else(|| Fault::Wrong { expected: self.expected(), found: self.found(value) })
    }

    /// What was found instead.
    fn found(&self, value: &Value) -> String {
        value.describe()
    }
}

/// What can be turned off.
pub struct Optional<K>(pub K);

impl<K: Kind> Kind for Optional<K> {
    type Of = Option<K::Of>;

    fn expected(&self) -> String {
        format!("{}, or off", self.0.expected())
    }

    fn read(&self, value: &Value) -> Option<Self::Of> {
        match value {
            Value::Truth(false) => Some(None),
            Value::Text(text) if text == "off" => Some(None),
            value => self.0.read(value).map(Some),
        }
    }

    fn show(&self, value: &Self::Of) -> Json {
        value.as_ref().map_or_else(|| "off".into(), |value| self.0.show(value))
    }

    fn found(&self, value: &Value) -> String {
        self.0.found(value)
    }
}

/// A whole number.
pub struct Whole<T>(pub RangeInclusive<T>);

/// One that is a power of two.
pub struct PowerOfTwo(pub RangeInclusive<usize>);

/// Whole numbers, none of them twice.
pub struct Wholes;

/// A part of a whole in hundredths, as percent.
pub struct Fraction;

pub struct Truth;

/// One of a few words.
pub struct Word<T>(PhantomData<T>);

pub const fn word<T: Words>() -> Word<T> {
    Word(PhantomData)
}

pub struct Address;

/// How long something may take, in time.
pub struct Time(pub RangeInclusive<Duration>);

/// Bytes.
pub struct Size(pub RangeInclusive<usize>);

pub struct Directory;

pub struct Token;

/// The name of a domain, or none.
pub struct Domain;

/// Patterns of topics; at least one.
pub struct Patterns;

/// A type of fields that hold a whole number.
pub trait Integer: Copy + PartialOrd + Display + TryFrom<i128> + Into<Json> {}

impl Integer for u16 {}
impl Integer for u32 {}
impl Integer for usize {}

impl<T: Integer> Kind for Whole<T> {
    type Of = T;

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.0.start(), self.0.end())
    }

    fn read(&self, value: &Value) -> Option<T> {
        let Value::Integer(number) = value else { return None };
        T::try_from(*number).ok().filter(|number| self.0.contains(number))
    }

    fn show(&self, value: &T) -> Json {
        (*value).into()
    }
}

impl Kind for PowerOfTwo {
    type Of = usize;

    fn expected(&self) -> String {
        format!("a power of two from {} to {}", self.0.start(), self.0.end())
    }

    fn read(&self, value: &Value) -> Option<usize> {
        Whole(self.0.clone()).read(value).filter(|number| number.is_power_of_two())
    }

    fn show(&self, value: &usize) -> Json {
        (*value).into()
    }
}

impl Kind for Wholes {
    type Of = Vec<usize>;

    fn expected(&self) -> String {
        "a list of CPUs such as [0, 1], none of them twice".into()
    }

    fn read(&self, value: &Value) -> Option<Vec<usize>> {
        let Value::List(nodes) = value else { return None };
        let mut numbers = Vec::new();
        for node in nodes {
            let number = Whole(0..=4095).read(&node.value)?;
            if numbers.contains(&number) {
                return None;
            }
            numbers.push(number);
        }
        Some(numbers)
    }

    fn show(&self, value: &Vec<usize>) -> Json {
        value.clone().into()
    }
}

impl Kind for Fraction {
    type Of = u8;

    fn expected(&self) -> String {
        "a fraction from 0 to 1 in hundredths, such as 0.85".into()
    }

    fn read(&self, value: &Value) -> Option<u8> {
        let fraction = match value {
            Value::Number(fraction) => *fraction,
            Value::Integer(number @ 0..=1) => *number as f64,
            _ => return None,
        };
        // 0.57 is not 57 hundredths to the last bit.
        let percent = (fraction * 100.0).round();
        ((0.0..=100.0).contains(&percent) && (fraction * 100.0 - percent).abs() < 1e-9).then_some(percent as u8)
    }

    fn show(&self, value: &u8) -> Json {
        (f64::from(*value) / 100.0).into()
    }
}

impl Kind for Truth {
    type Of = bool;

    fn expected(&self) -> String {
        "true or false".into()
    }

    fn read(&self, value: &Value) -> Option<bool> {
        if let Value::Truth(truth) = value { Some(*truth) } else { None }
    }

    fn show(&self, value: &bool) -> Json {
        (*value).into()
    }
}

/// An enum whose cases are words of the configuration.
pub trait Words: Sized + Copy + 'static {
    const ALL: &'static [Self];

    fn word(self) -> &'static str;
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($case:ident = $word:literal),+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($case),+
        }

        impl kinds::Words for $name {
            const ALL: &'static [Self] = &[$($name::$case),+];

            fn word(self) -> &'static str {
                match self {
                    $($name::$case => $word),+
                }
            }
        }
    };
}
pub(super) use words;

impl<T: Words> Kind for Word<T> {
    type Of = T;

    fn expected(&self) -> String {
        let words: Vec<_> = T::ALL.iter().map(|case| case.word()).collect();
        match words.split_last() {
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        }
    }

    fn read(&self, value: &Value) -> Option<T> {
        let Value::Text(text) = value else { return None };
        T::ALL.iter().copied().find(|case| case.word() == text)
    }

    fn show(&self, value: &T) -> Json {
        value.word().into()
    }
}

impl Kind for Address {
    type Of = IpAddr;

    fn expected(&self) -> String {
        "an IP address such as 127.0.0.1 or ::1".into()
    }

    fn read(&self, value: &Value) -> Option<IpAddr> {
        if let Value::Text(text) = value { IpAddr::from_str(text).ok() } else { None }
    }

    fn show(&self, value: &IpAddr) -> Json {
        value.to_string().into()
    }
}

impl Kind for Time {
    type Of = Duration;

    fn expected(&self) -> String {
        format!("a time from {} to {} with its unit", time(*self.0.start()), time(*self.0.end()))
    }

    fn read(&self, value: &Value) -> Option<Duration> {
        let Value::Text(text) = value else { return None };
        units::duration(text).ok().filter(|time| self.0.contains(time))
    }

    fn show(&self, value: &Duration) -> Json {
        time(*value).into()
    }
}

impl Kind for Size {
    type Of = usize;

    fn expected(&self) -> String {
        format!("a size from {} to {}", size(*self.0.start()), size(*self.0.end()))
    }

    fn read(&self, value: &Value) -> Option<usize> {
        let bytes = match value {
            Value::Integer(bytes) => usize::try_from(*bytes).ok()?,
            Value::Text(text) => units::size(text).ok()?,
            _ => return None,
        };
        self.0.contains(&bytes).then_some(bytes)
    }

    fn show(&self, value: &usize) -> Json {
        exact_size(*value).map_or_else(|| (*value).into(), Json::from)
    }
}

impl Kind for Directory {
    type Of = PathBuf;

    fn expected(&self) -> String {
        "a path".into()
    }

    fn read(&self, value: &Value) -> Option<PathBuf> {
        match value {
            Value::Text(text) if !text.is_empty() && !text.contains('\0') => Some(text.into()),
            _ => None,
        }
    }

    fn show(&self, value: &PathBuf) -> Json {
        value.to_string_lossy().into()
    }
}

impl Kind for Token {
    type Of = Secret;

    fn expected(&self) -> String {
        format!("text of {}, in quotes if it is all digits", Secret::EXPECTED)
    }

    fn read(&self, value: &Value) -> Option<Secret> {
        let Value::Text(text) = value else { return None };
        Secret::new(text)
    }

    fn show(&self, _: &Secret) -> Json {
        HIDDEN.into()
    }

    /// Says nothing of what it is.
    fn found(&self, _: &Value) -> String {
        "something else".into()
    }
}

/// What is shown for it: too short to be taken for one.
const HIDDEN: &str = "***";

impl Kind for Domain {
    type Of = String;

    fn expected(&self) -> String {
        "up to 32 of A-Z, a-z, 0-9, _ and -".into()
    }

    fn read(&self, value: &Value) -> Option<String> {
        let Value::Text(text) = value else { return None };
        let fits = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        fits.then(|| text.clone())
    }

    fn show(&self, value: &String) -> Json {
        value.as_str().into()
    }
}

impl Kind for Patterns {
    type Of = Vec<Pattern>;

    fn expected(&self) -> String {
        "a list of topics or patterns such as [\"sensors/*\"]".into()
    }

    fn read(&self, value: &Value) -> Option<Vec<Pattern>> {
        let Value::List(nodes) = value else { return None };
        let pattern = |value: &Value| match value {
            // No topic's name is longer.
            Value::Text(text) if (1..=200).contains(&text.len()) => Some(Pattern::new(text)),
            _ => None,
        };
        let patterns = nodes.iter().map(|node| pattern(&node.value)).collect::<Option<Vec<_>>>()?;
        (!patterns.is_empty()).then_some(patterns)
    }

    fn show(&self, value: &Vec<Pattern>) -> Json {
        value.iter().map(Pattern::as_str).collect::<Vec<_>>().into()
    }
}

/// A list in a sentence.
pub fn listed(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
