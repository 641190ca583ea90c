//! What is promised of messages that serde writes.
#![cfg(feature = "serde")]

mod support;

use std::collections::{BTreeMap, HashMap};

use conduit::msgs::{Cbor, Json};
use conduit::topic::{Payload, Schema, SlotKind};
use conduit::{Error, Publisher, Subscriber};
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use support::Domain;

/// What a job is doing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
struct Status {
    name: String,
    progress: f64,
    state: State,
    tags: BTreeMap<String, Vec<i64>>,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
enum State {
    Idle,
    Failed { code: i32, reason: String },
    Running(u64),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
struct Other {
    name: String,
}

fn status() -> impl Strategy<Value = Status> {
    let state = prop_oneof![
        Just(State::Idle),
        (any::<i32>(), ".*").prop_map(|(code, reason)| State::Failed { code, reason }),
        any::<u64>().prop_map(State::Running),
    ];
    let tags = prop::collection::btree_map(".{0,5}", prop::collection::vec(any::<i64>(), 0..4), 0..4);
    (".*", -1e300..1e300f64, state, tags, prop::option::of(".*"))
        .prop_map(|(name, progress, state, tags, note)| Status { name, progress, state, tags, note })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn what_is_published_is_received(statuses in prop::collection::vec(status(), 1..10)) {
        let domain = Domain::new();
        let mut json = domain.publisher::<Json<Status>>().max_len(1 << 16).open("json").unwrap();
        let mut cbor = domain.publisher::<Cbor<Status>>().max_len(1 << 16).open("cbor").unwrap();
        let mut of_json = domain.subscriber_of::<Json<Status>>().open("json").unwrap();
        let mut of_cbor = domain.subscriber_of::<Cbor<Status>>().open("cbor").unwrap();
        let mut bytes = domain.subscriber().open("json").unwrap();
        for (at, status) in statuses.iter().enumerate() {
            prop_assert_eq!(json.publish(status).unwrap(), at as u64);
            prop_assert_eq!(cbor.publish(status).unwrap(), at as u64);
            let message = of_json.recv().unwrap();
            prop_assert!(message.timestamp().is_some());
            prop_assert_eq!(&message.get().unwrap(), status);
            let by_hand = serde_json::to_vec(status).unwrap();
            prop_assert_eq!(message.as_bytes(), &by_hand);
            prop_assert_eq!(&*bytes.recv().unwrap(), &*by_hand);
            prop_assert_eq!(&of_cbor.recv().unwrap().get().unwrap(), status);
        }
        drop((of_json, of_cbor, bytes));
        json.remove().unwrap();
        cbor.remove().unwrap();
    }
}

#[test]
fn a_topic_says_what_it_carries_and_other_types_are_refused() {
    let domain = Domain::new();
    let publisher = domain.publisher::<Json<Status>>().open("t").unwrap();
    let schema = publisher.schema();
    assert_eq!((&*schema.message_encoding, &*schema.schema_encoding, &*schema.name), ("json", "jsonschema", "Status"));
    let definition: serde_json::Value = serde_json::from_slice(&schema.data).unwrap();
    assert_eq!(definition["title"], "Status");
    assert_eq!(definition["properties"]["progress"]["type"], "number");
    assert_eq!(definition["description"], "What a job is doing.");
    for error in [
        domain.subscriber_of::<Json<Other>>().open("t").unwrap_err(),
        domain.subscriber_of::<Cbor<Status>>().open("t").unwrap_err(),
    ] {
        assert!(matches!(error, Error::SchemaMismatch { .. }), "{error}");
    }
    publisher.remove().unwrap();
}

/// Programs are built with other features of `serde_json`, which decide on the order of keys.
#[test]
fn the_schema_of_a_type_is_the_same_text_everywhere() {
    let text = String::from_utf8(<Json<Status> as Payload>::schema().data).unwrap();
    let ordered: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(text.starts_with(r##"{"$defs":{"State":"##), "{text}");
    let keys: Vec<_> = ordered.keys().collect();
    let places: Vec<_> = keys.iter().map(|key| text.rfind(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{keys:?} {text}");
}

#[test]
fn what_says_nothing_of_its_type_is_taken_and_each_message_looked_at() {
    let domain = Domain::new();
    let schema = Schema { message_encoding: "json".into(), ..Schema::opaque() };
    let mut publisher = domain.publisher::<[u8]>().schema(schema).open("t").unwrap();
    let mut subscriber = domain.subscriber_of::<Json<Other>>().open("t").unwrap();
    publisher.publish(br#"{"name": "left"}"#).unwrap();
    assert_eq!(subscriber.recv().unwrap().get().unwrap(), Other { name: "left".into() });
    for (bytes, reason) in [
        (&b"\xff\x00"[..], "expected value"),
        (b"", "EOF"),
        (br#"{"name": 7}"#, "invalid type: integer `7`, expected a string"),
        (br#"{"name": "a"} {}"#, "trailing characters"),
    ] {
        publisher.publish(bytes).unwrap();
        let message = subscriber.recv().unwrap();
        let error = message.get().unwrap_err().to_string();
        assert!(error.contains("Other in JSON") && error.contains(reason), "{error}");
        assert_eq!(message.as_bytes(), bytes);
    }
    drop(subscriber);
    publisher.remove().unwrap();
    let schema = Schema { message_encoding: "cbor".into(), ..Schema::opaque() };
    let mut publisher = domain.publisher::<[u8]>().schema(schema).open("c").unwrap();
    let mut subscriber = domain.subscriber_of::<Cbor<u32>>().open("c").unwrap();
    // The last says that more than any memory follows.
    for (bytes, reason) in [
        (&b"\x07\x07"[..], "1 bytes follow"),
        (b"\x61a", "invalid type"),
        (b"", "EndOfFile"),
        (b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", "CBOR"),
    ] {
        publisher.publish(bytes).unwrap();
        let error = subscriber.recv().unwrap().get().unwrap_err().to_string();
        assert!(error.contains("no u32 in CBOR") && (error.contains(reason) || reason == "EndOfFile"), "{error}");
    }
    drop(subscriber);
    publisher.remove().unwrap();
}

#[test]
fn what_does_not_fit_is_not_published_and_the_error_says_how_long_it_is() {
    let domain = Domain::new();
    let mut publisher = domain.publisher::<Json<Other>>().max_len(20).open("t").unwrap();
    let mut subscriber = domain.subscriber_of::<Json<Other>>().open("t").unwrap();
    let of = |len: usize| Other { name: "x".repeat(len) };
    // {"name":""} is 11 bytes.
    publisher.publish(&of(9)).unwrap();
    let error = publisher.publish(&of(1000)).unwrap_err();
    assert!(matches!(error, Error::TooLong { len: 1011, max: 20, .. }), "{error}");
    assert!(matches!(publisher.publish(&of(10)), Err(Error::TooLong { len: 21, .. })));
    assert_eq!(publisher.publish(&of(0)).unwrap(), 1);
    assert_eq!(subscriber.recv().unwrap().get().unwrap(), of(9));
    let next = subscriber.recv().unwrap();
    assert_eq!((next.get().unwrap(), next.sequence(), next.lagged()), (of(0), 1, 0));
    drop((next, subscriber));
    publisher.remove().unwrap();
}

#[test]
fn what_json_has_no_words_for_is_an_error_and_not_published() {
    let domain = Domain::new();
    let mut publisher = domain.publisher::<Json<HashMap<(i32, i32), i32>>>().open("t").unwrap();
    let error = publisher.publish(&HashMap::from([((1, 2), 3)])).unwrap_err();
    assert!(matches!(error, Error::Unserializable { .. }), "{error}");
    assert!(error.to_string().contains("key must be a string"), "{error}");
    assert_eq!(publisher.next_sequence(), 0);
    publisher.remove().unwrap();
}

#[test]
fn slots_of_one_length_are_refused() {
    let domain = Domain::new();
    let options = domain.publisher::<Cbor<u8>>().slots(SlotKind::Words).max_len(8);
    assert!(matches!(options.open("t"), Err(Error::InvalidOption { option: "slots", .. })));
}

#[test]
fn handles_move_between_threads_whatever_the_type() {
    fn moves<T: Send + 'static>() {}
    moves::<Publisher<Json<Status>>>();
    moves::<Subscriber<Cbor<Status>>>();
    moves::<conduit::Sample<Json<std::cell::Cell<u8>>>>();
}
