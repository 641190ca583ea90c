//! `${name}` and `${name:-otherwise}` in text.

use std::collections::BTreeMap;

use crate::yaml::meant::nearest;
use crate::yaml::{Fault, MAX_FILE};

/// The variables of a flow and what they are worth.
#[derive(Clone, Default)]
pub struct Vars(pub BTreeMap<String, String>);

/// Bytes that may still come out of variables: few of them, used within each other, could make any number.
pub struct Budget(usize);

impl Budget {
    pub fn new() -> Self {
        Budget(MAX_FILE)
    }
}

impl Vars {
    /// Puts values in the place of variables; `$${` stands for `${`. `used` learns the names with a value of their own.
    pub fn expand(&self, text: &str, budget: &mut Budget, used: &mut Vec<String>) -> Result<String, Fault> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            let before = &rest[..at];
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(before);
            let inside = &rest[at + 2..];
            let Some(end) = inside.find('}') else {
                return Err(Fault::Conflict("`${` has no `}`; `$${` stands for `${` itself".into()));
            };
            let (name, otherwise) = match inside[..end].split_once(":-") {
                Some((name, otherwise)) => (name, Some(otherwise)),
                None => (&inside[..end], None),
            };
            if otherwise.is_some() && is_name(name) {
                used.push(name.into());
            }
            let value = self.0.get(name).map(String::as_str).or(otherwise);
            let value = value.ok_or_else(|| self.unknown(name))?;
            budget.0 = budget
                .0
                .checked_sub(value.len())
                .ok_or_else(|| Fault::Excess("what its variables stand for is longer than a file may be".into()))?;
            out.push_str(value);
            rest = &inside[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// That there is no variable of this name.
    pub fn unknown(&self, name: &str) -> Fault {
        let near = nearest(name, self.0.keys().map(String::as_str));
        let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let name: String = name.chars().take(60).collect();
        Fault::Conflict(format!("there is no variable `{}` in `vars`{meant}", crate::yaml::text::harmless(&name)))
    }
}

/// Letters, digits and `_`, no digit first.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
