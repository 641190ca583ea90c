//! Reading files message by message as they stand there.

use crate::tank::format::op;
use crate::tank::format::parse::{Message, Records};
use crate::tank::read::walk::Stop;
use crate::tank::{Error, Problem, Recording, Topic};

/// Calls with each message, in the order of the file; what is damaged is left out, and told to `damaged`. Ends early when
/// `each` says `false`.
pub(super) fn messages(
    recording: &Recording,
    mut each: impl FnMut(&Topic, &Message<'_>) -> bool,
    mut damaged: impl FnMut(Error),
) -> Result<(), Error> {
    for problem in recording.problems() {
        if let Problem::Skipped { offset, fault, .. } = problem {
            damaged(recording.error(Stop::Fault { offset: *offset, fault: fault.clone() }));
        }
    }
    let mut topics: Vec<Option<&Topic>> = Vec::new();
    for topic in recording.topics() {
        let id = usize::from(topic.id);
        topics.resize(topics.len().max(id + 1), None);
        topics[id] = Some(topic);
    }
    let mut blocks: Vec<_> = recording.blocks()?.iter().collect();
    blocks.sort_unstable_by_key(|block| block.offset);
    let (mut loader, mut bytes) = (recording.loader(), Vec::new());
    for block in blocks {
        if let Err(stop) = loader.load(block, recording.limit(), &mut bytes) {
            damaged(recording.error(stop));
            continue;
        }
        for record in Records::new(&bytes) {
            let message = match record {
                Ok(record) if record.opcode == op::MESSAGE => Message::parse(record.body),
                Ok(_) => continue,
                Err(fault) => Err(fault),
            };
            match message {
                Ok(message) => {
                    let Some(topic) = topics.get(usize::from(message.channel_id)).copied().flatten() else { continue };
                    if !each(topic, &message) {
                        return Ok(());
                    }
                }
                Err(fault) => damaged(recording.error(Stop::Fault { offset: block.offset, fault })),
            }
        }
    }
    Ok(())
}
