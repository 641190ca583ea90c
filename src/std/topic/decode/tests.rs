use proptest::prelude::*;

use super::*;
use crate::msgs::Imu;
use crate::topic::Payload;

crate::message! {
    #[derive(PartialEq)]
    struct Part: "test_msgs/msg/Part" {
        id: u16,
        flags: [u8; 6],
        weight: f64,
    }

    #[derive(PartialEq)]
    struct Whole: "test_msgs/msg/Whole" {
        a: u8,
        b: i8,
        c: u16,
        d: i32,
        e: u64,
        f: i64,
        g: [f32; 3],
        h: u32,
        parts: [Part; 2],
        last: Part,
    }
}

fn format_of<T: Payload>() -> Format {
    Format::of(&T::schema()).unwrap()
}

fn bytes_of<T: Payload + Copy>(message: &T) -> Vec<u8> {
    // SAFETY: test messages have no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(message).cast::<u8>(), size_of::<T>()) }.to_vec()
}

fn refused(definition: &str) -> String {
    match Format::parse("t/msg/T", definition) {
        Err(error) => error.to_string(),
        Ok(format) => panic!("{definition:?} was read as {format:?}"),
    }
}

#[test]
fn a_message_is_read_by_its_own_schema_as_rust_reads_it() {
    let part = |id| Part { id, flags: [1, 2, 3, 4, 5, id as u8], weight: -0.25 * f64::from(id) };
    let whole = Whole {
        a: 1,
        b: -2,
        c: 3,
        d: -4,
        e: u64::MAX,
        f: i64::MIN,
        g: [0.1, f32::NAN, f32::NEG_INFINITY],
        h: 7,
        parts: [part(8), part(9)],
        last: part(10),
    };
    let (format, bytes) = (format_of::<Whole>(), bytes_of(&whole));
    assert_eq!((format.name(), format.size()), ("test_msgs/msg/Whole", size_of::<Whole>()));
    let text = format.decode(&bytes).unwrap().to_string();
    assert_eq!(
        text,
        concat!(
            r#"{"a":1,"b":-2,"c":3,"d":-4,"e":18446744073709551615,"f":-9223372036854775808,"#,
            r#""g":[0.1,"NaN","-Infinity"],"h":7,"parts":["#,
            r#"{"id":8,"flags":[1,2,3,4,5,8],"weight":-2.0},{"id":9,"flags":[1,2,3,4,5,9],"weight":-2.25}],"#,
            r#""last":{"id":10,"flags":[1,2,3,4,5,10],"weight":-2.5}}"#
        )
    );
    assert_eq!(format.encode(&text).unwrap(), bytes);
}

#[test]
fn every_message_type_of_this_crate_can_be_decoded() {
    let imu = Imu { angular_velocity: [1.0, 2.0, 3.0].into(), ..Imu::default() };
    let format = format_of::<Imu>();
    let bytes = bytes_of(&imu);
    let z = format.field("angular_velocity.z").unwrap();
    assert_eq!(format.decode_field(z, &bytes), Ok(Value::Float64(3.0)));
    assert_eq!(format.encode(r#"{"angular_velocity": {"x": 1, "y": 2, "z": 3}}"#).unwrap(), bytes);
}

#[test]
fn a_path_finds_what_walking_the_tree_finds() {
    let format = format_of::<Whole>();
    let bytes: Vec<u8> = (0..format.size()).map(|at| at as u8).collect();
    let find = |path: &str| format.decode_field(format.field(path).unwrap(), &bytes).unwrap();
    let Value::Struct(whole) = format.decode(&bytes).unwrap() else { panic!("a message is a struct") };
    let Some(Value::Array(parts)) = whole.get("parts") else { panic!("an array of parts") };
    let Some(Value::Struct(second)) = parts.get(1) else { panic!("a second part") };
    assert_eq!((parts.len(), parts.get(2)), (2, None));
    assert_eq!(find("parts[1]"), Value::Struct(second));
    assert_eq!(Some(find("parts[1].weight")), second.get("weight"));
    assert_eq!(
        find("parts[1].flags[5]"),
        Value::Unsigned(bytes[std::mem::offset_of!(Whole, parts) + 16 + 2 + 5].into())
    );
    assert_eq!(second.name(), "test_msgs/Part");
}

#[test]
fn a_path_to_nothing_says_what_there_is() {
    let format = format_of::<Whole>();
    let reason = |path: &str| format.field(path).unwrap_err().to_string();
    assert!(reason("part").contains("test_msgs/msg/Whole has a, b, c, d, e, f, g, h, parts, last"));
    assert!(reason("last.mass").contains("test_msgs/Part has id, flags, weight"));
    assert!(reason("parts[2]").contains("`parts` has 2 elements, 0 to 1"));
    assert!(reason("parts.id").contains("an array of 2 (say which: [0] to [1])"));
    assert!(reason("a.b").contains("`b` cannot be looked up in an integer"));
    assert!(reason("a[0]").contains("`a` is an integer, no array"));
    for path in ["", ".", "a.", "parts[", "parts[x]", "parts[0", "parts]0[", "parts[0]x", "parts[-1]"] {
        assert!(format.field(path).is_err(), "{path}");
    }
}

#[test]
fn definitions_are_read_as_people_write_them() {
    let text = "
# a comment, and a constant
uint8 KIND_A=1
int32 LIMIT = -5 # more
string NAME = \"#\"
Header header   # of the std_msgs kind
other_msgs/msg/Leaf[2] leaves
Mine mine
bool ready true
byte[2] raw
char c

================================================================================
MSG: std_msgs/Header
uint32 seq
=====
MSG: other_msgs/Leaf
uint16[2] x
===
MSG: t/Mine
int8 v 3
";
    let format = Format::parse("t/msg/T", text).unwrap();
    assert_eq!(format.size(), 4 + 8 + 1 + 1 + 2 + 1);
    let bytes: Vec<u8> = (1..=17).collect();
    let text = format.decode(&bytes).unwrap().to_string();
    assert!(text.ends_with(r#""mine":{"v":13},"ready":true,"raw":[15,16],"c":17}"#), "{text}");
}

#[test]
fn what_has_no_fixed_length_is_refused_with_its_line() {
    for (definition, line, reason) in [
        ("uint8 a\nstring s", 2, "`s` has no fixed length, because strings"),
        ("string<=10 s", 1, "strings differ in length"),
        ("wstring s", 1, "strings differ in length"),
        ("float64[] x", 1, "its arrays differ in length"),
        ("float64[<=3] x", 1, "differ in length up to a bound"),
    ] {
        let error = refused(definition);
        assert!(error.starts_with(&format!("line {line} of the definition")) && error.contains(reason), "{error}");
    }
}

#[test]
fn implicit_padding_is_refused_and_says_which_field_comes_after_it() {
    assert!(refused("uint8 a\nfloat64 b").contains("`b` would begin at byte 8 after implicit padding"));
    assert!(refused("uint8 a\nL l\n===\nMSG: t/L\nuint16 x").contains("`l` would begin at byte 2"));
    assert!(refused("L[2] l\n===\nMSG: t/L\nuint16 x\nuint8 y").contains("between them"));
    assert!(Format::parse("t/T", "L[1] l\nuint8 z\n===\nMSG: t/L\nuint16 x\nuint8 y").is_ok());
}

#[test]
fn nonsense_is_refused() {
    for definition in [
        "",
        "# nothing",
        "uint8",
        "uint8 2x",
        "uint8 a-b",
        "uint8[x] a",
        "uint8[0] a",
        "uint8[2][2] a",
        "uint8[3 a",
        "uint8[-1] a",
        "a..b c",
        "/ c",
        "Unknown x",
        "uint8 a\nuint8 a",
        "T t",
        "A a\n===\nMSG: t/A\nB b\n===\nMSG: t/B\nA a",
        "uint8 a\n===\nuint8 b",
        "uint8 a\n===",
        "uint8 a\n===\nMSG: t/B\nuint8 b\n===\nMSG: t/B\nuint8 c",
        "B b\n===\nMSG: t/B\n",
    ] {
        refused(definition);
    }
}

#[test]
fn a_hostile_definition_has_limits_to_run_into() {
    let deep: String = (0..100).map(|at| format!("T{} x\n===\nMSG: t/T{}\n", at, at)).collect();
    assert!(refused(&format!("{deep}uint8 x")).contains("nested more than 32 deep"));
    let wide = "uint8 x\n".to_string() + &"===\nMSG: t/X\n".repeat(MAX_TYPES);
    assert!(refused(&wide).contains("more than 1024 types"));
    let long: String = (0..=MAX_FIELDS).map(|at| format!("uint8 f{at}\n")).collect();
    assert!(refused(&long).contains("more than 65536 fields"));
    assert!(refused("uint8[1073741825] x").contains("no length of an array"));
    assert!(refused("uint64[1073741824] x").contains("larger than 1073741824 bytes"));
    // Each level sixteen times the one before: sixteen levels would be 2^64 bytes.
    let bomb: String = (0..16).map(|at| format!("T{at}[16] x\n===\nMSG: t/T{at}\n")).collect();
    assert!(refused(&format!("{bomb}uint8 x")).contains("larger than"));
    assert!(refused("uint8[99999999999999999999] x").contains("no length of an array"));
    let quoted = refused(&format!("{} x", "\u{1b}[2J".repeat(1000)));
    assert!(quoted.len() < 500 && !quoted.contains('\u{1b}'), "{quoted}");
}

#[test]
fn a_message_of_another_length_is_refused() {
    let format = Format::parse("t/msg/T", "uint32 a").unwrap();
    for len in [0, 3, 5] {
        let error = format.decode(&vec![0; len]).unwrap_err();
        assert_eq!(error, FormatError::WrongLength { len, name: "t/msg/T".into(), expected: 4 });
    }
}

#[test]
fn a_field_of_another_format_is_an_error_and_no_panic() {
    let large = format_of::<Whole>();
    let small = Format::parse("t/T", "uint8 a").unwrap();
    for path in ["a", "last", "parts", "parts[1].weight", "g"] {
        let _ = small.decode_field(large.field(path).unwrap(), &[0]);
    }
    assert!(small.decode_field(large.field("last").unwrap(), &[0]).is_err());
}

#[test]
fn other_encodings_are_named_in_the_error() {
    let schema = Schema { message_encoding: "json".into(), schema_encoding: "jsonschema".into(), ..Schema::opaque() };
    assert!(Format::of(&schema).unwrap_err().to_string().contains("`json` with a schema in `jsonschema`"));
    let schema = Schema { data: b"uint8 a\n\xff".to_vec(), ..<Imu as Payload>::schema() };
    assert_eq!(
        Format::of(&schema).unwrap_err().to_string(),
        "line 2 of the definition: it is no text",
        "bytes that are no text have a line, too"
    );
}

#[test]
fn json_that_is_no_message_of_the_type_says_where() {
    let format = format_of::<Whole>();
    for (json, error) in [
        (r#"{"a": 256}"#, "a: an integer from 0 to 255 is expected, not 256"),
        (r#"{"a": 1.0}"#, "a: an integer from 0 to 255 is expected, not 1.0"),
        (r#"{"b": -129}"#, "b: an integer from -128 to 127 is expected, not -129"),
        (r#"{"last": {"weight": "heavy"}}"#, "last.weight: a number in the range of f64 is expected, not a string"),
        (r#"{"last": {"weight": 1e999}}"#, "last.weight: a number in the range of f64 is expected, not 1e999"),
        (r#"{"g": [1, 2]}"#, "g: 3 elements are expected, not 2"),
        (r#"{"parts": [{}, {"id": null}]}"#, "parts[1].id: an integer from 0 to 65535 is expected, not null"),
        (r#"{"parts": [{}, {"mass": 1}]}"#, "parts[1]: test_msgs/Part has no field \"mass\": it has id, flags, weight"),
        (r#"{"a": 1, "a": 2}"#, "field \"a\" is there twice"),
        ("[]", "an object is expected, not an array"),
        ("", "no JSON: it ends too early, at byte 0"),
        (r#"{"a": 1} x"#, "no JSON: more follows the value, at byte 9"),
    ] {
        assert_eq!(format.encode(json).unwrap_err().to_string(), error, "{json}");
    }
}

#[test]
fn text_that_is_no_json_is_refused_without_a_panic() {
    let format = Format::parse("t/T", "uint8 a").unwrap();
    let nested = "[".repeat(10_000);
    for json in [
        "{",
        "}",
        "{\"",
        "{\"a",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "[1",
        "[1,]",
        "[,]",
        "01",
        "-",
        "1.",
        "1e",
        "1e+",
        ".5",
        "+1",
        "nul",
        "'a'",
        "\"\\",
        "\"\\x\"",
        "\"\\u\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0020\"",
        "\"\\ud800\\ue000\"",
        "\"\\udc00\"",
        "\"\\uä123\"",
        "\"\n\"",
        "\"\\ä\"",
        "\u{feff}{}",
        &nested,
    ] {
        assert!(format.encode(json).is_err(), "{json:.20}");
    }
    let spelled = format.encode("\r\n\t { \"\\u0061\" : 7 } ").unwrap();
    assert_eq!(spelled, [7]);
}

/// A type and JSON values of it.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(&'static str),
    Array(Box<Tree>, usize),
    Struct(Vec<Tree>),
}

/// What each primitive's alignment is, to sort fields by: the largest first needs no padding.
fn size(tree: &Tree) -> (usize, usize) {
    match tree {
        Tree::Leaf(name) => {
            let size = match name.trim_start_matches(|c: char| c.is_ascii_alphabetic()) {
                "64" => 8,
                "32" => 4,
                "16" => 2,
                _ => 1,
            };
            (size, size)
        }
        Tree::Array(of, count) => {
            let (len, align) = size(of);
            (len * count, align)
        }
        Tree::Struct(fields) => {
            let (len, align) =
                fields.iter().map(size).fold((0, 1), |(len, most), (size, align)| (len + size, most.max(align)));
            (len.next_multiple_of(align), align)
        }
    }
}

/// Writes the definition of a struct's fields, padded; nested structs go to `others`.
fn define(tree: &Tree, others: &mut Vec<String>) -> String {
    match tree {
        Tree::Leaf(name) => (*name).into(),
        Tree::Array(of, count) => match &**of {
            // The format has no arrays of arrays.
            Tree::Array(..) => define(&Tree::Array(Box::new(Tree::Struct(vec![(**of).clone()])), *count), others),
            of => format!("{}[{count}]", define(of, others)),
        },
        Tree::Struct(fields) => {
            let at = others.len();
            others.push(String::new());
            let mut lines = String::new();
            let mut end = 0;
            for (field, tree) in fields.iter().enumerate() {
                lines.push_str(&format!("{} f{field} # field {field}\n", define(tree, others)));
                end += size(tree).0;
            }
            let (len, _) = size(tree);
            if len > end {
                lines.push_str(&format!("uint8[{}] pad\n", len - end));
            }
            others[at] = lines;
            format!("t/S{at}")
        }
    }
}

fn definition(tree: &Tree) -> String {
    let mut sections = Vec::new();
    define(tree, &mut sections);
    let mut text = sections[0].clone();
    for (at, section) in sections.iter().enumerate().skip(1) {
        text.push_str(&format!("{}\nMSG: t/S{at}\n{section}", "=".repeat(80)));
    }
    text
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop::sample::select(vec![
        "bool", "byte", "char", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32",
        "float64",
    ])
    .prop_map(Tree::Leaf);
    let tree = leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            (inner.clone(), 1..5usize).prop_map(|(of, count)| Tree::Array(Box::new(of), count)),
            prop::collection::vec(inner, 1..5).prop_map(Tree::Struct),
        ]
    });
    prop::collection::vec(tree, 1..5).prop_map(|fields| sorted(Tree::Struct(fields)))
}

/// The fields of every struct by falling alignment.
fn sorted(tree: Tree) -> Tree {
    match tree {
        Tree::Leaf(name) => Tree::Leaf(name),
        Tree::Array(of, count) => Tree::Array(Box::new(sorted(*of)), count),
        Tree::Struct(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(sorted).collect();
            fields.sort_by_key(|field| std::cmp::Reverse(size(field).1));
            Tree::Struct(fields)
        }
    }
}

/// The paths to all numbers of a value.
fn leaves(value: Value<'_>, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Struct(fields) => {
            let dot = if path.is_empty() { "" } else { "." };
            fields.fields().for_each(|(name, value)| leaves(value, &format!("{path}{dot}{name}"), found));
        }
        Value::Array(array) => {
            array.iter().enumerate().for_each(|(at, value)| leaves(value, &format!("{path}[{at}]"), found));
        }
        number => found.push((path.into(), number.to_string())),
    }
}

proptest! {
    #[test]
    fn what_is_decoded_encodes_to_the_same_bytes(tree in trees(), seed in prop::collection::vec(any::<u8>(), 64)) {
        let format = Format::parse("t/S0", &definition(&tree)).unwrap();
        prop_assert_eq!(format.size(), size(&tree).0);
        // Bytes below 2 are booleans, and no float of such bytes is a NaN, whose bits JSON would not keep.
        let bytes: Vec<u8> = (0..format.size()).map(|at| seed[at % seed.len()] & 1).collect();
        let text = format.decode(&bytes).unwrap().to_string();
        prop_assert_eq!(format.encode(&text).unwrap(), bytes);
    }

    #[test]
    fn any_bytes_decode_and_each_number_is_found_by_its_path(tree in trees(), seed in prop::collection::vec(any::<u8>(), 64)) {
        let format = Format::parse("t/S0", &definition(&tree)).unwrap();
        let bytes: Vec<u8> = (0..format.size()).map(|at| seed[at % seed.len()]).collect();
        let message = format.decode(&bytes).unwrap();
        let again = format.encode(&message.to_string()).unwrap();
        // NaNs may change their bits, and a bool of 7 becomes 1; what they mean stays.
        prop_assert_eq!(format.decode(&again).unwrap().to_string(), message.to_string());
        let mut found = Vec::new();
        leaves(message, "", &mut found);
        for (path, text) in found {
            let value = format.decode_field(format.field(&path).unwrap(), &bytes).unwrap();
            prop_assert_eq!(value.to_string(), text, "{}", path);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(lines in prop::collection::vec("[a-z0-9/_\\[\\]<=# ]{0,12}|===|MSG: [a-z/]{1,5}|uint8 [a-z]|[a-z](\\[[0-9]{1,3}\\])? [a-z]", 0..20)) {
        if let Ok(format) = Format::parse("t/msg/a", &lines.join("\n")) {
            let bytes = vec![0xa5; format.size()];
            let text = format.decode(&bytes).unwrap().to_string();
            prop_assert!(format.encode(&text).is_ok());
        }
    }

    #[test]
    fn any_json_is_read_or_refused(json in "[\\[\\]{}:,\"a-b0-9.eE+\\\\u -]{0,40}") {
        let format = Format::parse("t/T", "uint8 a\nuint8[2] b").unwrap();
        let _ = format.encode(&json);
    }
}
