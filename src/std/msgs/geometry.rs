//! Where things are, how they are turned, and how they move.

use super::{Header, Text};
use crate::message;

message! {
    /// A vector in space: a direction with a length, which moving the frame's origin does not change.
    #[derive(PartialEq)]
    pub struct Vector3: "geometry_msgs/msg/Vector3" {
        #[allow(missing_docs)]
        pub x: f64,
        #[allow(missing_docs)]
        pub y: f64,
        #[allow(missing_docs)]
        pub z: f64,
    }

    /// A place in space, m.
    #[derive(PartialEq)]
    pub struct Point: "geometry_msgs/msg/Point" {
        #[allow(missing_docs)]
        pub x: f64,
        #[allow(missing_docs)]
        pub y: f64,
        #[allow(missing_docs)]
        pub z: f64,
    }

    /// An orientation in space, of length 1. The default, all zeros, is none: see [`Quaternion::IDENTITY`].
    #[derive(PartialEq)]
    pub struct Quaternion: "geometry_msgs/msg/Quaternion" {
        #[allow(missing_docs)]
        pub x: f64,
        #[allow(missing_docs)]
        pub y: f64,
        #[allow(missing_docs)]
        pub z: f64,
        #[allow(missing_docs)]
        pub w: f64,
    }

    /// Where something is, and how it is turned.
    #[derive(PartialEq)]
    pub struct Pose: "geometry_msgs/msg/Pose" {
        /// Where.
        pub position: Point,
        /// How it is turned.
        pub orientation: Quaternion,
    }

    /// How to get from one frame to another.
    #[derive(PartialEq)]
    pub struct Transform: "geometry_msgs/msg/Transform" {
        /// The other's origin, m.
        pub translation: Vector3,
        /// How the other is turned.
        pub rotation: Quaternion,
    }

    /// A velocity.
    #[derive(PartialEq)]
    pub struct Twist: "geometry_msgs/msg/Twist" {
        /// m/s.
        pub linear: Vector3,
        /// About each axis, rad/s.
        pub angular: Vector3,
    }

    /// An acceleration.
    #[derive(PartialEq)]
    pub struct Accel: "geometry_msgs/msg/Accel" {
        /// m/s^2.
        pub linear: Vector3,
        /// About each axis, rad/s^2.
        pub angular: Vector3,
    }

    /// Force and torque.
    #[derive(PartialEq)]
    pub struct Wrench: "geometry_msgs/msg/Wrench" {
        /// N.
        pub force: Vector3,
        /// N m.
        pub torque: Vector3,
    }

    /// A pose that is not known exactly.
    #[derive(PartialEq)]
    pub struct PoseWithCovariance: "geometry_msgs/msg/PoseWithCovariance" {
        /// What it is most likely.
        pub pose: Pose,
        /// A row-major 6x6 matrix about x, y, z, and rotation about x, y, z.
        pub covariance: [f64; 36],
    }

    /// A velocity that is not known exactly.
    #[derive(PartialEq)]
    pub struct TwistWithCovariance: "geometry_msgs/msg/TwistWithCovariance" {
        /// What it is most likely.
        pub twist: Twist,
        /// A row-major 6x6 matrix about x, y, z, and rotation about x, y, z.
        pub covariance: [f64; 36],
    }

    /// A pose in a frame, at a time.
    #[derive(PartialEq)]
    pub struct PoseStamped: "conduit_msgs/msg/PoseStamped" {
        /// When, and in which frame.
        pub header: Header,
        /// The pose.
        pub pose: Pose,
    }

    /// How a frame lies in another, at a time.
    #[derive(PartialEq)]
    pub struct TransformStamped: "conduit_msgs/msg/TransformStamped" {
        /// When, and the frame that it lies in.
        pub header: Header,
        /// The frame.
        pub child_frame_id: Text<40>,
        /// Takes what is told in the child's frame to the header's.
        pub transform: Transform,
    }

    /// A velocity in a frame, at a time.
    #[derive(PartialEq)]
    pub struct TwistStamped: "conduit_msgs/msg/TwistStamped" {
        /// When, and in which frame.
        pub header: Header,
        /// The velocity.
        pub twist: Twist,
    }

    /// Force and torque in a frame, at a time.
    #[derive(PartialEq)]
    pub struct WrenchStamped: "conduit_msgs/msg/WrenchStamped" {
        /// When, and in which frame.
        pub header: Header,
        /// Force and torque.
        pub wrench: Wrench,
    }

    /// Where something is and how it moves, as far as it can tell by itself.
    #[derive(PartialEq)]
    pub struct Odometry: "conduit_msgs/msg/Odometry" {
        /// When, and the frame of the pose.
        pub header: Header,
        /// The frame of the velocity: that of what moves.
        pub child_frame_id: Text<40>,
        /// Where it is.
        pub pose: PoseWithCovariance,
        /// How it moves.
        pub twist: TwistWithCovariance,
    }
}

macro_rules! from_coordinates {
    ($($name:ident),+) => {$(
        impl From<[f64; 3]> for $name {
            fn from([x, y, z]: [f64; 3]) -> Self {
                $name { x, y, z }
            }
        }

        impl From<$name> for [f64; 3] {
            fn from($name { x, y, z }: $name) -> Self {
                [x, y, z]
            }
        }
    )+};
}
from_coordinates!(Vector3, Point);

/// x, y, z, w.
impl From<[f64; 4]> for Quaternion {
    fn from([x, y, z, w]: [f64; 4]) -> Self {
        Quaternion { x, y, z, w }
    }
}

/// x, y, z, w.
impl From<Quaternion> for [f64; 4] {
    fn from(Quaternion { x, y, z, w }: Quaternion) -> Self {
        [x, y, z, w]
    }
}

impl Quaternion {
    /// Not turned.
    pub const IDENTITY: Quaternion = Quaternion { x: 0.0, y: 0.0, z: 0.0, w: 1.0 };

    /// Turned about the fixed axes: first about x by `roll`, then about y by `pitch`, then about z by `yaw`, rad.
    ///
    /// ```
    /// use conduit::msgs::Quaternion;
    ///
    /// let (roll, pitch, yaw) = Quaternion::from_euler(0.1, -0.2, 3.0).to_euler();
    /// assert!((roll - 0.1).abs() + (pitch + 0.2).abs() + (yaw - 3.0).abs() < 1e-12);
    /// ```
    pub fn from_euler(roll: f64, pitch: f64, yaw: f64) -> Self {
        let ((sr, cr), (sp, cp), (sy, cy)) = ((roll / 2.0).sin_cos(), (pitch / 2.0).sin_cos(), (yaw / 2.0).sin_cos());
        Quaternion {
            x: sr * cp * cy - cr * sp * sy,
            y: cr * sp * cy + sr * cp * sy,
            z: cr * cp * sy - sr * sp * cy,
            w: cr * cp * cy + sr * sp * sy,
        }
    }

    /// Roll, pitch and yaw: see [`from_euler`](Self::from_euler). The pitch is within a quarter turn; at a quarter turn, where
    /// roll and yaw turn about the same axis, the roll is told as 0. The length need not be 1.
    pub fn to_euler(self) -> (f64, f64, f64) {
        let Quaternion { x, y, z, w } = self;
        let square = x * x + y * y + z * z + w * w;
        let sine = 2.0 * (w * y - z * x) / square;
        // Closer to it the others are noise.
        if sine.abs() > 1.0 - 1e-12 {
            let yaw = -2.0 * sine.signum() * x.atan2(w);
            return (0.0, std::f64::consts::FRAC_PI_2.copysign(sine), yaw);
        }
        let roll = (2.0 * (w * x + y * z)).atan2(w * w - x * x - y * y + z * z);
        let yaw = (2.0 * (w * z + x * y)).atan2(w * w + x * x - y * y - z * z);
        (roll, sine.asin(), yaw)
    }
}

impl Pose {
    /// At the origin, not turned.
    pub const IDENTITY: Pose = Pose { position: Point { x: 0.0, y: 0.0, z: 0.0 }, orientation: Quaternion::IDENTITY };
}

impl Transform {
    /// From a frame to itself.
    pub const IDENTITY: Transform =
        Transform { translation: Vector3 { x: 0.0, y: 0.0, z: 0.0 }, rotation: Quaternion::IDENTITY };
}
