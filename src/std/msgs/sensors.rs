//! What sensors measure, and what programs say of themselves.

use super::{Bool, Header, Quaternion, Text, Vector3};
use crate::message;

message! {
    /// What an inertial measurement unit measures. Covariances are row-major 3x3 matrices about x, y and z; all zeros
    /// means unknown, -1 in the first element that the unit does not measure this.
    #[derive(PartialEq)]
    pub struct Imu: "conduit_msgs/msg/Imu" {
        /// When it was measured, and the frame of the unit.
        pub header: Header,
        /// Orientation.
        pub orientation: Quaternion,
        /// Covariance of the orientation, rad^2.
        pub orientation_covariance: [f64; 9],
        /// Angular velocity, rad/s.
        pub angular_velocity: Vector3,
        /// Covariance of the angular velocity, (rad/s)^2.
        pub angular_velocity_covariance: [f64; 9],
        /// Linear acceleration, gravity included, m/s^2.
        pub linear_acceleration: Vector3,
        /// Covariance of the linear acceleration, (m/s^2)^2.
        pub linear_acceleration_covariance: [f64; 9],
    }

    /// A magnetic field.
    #[derive(PartialEq)]
    pub struct MagneticField: "conduit_msgs/msg/MagneticField" {
        /// When it was measured, and the frame of the sensor.
        pub header: Header,
        /// T; NaN along an axis that is not measured.
        pub magnetic_field: Vector3,
        /// A row-major 3x3 matrix about x, y and z, T^2; all zeros means unknown.
        pub magnetic_field_covariance: [f64; 9],
    }

    /// A temperature.
    #[derive(PartialEq)]
    pub struct Temperature: "conduit_msgs/msg/Temperature" {
        /// When it was measured, and where.
        pub header: Header,
        /// °C.
        pub temperature: f64,
        /// (°C)^2; 0 means unknown.
        pub variance: f64,
    }

    /// The pressure of a fluid: of the air, or of the water above a vehicle.
    #[derive(PartialEq)]
    pub struct FluidPressure: "conduit_msgs/msg/FluidPressure" {
        /// When it was measured, and where.
        pub header: Header,
        /// Pa, absolute.
        pub fluid_pressure: f64,
        /// Pa^2; 0 means unknown.
        pub variance: f64,
    }

    /// How far it is to the next thing, along the x axis of the frame.
    #[derive(PartialEq)]
    pub struct Range: "conduit_msgs/msg/Range" {
        /// When it was measured, and the frame of the sensor.
        pub header: Header,
        /// By what: [`Range::ULTRASOUND`], [`Range::INFRARED`].
        pub radiation_type: u8,
        #[allow(missing_docs)]
        pub pad: [u8; 3],
        /// The angle within which things are seen, rad.
        pub field_of_view: f32,
        /// The least that can be measured, m.
        pub min_range: f32,
        /// The most that can be measured, m.
        pub max_range: f32,
        /// m; -infinity: something is nearer than can be measured; infinity: there is nothing.
        pub range: f32,
        #[allow(missing_docs)]
        pub pad_end: [u8; 4],
    }

    /// A place on the earth, by satellites.
    #[derive(PartialEq)]
    pub struct NavSatFix: "conduit_msgs/msg/NavSatFix" {
        /// When it was measured, and the frame of the antenna.
        pub header: Header,
        /// Whether there is a place, and what it was augmented by: [`NavSatFix::NO_FIX`] and so on.
        pub status: i8,
        /// What is known of the covariance: [`NavSatFix::COVARIANCE_UNKNOWN`] and so on.
        pub position_covariance_type: u8,
        /// Which systems were used: bits as [`NavSatFix::GPS`].
        pub service: u16,
        #[allow(missing_docs)]
        pub pad: [u8; 4],
        /// Degrees; positive is north of the equator.
        pub latitude: f64,
        /// Degrees; positive is east of the prime meridian.
        pub longitude: f64,
        /// m above the WGS 84 ellipsoid; NaN if unknown.
        pub altitude: f64,
        /// A row-major 3x3 matrix about east, north and up, m^2.
        pub position_covariance: [f64; 9],
    }

    /// How a battery is. What is not measured is NaN.
    #[derive(PartialEq)]
    pub struct BatteryState: "conduit_msgs/msg/BatteryState" {
        /// When it was measured, and where the battery is.
        pub header: Header,
        /// V.
        pub voltage: f32,
        /// °C.
        pub temperature: f32,
        /// A; negative when discharging.
        pub current: f32,
        /// Ah.
        pub charge: f32,
        /// Ah, when it was full last.
        pub capacity: f32,
        /// Ah, when it was new.
        pub design_capacity: f32,
        /// How full it is, from 0 to 1.
        pub percentage: f32,
        /// [`BatteryState::CHARGING`] and so on.
        pub power_supply_status: u8,
        /// [`BatteryState::HEALTH_GOOD`] and so on.
        pub power_supply_health: u8,
        /// [`BatteryState::LI_ION`] and so on.
        pub power_supply_technology: u8,
        /// Whether there is one.
        pub present: Bool,
    }

    /// What a part of a system says of how it is doing.
    #[derive(PartialEq, Eq)]
    pub struct Diagnostic: "conduit_msgs/msg/Diagnostic" {
        /// When.
        pub header: Header,
        /// [`Diagnostic::OK`] and so on.
        pub level: u8,
        #[allow(missing_docs)]
        pub pad: [u8; 7],
        /// The part.
        pub name: Text<64>,
        /// How it is doing.
        pub message: Text<128>,
        /// What identifies the device, such as its serial number.
        pub hardware_id: Text<64>,
    }
}

macro_rules! values {
    ($message:ident: $type:ty { $($name:ident = $value:literal, $what:literal;)+ }) => {
        impl $message {$(
            #[doc = $what]
            pub const $name: $type = $value;
        )+}
    };
}

// As in ROS 2's `sensor_msgs` and `diagnostic_msgs`.
values!(Range: u8 {
    ULTRASOUND = 0, "By sound.";
    INFRARED = 1, "By light.";
});
values!(NavSatFix: i8 {
    NO_FIX = -1, "There is no place.";
    FIX = 0, "There is one.";
    SBAS_FIX = 1, "One that satellites have augmented.";
    GBAS_FIX = 2, "One that stations on the ground have augmented.";
});
values!(NavSatFix: u16 {
    GPS = 1, "GPS.";
    GLONASS = 2, "GLONASS.";
    COMPASS = 4, "BeiDou.";
    GALILEO = 8, "Galileo.";
});
values!(NavSatFix: u8 {
    COVARIANCE_UNKNOWN = 0, "Nothing.";
    COVARIANCE_APPROXIMATED = 1, "It is estimated from the dilution of precision.";
    COVARIANCE_DIAGONAL_KNOWN = 2, "The receiver tells the variances.";
    COVARIANCE_KNOWN = 3, "The receiver tells all of it.";
});
values!(BatteryState: u8 {
    STATUS_UNKNOWN = 0, "Nothing is known.";
    CHARGING = 1, "It is charged.";
    DISCHARGING = 2, "It is discharged.";
    NOT_CHARGING = 3, "Neither.";
    FULL = 4, "It is full.";
    HEALTH_UNKNOWN = 0, "Nothing is known.";
    HEALTH_GOOD = 1, "All is well.";
    HEALTH_OVERHEAT = 2, "It is too hot.";
    HEALTH_DEAD = 3, "It can be charged no more.";
    HEALTH_OVERVOLTAGE = 4, "Its voltage is too high.";
    HEALTH_UNSPEC_FAILURE = 5, "Something else is wrong.";
    HEALTH_COLD = 6, "It is too cold.";
    HEALTH_WATCHDOG_TIMER_EXPIRE = 7, "Its watchdog has expired.";
    HEALTH_SAFETY_TIMER_EXPIRE = 8, "It was charged for too long.";
    TECHNOLOGY_UNKNOWN = 0, "Nothing is known.";
    NI_MH = 1, "Nickel-metal hydride.";
    LI_ION = 2, "Lithium-ion.";
    LI_PO = 3, "Lithium polymer.";
    LI_FE = 4, "Lithium iron phosphate.";
    NI_CD = 5, "Nickel-cadmium.";
    LI_MN = 6, "Lithium manganese.";
});
values!(Diagnostic: u8 {
    OK = 0, "All is well.";
    WARN = 1, "Something may go wrong.";
    ERROR = 2, "Something has gone wrong.";
    STALE = 3, "Nothing was heard for too long.";
});
