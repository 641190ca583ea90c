//! Becoming the publisher of a topic: creating it, taking it over from the dead, or putting another in its place.

use super::Error;
use super::name::Name;
use super::options::Wanted;
use super::region::{Candidate, Region, Role, system_error};
use crate::std::shm::{self, Access};

/// Creates the topic, or takes it over, or replaces one of another shape. Returns with the writer's byte taken.
pub(super) fn take_topic(wanted: &Wanted, permissions: u32, any_owner: bool) -> Result<Region, Error> {
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
        if let Some(replaced) = &replaced {
            replaced.end(name)?;
        }
        if region.link()? {
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
    fn end(&self, name: &Name) -> Result<(), Error> {
        let current = match self {
            Replaced::Topic(region) => {
                // Before the name goes: whoever dies in between leaves a region that everybody knows to be over.
                region.supersede();
                region.is_current()?
            }
            Replaced::Garbage(candidate) => candidate.is_current()?,
        };
        if current {
            shm::unlink(name.path()).map_err(|source| system_error("remove", name, source))?;
        }
        Ok(())
    }
}
