//! The whole configuration, and where each value comes from.

use serde_json::{Value as Json, json};

use super::keys::KEYS;
use super::{Loaded, Place};

impl Loaded {
    /// As a file that says the same, but for a token. Behind each value is where it comes from.
    pub fn to_yaml(&self) -> String {
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut open: Vec<&str> = Vec::new();
        for key in KEYS {
            let mut sections: Vec<&str> = key.path.split('.').collect();
            sections.pop();
            let same = open.iter().zip(&sections).take_while(|(open, section)| open == section).count();
            for (depth, section) in sections.iter().enumerate().skip(same) {
                lines.push((format!("{}{section}:", "  ".repeat(depth)), String::new()));
            }
            let value = (key.show)(&self.config);
            let line = format!("{}{}: {}", "  ".repeat(sections.len()), key.name(), scalar(&value));
            lines.push((line, self.place(key.path).to_string()));
            open = sections;
        }
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(48);
        let line = |(line, place): &(String, String)| match place.as_str() {
            "" => format!("{line}\n"),
            // A variable or a file's name is a stranger's.
            place => format!("{line:width$}  # {}\n", crate::output::harmless(place)),
        };
        lines.iter().map(line).collect()
    }

    /// The same as JSON: the values, and the places of those that are not as by default.
    pub fn to_json(&self) -> Json {
        let (mut values, mut places) = (json!({}), json!({}));
        for key in KEYS {
            let value = key.path.split('.').fold(&mut values, |section, name| &mut section[name]);
            *value = (key.show)(&self.config);
            match self.place(key.path) {
                Place::Default => {}
                Place::File { name, line, column } => {
                    places[key.path] = json!({ "file": name, "line": line, "column": column });
                }
                Place::Environment { variable } => places[key.path] = json!({ "variable": variable }),
                Place::CommandLine { .. } => places[key.path] = json!({ "option": "--domain" }),
            }
        }
        json!({ "config": values, "places": places })
    }
}

/// On one line. JSON is YAML; what needs no quotes has none.
pub(super) fn scalar(value: &Json) -> String {
    match value {
        Json::String(text) if is_plain(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Whether YAML takes it for the same text without quotes: it begins with a letter or a slash, or with a number that a unit
/// follows, or is an address, and is none of the words that mean something else.
fn is_plain(text: &str) -> bool {
    let words = ["null", "true", "false", "yes", "no", "on", "y", "n", "nan", "inf"];
    let is_number = text.parse::<f64>().is_ok() || text.starts_with(|c: char| c.is_ascii_digit()) && !is_quantity(text);
    text.parse::<std::net::Ipv4Addr>().is_ok()
        || text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
            && !words.contains(&text.to_ascii_lowercase().as_str())
            && !is_number
}

/// Such as `5ms` and `256MiB`, but neither `0x10` nor `1e9`.
fn is_quantity(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    crate::units::duration(text).is_ok() && unit.bytes().all(|byte| byte.is_ascii_alphabetic())
        || ["KiB", "MiB", "GiB"].contains(&unit)
}
