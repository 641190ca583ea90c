//! Metrics out of a text.

use std::borrow::Cow;
use std::fmt;

use super::Value;

/// How many labels a sample may have.
const MOST_LABELS: usize = 64;

/// One sample of a text.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Sample<'a> {
    /// The family's name, with the suffix that its kind has: `_total`, `_bucket`.
    pub name: &'a str,
    /// Names and values, in the order in which they stand there.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// How much it is.
    pub value: Value,
}

impl Sample<'_> {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }
}

/// What is wrong with a text, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Wrong {
    /// It does not begin with a metric's name.
    Name,
    /// Its labels are not as `{name="value"}`, or too many.
    Labels,
    /// No number is behind the name.
    Value,
    /// Something is behind the sample that is neither a time nor an exemplar.
    Rest,
    /// The text ends before it says so.
    NoEnd,
    /// The text goes on behind its end.
    BehindEnd,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::Name => "no name of a metric",
            Wrong::Labels => "no labels such as {name=\"value\"}",
            Wrong::Value => "no number",
            Wrong::Rest => "something behind the number that is no time",
            Wrong::NoEnd => "the text ends without `# EOF`",
            Wrong::BehindEnd => "the text goes on behind `# EOF`",
        })
    }
}

/// The samples of a text, in its order; what is said of families is left out. Behind an error there is nothing.
///
/// ```
/// use conduit::net::openmetrics::{Value, samples};
///
/// let text = "# TYPE queue_depth gauge\nqueue_depth{lane=\"realtime\"} 3\n# EOF\n";
/// let samples: Result<Vec<_>, _> = samples(text).collect();
/// let depth = &samples?[0];
/// assert_eq!((depth.name, depth.label("lane"), depth.value), ("queue_depth", Some("realtime"), Value::Integer(3)));
/// # Ok::<(), conduit::net::openmetrics::ParseError>(())
/// ```
pub fn samples(text: &str) -> Samples<'_> {
    Samples { rest: text, line: 0, is_over: false }
}

/// What [`samples`] returns.
#[derive(Clone, Debug)]
pub struct Samples<'a> {
    rest: &'a str,
    /// Lines before the rest.
    line: usize,
    is_over: bool,
}

impl<'a> Iterator for Samples<'a> {
    type Item = Result<Sample<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            self.line += 1;
            let found = match self.take_line() {
                None => Err(Wrong::NoEnd),
                Some("# EOF") => {
                    self.is_over = true;
                    if self.rest.is_empty() {
                        return None;
                    }
                    self.line += 1;
                    Err(Wrong::BehindEnd)
                }
                Some(line) if line.is_empty() || line.starts_with('#') => continue,
                Some(line) => sample(line),
            };
            self.is_over |= found.is_err();
            return Some(found.map_err(|wrong| ParseError { line: self.line, wrong }));
        }
        None
    }
}

impl<'a> Samples<'a> {
    /// The next line without its end; the last one may have none. `None` behind that.
    fn take_line(&mut self) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        if line.is_empty() && self.rest.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }
}

fn sample(line: &str) -> Result<Sample<'_>, Wrong> {
    let (name, rest) = take_name(line, true).ok_or(Wrong::Name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => take_labels(rest)?,
        None => (Vec::new(), rest),
    };
    // Words are apart by one space, or by several where others than this program write.
    let is_space = [' ', '\t'];
    let rest = rest.strip_prefix(is_space).ok_or(Wrong::Value)?;
    // What is behind a mark is an exemplar.
    let rest = rest.split_once(" # ").map_or(rest, |(rest, _)| rest);
    let mut words = rest.split(is_space).filter(|word| !word.is_empty());
    let value = words.next().and_then(number).ok_or(Wrong::Value)?;
    match (words.next().map(number), words.next()) {
        (None | Some(Some(_)), None) => Ok(Sample { name, labels, value }),
        _ => Err(Wrong::Rest),
    }
}

fn number(text: &str) -> Option<Value> {
    // Whole numbers keep all their digits.
    let whole = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())).map(Value::Integer);
    whole.or_else(|| text.parse().ok().map(Value::Float))
}

/// A name at the beginning, and what is behind it.
fn take_name(text: &str, may_have_colons: bool) -> Option<(&str, &str)> {
    let is_of_it = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || may_have_colons && *byte == b':';
    let len = text.bytes().take_while(is_of_it).count();
    let begins = text.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    (len > 0 && begins).then(|| text.split_at(len))
}

type Found<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The labels up to the closing brace, and what is behind it.
fn take_labels(mut rest: &str) -> Result<(Found<'_>, &str), Wrong> {
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, behind) = take_name(rest, false).ok_or(Wrong::Labels)?;
        let behind = behind.strip_prefix("=\"").ok_or(Wrong::Labels)?;
        let (value, behind) = take_quoted(behind).ok_or(Wrong::Labels)?;
        if labels.len() == MOST_LABELS {
            return Err(Wrong::Labels);
        }
        labels.push((name, value));
        rest = match behind.strip_prefix(',') {
            Some(behind) => behind,
            None if behind.starts_with('}') => behind,
            None => return Err(Wrong::Labels),
        };
    }
}

/// The text up to the closing quote, and what is behind it.
fn take_quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let plain = text.find(['"', '\\'])?;
    if let Some(behind) = text[plain..].strip_prefix('"') {
        return Some((text[..plain].into(), behind));
    }
    let mut value = text[..plain].to_string();
    let mut chars = text[plain..].chars();
    loop {
        match chars.next()? {
            '"' => return Some((value.into(), chars.as_str())),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                // One that means nothing stands for itself.
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Text;
    use super::*;

    fn one(line: &str) -> Result<(String, Value), Wrong> {
        sample(line).map(|sample| {
            let labels: Vec<_> = sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (format!("{} {}", sample.name, labels.join(";")), sample.value)
        })
    }

    #[test]
    fn a_sample_is_read_as_the_format_has_it() {
        for (line, read, value) in [
            ("a 1", "a ", Value::Integer(1)),
            ("a_total{} 18446744073709551615", "a_total ", Value::Integer(u64::MAX)),
            ("a 18446744073709551616", "a ", Value::Float(18_446_744_073_709_551_616.0)),
            ("a:b{x=\"1\",y=\"\"} -2.5e3", "a:b x=1;y=", Value::Float(-2500.0)),
            ("a{x=\"1\",} +Inf", "a x=1", Value::Float(f64::INFINITY)),
            (r#"a{x="a\"b\\c\nd\te}"} 0 1700000000.5"#, "a x=a\"b\\c\nd\\te}", Value::Integer(0)),
            ("a_bucket{le=\"1e-7\"} 4 # {trace=\"x\"} 0.5 1", "a_bucket le=1e-7", Value::Integer(4)),
        ] {
            assert_eq!(one(line), Ok((read.into(), value)), "{line}");
        }
    }

    #[test]
    fn what_is_no_sample_is_an_error_that_says_so() {
        for (line, wrong) in [
            ("", Wrong::Name),
            ("1a 1", Wrong::Name),
            ("{} 1", Wrong::Name),
            ("\u{1f980} 1", Wrong::Name),
            ("a", Wrong::Value),
            ("a ", Wrong::Value),
            ("a{}", Wrong::Value),
            ("a{}1", Wrong::Value),
            ("a x", Wrong::Value),
            ("grüße 1", Wrong::Value),
            ("a 0x10", Wrong::Value),
            ("a{", Wrong::Labels),
            ("a{x", Wrong::Labels),
            ("a{x=1} 1", Wrong::Labels),
            ("a{x=\"1} 1", Wrong::Labels),
            ("a{x=\"1\\", Wrong::Labels),
            ("a{x=\"1\"y=\"2\"} 1", Wrong::Labels),
            ("a{,} 1", Wrong::Labels),
            ("a{:x=\"1\"} 1", Wrong::Labels),
            ("a 1 later", Wrong::Rest),
            ("a 1 2 3", Wrong::Rest),
        ] {
            assert_eq!(one(line), Err(wrong), "{line:?}");
        }
        let many: String = (0..65).map(|n| format!("l{n}=\"\",")).collect();
        assert_eq!(one(&format!("a{{{many}}} 1")), Err(Wrong::Labels));
    }

    #[test]
    fn a_text_that_was_cut_or_goes_on_is_no_text() {
        let at = |text: &str| samples(text).find_map(Result::err).map(|error| (error.line, error.wrong));
        assert_eq!(at("a 1\n# EOF\n"), None);
        assert_eq!(at("a 1\r\n\r\n# EOF"), None);
        assert_eq!(at(""), Some((1, Wrong::NoEnd)));
        assert_eq!(at("a 1\n"), Some((2, Wrong::NoEnd)));
        assert_eq!(at("a 1\n# EO"), Some((3, Wrong::NoEnd)));
        assert_eq!(at("# EOF\n\n"), Some((2, Wrong::BehindEnd)));
        assert_eq!(at("a 1\nb\nc\n# EOF\n"), Some((2, Wrong::Value)));
        assert_eq!(samples("a\nb 1\n# EOF\n").count(), 1, "nothing behind an error");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(values in proptest::collection::vec((any::<String>(), any::<u64>()), 0..20)) {
            let mut text = Text::new();
            for (label, value) in &values {
                text.gauge("depth", label).sample(&[("lane", label)], *value);
            }
            let text = text.finish();
            let read: Vec<_> = samples(&text).map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), values.len());
            for (sample, (label, value)) in read.iter().zip(&values) {
                prop_assert_eq!(sample.label("lane"), Some(&label[..]));
                prop_assert_eq!(sample.value, Value::Integer(*value));
            }
        }

        #[test]
        fn any_text_has_an_end(text in "(a|\\{|\\}|\"|\\\\|,|=| |\n|1|# EOF|#|\u{1f980}){0,60}") {
            let lines = text.lines().count();
            prop_assert!(samples(&text).count() <= lines + 1);
        }
    }
}
