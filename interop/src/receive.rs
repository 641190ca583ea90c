//! What Conduit reads of files, and plays.

use std::collections::BTreeMap;
use std::path::Path;

use conduit::Subscriber;
use conduit::tank::{Player, Query, Recording};
use conduit::topic::{Overflow, Schema};

use crate::Failure;
use crate::record::{Domain, PATIENCE};
use crate::truth::{Channel, Difference, Message, Truth, same};

/// Reads a file.
pub fn recording(path: &Path, truth: &Truth) -> Result<Result<(), Difference>, Failure> {
    let recording = Recording::open(path)?;
    let mut found = Vec::new();
    let mut messages = recording.messages(Query::new())?;
    while let Some(message) = messages.next()? {
        found.push(Message {
            topic: message.topic.name.clone(),
            sequence: Some(message.sequence),
            log_time: message.log_time,
            publish_time: Some(message.publish_time),
            data: message.data.into(),
            fields: None,
        });
    }
    let channels = recording.topics().iter().map(|topic| Channel {
        topic: topic.name.clone(),
        schema: topic.schema.clone(),
        metadata: Some(topic.metadata.clone()),
    });
    Ok(same("problems", &&[][..], &recording.problems())
        .and_then(|()| truth.compare_channels(channels.collect()))
        .and_then(|()| truth.compare(&found))
        .and_then(|()| {
            same("messages as they are counted", &(truth.messages.len() as u64), &recording.message_count())
        }))
}

/// Plays a file to a subscriber of each topic, none of which may miss a message.
pub fn player(path: &Path, truth: &Truth) -> Result<Result<(), Difference>, Failure> {
    let mut expected = BTreeMap::<&str, (&Schema, Vec<&[u8]>)>::new();
    for channel in &truth.channels {
        expected.insert(played(&channel.topic), (&channel.schema, Vec::new()));
    }
    for message in &truth.messages {
        let (schema, messages) = expected.get_mut(played(&message.topic)).ok_or("a message of a topic that is none")?;
        // On a topic the bytes of the encapsulation are left out.
        messages.push(if schema.message_encoding == "cdr" { &message.data[4..] } else { &message.data });
    }
    let domain = Domain::new("play");
    let options = Player::options().domain(&domain.0).overflow(Overflow::Block).wait_for_subscribers(PATIENCE);
    let player = options.as_fast_as_possible().start([path])?;
    let received = std::thread::scope(|scope| {
        let listeners: Vec<_> = expected
            .iter()
            .map(|(topic, (schema, messages))| {
                let domain = &domain;
                scope
                    .spawn(move || listen(domain, topic, schema, messages).map_err(|error| format!("{topic}: {error}")))
            })
            .collect();
        listeners.into_iter().map(|listener| listener.join().expect("a listener does not panic")).collect::<Vec<_>>()
    });
    let mut differences = Vec::new();
    for received in received {
        differences.extend(received?.err());
    }
    if !differences.is_empty() {
        player.stop()?;
        return Ok(Err(differences.remove(0)));
    }
    let report = player.finish()?;
    for (topic, (_, messages)) in &expected {
        let counts = report.topics.get(*topic).copied().unwrap_or_default();
        let counted = [counts.published, counts.refused, counts.repeated];
        if let Err(difference) = same(format!("what became of {topic}"), &[messages.len() as u64, 0, 0], &counted) {
            return Ok(Err(difference));
        }
    }
    Ok(same("damaged", &0, &report.damaged))
}

/// What a topic of a file is called when it is played.
fn played(topic: &str) -> &str {
    topic.strip_prefix('/').unwrap_or(topic)
}

/// Receives all there is of a topic.
fn listen(
    domain: &Domain,
    topic: &str,
    schema: &Schema,
    messages: &[&[u8]],
) -> Result<Result<(), Difference>, conduit::topic::Error> {
    let mut subscriber = Subscriber::<[u8]>::options().domain(&domain.0).wait(PATIENCE).open(topic)?;
    if let Err(difference) = same(format!("schema of {topic}"), schema, subscriber.schema()) {
        return Ok(Err(difference));
    }
    for (at, expected) in messages.iter().enumerate() {
        let what = |what: &str| format!("message {at} of {topic}: {what}");
        let Some(found) = subscriber.recv_timeout(PATIENCE)? else {
            return Ok(Err(Difference::new(what("whether it comes"), &true, &false)));
        };
        let compared =
            same(what("lost before it"), &0, &found.lagged()).and_then(|()| same(what("data"), expected, &&*found));
        if compared.is_err() {
            return Ok(compared);
        }
    }
    // The publisher goes only when it has published all.
    subscriber.wait_publisher_gone(PATIENCE)?;
    let more = subscriber.try_recv()?;
    Ok(same(format!("messages after the last one of {topic}"), &0, &u64::from(more.is_some())))
}
