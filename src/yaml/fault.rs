//! What is wrong with a file, and where.

use std::fmt;

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    Default,
    /// From 1.
    File {
        name: String,
        line: u64,
        column: u64,
    },
    Environment {
        variable: String,
    },
    /// An option of the command line.
    CommandLine {
        option: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => f.write_str("default"),
            Place::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Place::Environment { variable } => f.write_str(variable),
            Place::CommandLine { option } => f.write_str(option),
        }
    }
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub place: Place,
    /// The keys from the outermost one on, with dots between; empty if it is not about one.
    pub key: String,
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.fault)
    }
}

/// What about it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// It is no YAML.
    #[error("{0}")]
    Syntax(String),
    /// It is made to take more memory or time than a configuration needs.
    #[error("this is more than a configuration needs: {0}")]
    Excess(String),
    /// The same key again.
    #[error("`{key}` is there twice; remove one")]
    Twice { key: String },
    /// No such key.
    #[error("there is no such key{}", .meant.as_ref().map(|it| format!("; did you mean `{it}`?")).unwrap_or_default())]
    Unknown { meant: Option<String> },
    /// A value that cannot be.
    #[error("expected {expected}, found {found}")]
    Wrong { expected: String, found: String },
    /// A variable of the environment that is not UTF-8.
    #[error("its value is no UTF-8")]
    NotText,
    /// Possible, but not with the rest, or not on this machine.
    #[error("{0}")]
    Conflict(String),
}

/// All that is wrong; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

/// How many are written: who has more has given another kind of file.
const SHOWN: usize = 20;

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{problem}", if at == 0 { "" } else { "\n" })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Problems {}
