//! Points in time, spans, and what messages say of when and where they hold.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Text;
use crate::message;

message! {
    /// A point in time: since the beginning of 1970 (UTC), or whatever else a clock counts from.
    #[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Time: "builtin_interfaces/msg/Time" {
        /// Seconds.
        pub sec: i32,
        /// Nanoseconds within the second.
        pub nanosec: u32,
    }

    /// A span of time.
    #[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Duration: "builtin_interfaces/msg/Duration" {
        /// Seconds.
        pub sec: i32,
        /// Nanoseconds to be added, however many seconds there are.
        pub nanosec: u32,
    }

    /// When a message's values hold, and in which frame of reference.
    #[derive(PartialEq, Eq, Hash)]
    pub struct Header: "conduit_msgs/msg/Header" {
        /// When: for a measurement, when it was taken.
        pub stamp: Time,
        /// The frame.
        pub frame_id: Text<40>,
    }
}

const SECOND: i64 = 1_000_000_000;

/// Seconds and nanoseconds, if the seconds fit.
const fn split(nanos: i64) -> Option<(i32, u32)> {
    let sec = nanos.div_euclid(SECOND);
    if sec < i32::MIN as i64 || sec > i32::MAX as i64 {
        return None;
    }
    Some((sec as i32, nanos.rem_euclid(SECOND) as u32))
}

impl Time {
    /// The last that there is: on 19 January 2038.
    pub const MAX: Time = Time { sec: i32::MAX, nanosec: 999_999_999 };

    /// Now, by the system's clock; after 2038 [`MAX`](Self::MAX).
    pub fn now() -> Self {
        SystemTime::now().try_into().unwrap_or(Self::MAX)
    }

    /// The time of so many nanoseconds since 1970; `None` from 2038 on, and before 1901.
    ///
    /// ```
    /// use conduit::msgs::Time;
    ///
    /// let time = Time::from_nanos(-1).unwrap();
    /// assert_eq!((time, time.as_nanos()), (Time { sec: -1, nanosec: 999_999_999 }, -1));
    /// assert_eq!(Time::from_nanos(i64::MAX), None);
    /// ```
    pub const fn from_nanos(nanos: i64) -> Option<Self> {
        match split(nanos) {
            Some((sec, nanosec)) => Some(Time { sec, nanosec }),
            None => None,
        }
    }

    /// Nanoseconds since 1970.
    pub const fn as_nanos(self) -> i64 {
        self.sec as i64 * SECOND + self.nanosec as i64
    }
}

/// Fails before 1901 and from 2038 on.
impl TryFrom<SystemTime> for Time {
    type Error = std::num::TryFromIntError;

    fn try_from(time: SystemTime) -> Result<Self, Self::Error> {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => i128::try_from(since.as_nanos())?,
            Err(before) => -i128::try_from(before.duration().as_nanos())?,
        };
        let sec = i32::try_from(nanos.div_euclid(SECOND.into()))?;
        Ok(Time { sec, nanosec: nanos.rem_euclid(SECOND.into()) as u32 })
    }
}

impl Duration {
    /// A span of so many nanoseconds; `None` beyond 68 years.
    pub const fn from_nanos(nanos: i64) -> Option<Self> {
        match split(nanos) {
            Some((sec, nanosec)) => Some(Duration { sec, nanosec }),
            None => None,
        }
    }

    /// How many nanoseconds it is.
    pub const fn as_nanos(self) -> i64 {
        self.sec as i64 * SECOND + self.nanosec as i64
    }
}
