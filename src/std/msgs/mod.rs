//! Message types that come with the crate, in the names and units of the field.
//!
//! Units are SI, but for degrees Celsius, ampere-hours, and degrees of latitude and longitude; angles are in radians, frames are right-handed with x forward, y left and z up
//! ([REP 103](https://www.ros.org/reps/rep-0103.html)). Types of which ROS 2 has one of the same layout have its name; the
//! others, mostly those with text in them, which ROS 2 keeps outside of the message, are of the package `conduit_msgs`.
//!
//! | | |
//! |---|---|
//! | time, and where it holds | [`Time`], [`Duration`], [`Header`] |
//! | geometry | [`Vector3`], [`Point`], [`Quaternion`], [`Pose`], [`Transform`], [`Twist`], [`Accel`], [`Wrench`] |
//! | at a time, in a frame | [`PoseStamped`], [`TransformStamped`], [`TwistStamped`], [`WrenchStamped`], [`Odometry`] |
//! | sensors | [`Imu`], [`MagneticField`], [`Temperature`], [`FluidPressure`], [`Range`], [`NavSatFix`], [`BatteryState`] |
//! | what a program says of itself | [`Diagnostic`] |
//! | fields of your own types: text, bytes, truth | [`Text`], [`Bytes`], [`Bool`] |
#![cfg_attr(feature = "serde", doc = "| any type that serde knows | [`Json`], [`Cbor`] |")]
#![cfg_attr(not(feature = "serde"), doc = "| any type that serde knows | `Json`, `Cbor` (feature `serde`) |")]
//!
//! ```
//! use conduit::msgs::{Header, Pose, PoseStamped, Quaternion, Time};
//!
//! let pose = Pose { position: [1.0, 2.0, 0.0].into(), orientation: Quaternion::from_euler(0.0, 0.0, 1.5) };
//! let header = Header { stamp: Time::now(), frame_id: "map".parse()? };
//! let message = PoseStamped { header, pose };
//! assert_eq!(message.header.frame_id, *"map");
//! # Ok::<(), conduit::msgs::TextError>(())
//! ```
//!
//! Your own are declared by [`message!`](crate::message), and may have these in their fields.

mod geometry;
mod sensors;
#[cfg(feature = "serde")]
mod serial;
mod text;
mod time;

pub use self::geometry::{
    Accel, Odometry, Point, Pose, PoseStamped, PoseWithCovariance, Quaternion, Transform, TransformStamped, Twist,
    TwistStamped, TwistWithCovariance, Vector3, Wrench, WrenchStamped,
};
pub use self::sensors::{BatteryState, Diagnostic, FluidPressure, Imu, MagneticField, NavSatFix, Range, Temperature};
#[cfg(feature = "serde")]
pub use self::serial::{Cbor, DecodeError, Json};
pub use self::text::{Bool, Bytes, Text, TextError, TooManyBytes};
pub use self::time::{Duration, Header, Time};

/// The schemas of the types that come with the crate.
pub fn schemas() -> Vec<crate::topic::Schema> {
    macro_rules! of {
        ($($message:ty),+) => { vec![$(<$message as crate::topic::Payload>::schema()),+] };
    }
    of!(
        Time,
        Duration,
        Header,
        Vector3,
        Point,
        Quaternion,
        Pose,
        PoseStamped,
        PoseWithCovariance,
        Transform,
        TransformStamped,
        Twist,
        TwistStamped,
        TwistWithCovariance,
        Accel,
        Wrench,
        WrenchStamped,
        Odometry,
        Imu,
        MagneticField,
        Temperature,
        FluidPressure,
        Range,
        NavSatFix,
        BatteryState,
        Diagnostic
    )
}

#[cfg(test)]
mod tests;
