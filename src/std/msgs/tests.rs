use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::topic::Payload;
use crate::topic::decode::Format;
use crate::topic::message::bytes_of;

crate::message! {
    struct Labelled: "test_msgs/msg/Labelled" {
        stamp: Time,
        name: Text<11>,
        present: Bool,
        flags: [Bool; 4],
        payload: Bytes<12>,
        payloads: [Bytes<4>; 2],
    }
}

#[test]
fn each_type_is_decoded_by_its_schema() {
    let schemas = schemas();
    for schema in &schemas {
        let format = Format::of(schema).unwrap();
        let zeros = vec![0; format.size()];
        let text = format.decode(&zeros).unwrap().to_string();
        assert_eq!(format.encode(&text).unwrap(), zeros, "{}", schema.name);
    }
    assert_eq!(
        schemas.iter().map(|schema| &schema.name).collect::<std::collections::BTreeSet<_>>().len(),
        schemas.len()
    );
}

/// What ROS 2 has under the same name: of `common_interfaces` and `rcl_interfaces`, without comments.
#[test]
fn types_with_names_of_ros_have_the_fields_that_ros_gives_them() {
    let xyz = "float64 x\nfloat64 y\nfloat64 z\n";
    let vectors = |a: &str, b: &str| format!("geometry_msgs/Vector3 {a}\ngeometry_msgs/Vector3 {b}\n");
    let expected = [
        ("builtin_interfaces/msg/Time", "int32 sec\nuint32 nanosec\n".to_string()),
        ("builtin_interfaces/msg/Duration", "int32 sec\nuint32 nanosec\n".into()),
        ("geometry_msgs/msg/Vector3", xyz.into()),
        ("geometry_msgs/msg/Point", xyz.into()),
        ("geometry_msgs/msg/Quaternion", format!("{xyz}float64 w\n")),
        ("geometry_msgs/msg/Pose", "geometry_msgs/Point position\ngeometry_msgs/Quaternion orientation\n".into()),
        (
            "geometry_msgs/msg/Transform",
            "geometry_msgs/Vector3 translation\ngeometry_msgs/Quaternion rotation\n".into(),
        ),
        ("geometry_msgs/msg/Twist", vectors("linear", "angular")),
        ("geometry_msgs/msg/Accel", vectors("linear", "angular")),
        ("geometry_msgs/msg/Wrench", vectors("force", "torque")),
        ("geometry_msgs/msg/PoseWithCovariance", "geometry_msgs/Pose pose\nfloat64[36] covariance\n".into()),
        ("geometry_msgs/msg/TwistWithCovariance", "geometry_msgs/Twist twist\nfloat64[36] covariance\n".into()),
    ];
    for schema in schemas() {
        let text = String::from_utf8(schema.data).unwrap();
        let own = text.split("====").next().unwrap();
        match expected.iter().find(|(name, _)| *name == schema.name) {
            Some((_, fields)) => assert_eq!(own, fields, "{}", schema.name),
            None => assert!(schema.name.starts_with("conduit_msgs/"), "{}", schema.name),
        }
    }
}

#[test]
fn text_bytes_and_truth_are_decoded_as_what_they_are() {
    let message = Labelled {
        stamp: Time { sec: -1, nanosec: 2 },
        name: "left \"arm\"".parse().unwrap(),
        present: true.into(),
        flags: [true, false, false, true].map(Bool::from),
        payload: Bytes::new(&[1, 2, 3]).unwrap(),
        payloads: [Bytes::new(&[4, 5, 6, 7]).unwrap(), Bytes::default()],
    };
    let format = Format::of(&Labelled::schema()).unwrap();
    let text = format.decode(bytes_of(&message)).unwrap().to_string();
    let expected = concat!(
        r#"{"stamp":{"sec":-1,"nanosec":2},"name":"left \"arm\"","present":true,"flags":[true,false,false,true],"#,
        r#""payload":{"len":3,"bytes":[1,2,3,0,0,0,0,0,0,0,0,0]},"#,
        r#""payloads":[{"len":4,"bytes":[4,5,6,7]},{"len":0,"bytes":[0,0,0,0]}]}"#
    );
    assert_eq!(text, expected);
    assert_eq!(format.encode(&text).unwrap(), bytes_of(&message));
    let wrong = |json: &str| format.encode(json).unwrap_err().to_string();
    assert_eq!(wrong(r#"{"name": "twelve bytes"}"#), "name: a text of at most 11 bytes is expected, not of 12");
    assert!(wrong("{\"name\": \"a\\u0000b\"}").contains("NUL"));
}

/// Whatever whoever publishes a message writes into it.
#[test]
fn any_bits_are_a_value() {
    for byte in 0..=255u8 {
        let bytes = [byte; size_of::<Labelled>()];
        // SAFETY: the type is plain, and there are as many bytes as it has.
        let message: Labelled = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
        assert_eq!(message.present, byte != 0);
        assert_eq!(message.name.as_bytes().len(), if byte == 0 { 0 } else { 11 });
        assert_eq!(message.name.as_str().is_ok(), byte < 128);
        assert_eq!(message.payload.len(), if byte == 0 { 0 } else { 12 });
        let _ = format!("{message:?} {}", message.name);
        assert_eq!(message.name, message.name);
    }
    let format = Format::of(&Labelled::schema()).unwrap();
    let mut bytes = vec![0; format.size()];
    let name = format.field("name").unwrap();
    // No UTF-8; and something behind the end, which would not be shown.
    for shown in [[0xff, b'a', 0], [b'a', 0, b'b']] {
        bytes[8..11].copy_from_slice(&shown);
        let text = format.decode_field(name, &bytes).unwrap().to_string();
        assert!(text.starts_with(&format!("[{},{},{},0", shown[0], shown[1], shown[2])), "{text}");
        assert_eq!(format.encode(&format.decode(&bytes).unwrap().to_string()).unwrap(), bytes);
    }
}

proptest! {
    #[test]
    fn text_that_fits_comes_back_and_other_text_is_refused_or_cut(text in "[a-zA-Zäß€😀\0]{0,12}") {
        type Room = Text<16>;
        match Room::new(&text) {
            Ok(copy) => {
                prop_assert_eq!(copy.as_str(), Ok(&*text));
                prop_assert_eq!(copy.to_string(), &*text);
                prop_assert_eq!(Room::cut(&text), (copy, 0));
            }
            Err(TextError::Nul { at }) => prop_assert_eq!(text.find('\0'), Some(at)),
            Err(TextError::TooLong { len, room }) => {
                prop_assert_eq!((len, room), (text.len(), 16));
                prop_assert!(len > room);
            }
        }
        let (cut, left_out) = Room::cut(&text);
        let kept = text.len() - left_out;
        prop_assert_eq!(cut.as_str(), Ok(&text[..kept]));
        let next = text[kept..].chars().next();
        prop_assert!(next.is_none_or(|next| next == '\0' || kept + next.len_utf8() > 16));
    }

    #[test]
    fn times_keep_every_nanosecond_that_they_can_tell(nanos: i64) {
        let second = 1_000_000_000;
        let fits = i32::try_from(nanos.div_euclid(second)).is_ok();
        for nanos in [Some(nanos), (!fits).then_some(nanos / 8)].into_iter().flatten() {
            let fits = i32::try_from(nanos.div_euclid(second)).is_ok();
            prop_assert_eq!(Time::from_nanos(nanos).map(Time::as_nanos), fits.then_some(nanos));
            prop_assert_eq!(Duration::from_nanos(nanos).map(Duration::as_nanos), fits.then_some(nanos));
            let span = std::time::Duration::from_nanos(nanos.unsigned_abs());
            let system: Option<SystemTime> = if nanos < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
            if let Some(system) = system {
                prop_assert_eq!(Time::try_from(system).ok(), Time::from_nanos(nanos));
            }
        }
    }

    /// Turning by the axes, one after the other, is what the quaternion says.
    #[test]
    fn angles_come_back_from_a_quaternion(roll in -3.1..3.1f64, pitch in -1.5..1.5f64, yaw in -3.1..3.1f64, length in 0.1..10f64) {
        let turned = Quaternion::from_euler(roll, pitch, yaw);
        let [x, y, z, w] = turned.into();
        prop_assert!((x * x + y * y + z * z + w * w - 1.0).abs() < 1e-12);
        let (r, p, y) = Quaternion::from([x, y, z, w].map(|part| part * length)).to_euler();
        prop_assert!((r - roll).abs() + (p - pitch).abs() + (y - yaw).abs() < 1e-6, "{:?}", (r, p, y));
    }
}

#[test]
fn at_a_quarter_turn_of_pitch_the_quaternion_still_comes_back() {
    for pitch in [std::f64::consts::FRAC_PI_2, -std::f64::consts::FRAC_PI_2] {
        for (roll, yaw) in [(0.0, 0.5), (0.3, 0.4), (-1.0, 2.0), (0.0, 0.0)] {
            let turned: [f64; 4] = Quaternion::from_euler(roll, pitch, yaw).into();
            let (r, p, y) = Quaternion::from(turned).to_euler();
            assert!(r == 0.0 && (p - pitch).abs() < 1e-6);
            let again: [f64; 4] = Quaternion::from_euler(r, p, y).into();
            // A quaternion and its negative are one orientation.
            let dot: f64 = turned.iter().zip(again).map(|(a, b)| a * b).sum();
            assert!((dot.abs() - 1.0).abs() < 1e-9, "{turned:?} {again:?}");
        }
    }
}

#[test]
fn one_turn_about_an_axis_is_the_quaternion_of_that_axis() {
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let quarter = std::f64::consts::FRAC_PI_2;
    let near = |turned: Quaternion, expected: [f64; 4]| {
        let turned: [f64; 4] = turned.into();
        assert!(turned.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{turned:?} {expected:?}");
    };
    near(Quaternion::from_euler(quarter, 0.0, 0.0), [half, 0.0, 0.0, half]);
    near(Quaternion::from_euler(0.0, quarter, 0.0), [0.0, half, 0.0, half]);
    near(Quaternion::from_euler(0.0, 0.0, quarter), [0.0, 0.0, half, half]);
    near(Quaternion::from_euler(0.0, 0.0, 0.0), Quaternion::IDENTITY.into());
}

#[cfg(feature = "heapless")]
#[test]
fn text_and_bytes_go_to_heapless_and_back() {
    let text: heapless::String<16> = "left arm".try_into().unwrap();
    let field = Text::<16>::try_from(&text).unwrap();
    assert_eq!(heapless::String::try_from(&field), Ok(text.clone()));
    assert_eq!(Text::<4>::try_from(&text), Err(TextError::TooLong { len: 8, room: 4 }));
    let bytes = heapless::Vec::<u8, 8>::from_slice(&[1, 2, 3]).unwrap();
    let field = Bytes::<8>::try_from(&bytes).unwrap();
    assert_eq!(heapless::Vec::from(&field), bytes);
    assert_eq!(Bytes::<4>::try_from(&heapless::Vec::<u8, 8>::from([0; 5])), Err(TooManyBytes { len: 5, room: 4 }));
}
