//! Becoming the publisher of a topic: creating it, taking it over from the dead, or putting another in its place.

use super::Error;
use super::options::Wanted;
use super::region::{Candidate, Region, Role};
use crate::std::shm::Access;

/// Creates the topic, or takes it over, or replaces one of another shape. Returns with the writer's byte taken.
pub(super) fn take_topic(
    wanted: &Wanted,
    permissions: u32,
    any_owner: bool,
    memory_lock: bool,
) -> Result<Region, Error> {
    let prepare = |region: &Region| if memory_lock { region.lock_in_memory() } else { Ok(()) };
    let name = &wanted.name;
    loop {
        let mut first_sequence = 0;
        let mut replaced = None;
        if let Some(candidate) = Candidate::open(name, Access::ReadWrite, any_owner)? {
            if !candidate.lock_writer()? {
                return Err(Error::PublisherExists { topic: name.to_string(), pid: candidate.publisher_pid() });
            }
            if !candidate.is_current()? {
                continue;
            }
            match candidate.parse() {
                Ok((parsed, schema)) => {
                    let fits = parsed.geometry == wanted.geometry && schema == wanted.schema;
                    let Some(region) = candidate.map(Role::Publisher)? else { continue };
                    if fits && !region.is_superseded() {
                        prepare(&region)?;
                        region.remove_leftover();
                        tracing::debug!(target: "conduit::topic", topic = %name, "took over the topic");
                        return Ok(region);
                    }
                    first_sequence = region.next_sequence();
                    replaced = Some(Replaced::Topic(Box::new(region)));
                }
                // Nobody can use what is there, and its lock was free: it only stands in the way.
                Err(Error::Corrupt { .. }) => replaced = Some(Replaced::Garbage(Box::new(candidate))),
                Err(error) => return Err(error),
            }
        }
        // First the new one, which may fail, then the end of the old one.
        let region = Region::create(name, &wanted.geometry, &wanted.schema, permissions, first_sequence)?;
        prepare(&region)?;
        let (named, replaced) = match replaced {
            Some(replaced) => (replaced.make_way(&region)?, true),
            None => (region.link()?, false),
        };
        if named {
            region.remove_leftover();
            if replaced {
                let bytes = region.parsed.parts.len;
                tracing::info!(target: "conduit::topic", topic = %name, bytes, "replaced what had the name");
            } else {
                tracing::debug!(target: "conduit::topic", topic = %name, bytes = region.parsed.parts.len, "made the topic");
            }
            return Ok(region);
        }
    }
}

/// What a new region takes the name from; holds the writer's byte.
enum Replaced {
    Topic(Box<Region>),
    Garbage(Box<Candidate>),
}

impl Replaced {
    /// Has `region` take the name, which is never without a topic. `false` if this has lost the name meanwhile.
    fn make_way(self, region: &Region) -> Result<bool, Error> {
        match self {
            Replaced::Topic(old) => {
                if !old.is_current()? {
                    return Ok(false);
                }
                // Before the name goes: whoever dies in between leaves a region that everybody knows to be over.
                old.supersede();
                region.link_over().inspect_err(|_| old.revive())?;
            }
            Replaced::Garbage(old) => {
                if !old.is_current()? {
                    return Ok(false);
                }
                region.link_over()?;
            }
        }
        Ok(true)
    }
}
