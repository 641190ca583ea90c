//! What topics and domains may be called, and which file that is.

use std::ffi::{CStr, CString};

use super::Error;
pub use crate::core::name::MAX_TOPIC;
use crate::core::name::topic_fault;
use crate::std::shm::DIRECTORY;

/// Longest domain name, in bytes.
pub const MAX_DOMAIN: usize = 32;

/// What the name of every topic's file begins with.
const PREFIX: &str = "conduit_";
/// Between domain and topic in a file name; in neither of them.
const DOMAIN_END: char = '@';
/// What follows the name of a file that is about to take the place of another; in no topic's name.
const REPLACEMENT: char = '~';
/// Longest name of a file, in bytes.
const MAX_FILE_NAME: usize = 255;

/// A checked domain and topic, and the file they stand for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Name {
    pub(crate) domain: String,
    pub(crate) topic: String,
    path: CString,
}

impl Name {
    pub(crate) fn new(domain: &str, topic: &str) -> Result<Self, Error> {
        check_domain(domain)?;
        check_topic(topic)?;
        let path = file_path(PREFIX, domain, topic).map_err(|reason| invalid_topic(topic, reason))?;
        Ok(Name { domain: domain.into(), topic: topic.into(), path })
    }

    /// The name that a file in the directory stands for, if it is a topic's.
    pub(crate) fn from_file(file: &str) -> Option<Self> {
        let (domain, topic) = file_name_parts(PREFIX, file)?;
        Name::new(domain, &topic).ok()
    }

    /// Like [`from_file`](Name::from_file), for what a publisher left that died while it replaced a topic.
    pub(crate) fn from_replacement_file(file: &str) -> Option<Self> {
        Some(Self::from_file(file.strip_suffix(REPLACEMENT)?)?.replacement())
    }

    /// The same topic in the file that a new region has before it takes the topic's name.
    pub(crate) fn replacement(&self) -> Self {
        let mut path = self.path.clone().into_bytes();
        path.push(REPLACEMENT as u8);
        let path = CString::new(path).expect("it has no zero byte, as before");
        Name { path, ..self.clone() }
    }

    pub(crate) fn path(&self) -> &CStr {
        &self.path
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.domain.is_empty() {
            f.write_str(&self.topic)
        } else {
            write!(f, "{} (domain {})", self.topic, self.domain)
        }
    }
}

/// The path of the file that has to do with something of `domain`; what it is, `prefix` says.
pub(crate) fn file_path(prefix: &str, domain: &str, name: &str) -> Result<CString, &'static str> {
    let mut path = format!("{DIRECTORY}/{prefix}");
    if !domain.is_empty() {
        path.push_str(domain);
        path.push(DOMAIN_END);
    }
    path.push_str(&name.replace('/', "%2F"));
    // With room for the mark of a replacement.
    if path.len() - DIRECTORY.len() > MAX_FILE_NAME {
        return Err("its file's name would be too long: each `/` takes 3 of about 200 bytes");
    }
    CString::new(path).map_err(|_| "it contains a zero byte")
}

/// The domain and the name that a file with `prefix` stands for, unchecked.
pub(crate) fn file_name_parts<'f>(prefix: &str, file: &'f str) -> Option<(&'f str, String)> {
    let rest = file.strip_prefix(prefix)?;
    let (domain, name) = rest.split_once(DOMAIN_END).unwrap_or(("", rest));
    Some((domain, name.replace("%2F", "/")))
}

pub(crate) fn check_domain(domain: &str) -> Result<(), Error> {
    let reason = if domain.len() > MAX_DOMAIN {
        "it is longer than 32 bytes"
    } else if !domain.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        "only A-Z, a-z, 0-9, _ and - are allowed"
    } else {
        return Ok(());
    };
    Err(Error::InvalidDomain { domain: domain.into(), reason })
}

fn check_topic(topic: &str) -> Result<(), Error> {
    topic_fault(topic.as_bytes()).map_or(Ok(()), |reason| Err(invalid_topic(topic, reason)))
}

fn invalid_topic(topic: &str, reason: &'static str) -> Error {
    Error::InvalidTopic { topic: topic.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_file_stand_for_each_other() {
        for (domain, topic, file) in [
            ("", "imu", "conduit_imu"),
            ("", "arm/left/joint_1", "conduit_arm%2Fleft%2Fjoint_1"),
            ("robot-2", "imu", "conduit_robot-2@imu"),
            ("", "a_b", "conduit_a_b"),
            ("a", "b", "conduit_a@b"),
        ] {
            let name = Name::new(domain, topic).unwrap();
            assert_eq!(name.path().to_str().unwrap(), format!("{DIRECTORY}/{file}"));
            assert_eq!(Name::from_file(file), Some(name));
        }
    }

    #[test]
    fn names_that_could_leave_the_directory_or_confuse_a_reader_are_refused() {
        let long = "x".repeat(MAX_TOPIC + 1);
        for topic in ["", "/", "a//b", "a/", "/a", ".", "..", "a/../b", "a b", "a%2Fb", "a@b", "ä", "a\0b", &long] {
            assert!(matches!(Name::new("", topic), Err(Error::InvalidTopic { .. })), "{topic:?}");
        }
        for domain in ["a/b", "a b", "ä", "a.b", "a@b", &long[..MAX_DOMAIN + 1]] {
            assert!(matches!(Name::new(domain, "t"), Err(Error::InvalidDomain { .. })), "{domain:?}");
        }
        let longest = Name::new(&long[..MAX_DOMAIN], &long[..MAX_TOPIC]).unwrap();
        assert!(longest.replacement().path().to_bytes().len() - DIRECTORY.len() - 1 <= MAX_FILE_NAME);
        let slashes = ["x"; 80].join("/");
        assert!(matches!(Name::new("", &slashes), Err(Error::InvalidTopic { .. })));
        assert_eq!(Name::from_file("sem.other"), None);
    }

    #[test]
    fn a_replacement_has_a_file_of_its_own_that_is_no_topics() {
        let name = Name::new("robot", "arm/left").unwrap();
        let file = "conduit_robot@arm%2Fleft~";
        assert_eq!(name.replacement().path().to_str().unwrap(), format!("{DIRECTORY}/{file}"));
        assert_eq!(Name::from_file(file), None);
        assert_eq!(Name::from_replacement_file(file), Some(name.replacement()));
        assert_eq!(Name::from_replacement_file("conduit_robot@arm%2Fleft"), None);
    }
}
