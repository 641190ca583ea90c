//! Metrics as text, in the format of OpenMetrics 1.0, which Prometheus and its like read.
//!
//! Metrics of one name are a family, and the format wants a family's samples in one place. A [`Text`] keeps each family by
//! itself and puts them behind each other at the end: who comes back to a family adds to it.
//!
//! ```
//! use conduit::net::openmetrics::Text;
//!
//! let mut text = Text::new();
//! text.counter("events_received", "Events received.").sample(&[("lane", "realtime")], 17);
//! text.gauge("queue_depth", "Events that wait.").sample(&[("lane", "realtime")], 3);
//! text.counter("events_received", "Events received.").sample(&[("lane", "batch")], 4);
//! let lines = [
//!     "# TYPE events_received counter",
//!     "# HELP events_received Events received.",
//!     "events_received_total{lane=\"realtime\"} 17",
//!     "events_received_total{lane=\"batch\"} 4",
//!     "# TYPE queue_depth gauge",
//!     "# HELP queue_depth Events that wait.",
//!     "queue_depth{lane=\"realtime\"} 3",
//!     "# EOF",
//! ];
//! assert!(text.finish().lines().eq(lines));
//! ```

mod parse;

use std::fmt::{self, Write};

pub use parse::{ParseError, Sample, Samples, Wrong, samples};

/// What an HTTP answer with such a text says it is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Units that a family says it is in when its name ends with one.
const UNITS: [&str; 5] = ["seconds", "ns", "bytes", "ratio", "celsius"];

/// Names and values of labels. A value may be any text.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// All metrics of a moment.
#[derive(Debug, Default)]
pub struct Text {
    /// In the order in which they came first.
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: String,
    kind: &'static str,
    text: String,
}

impl Text {
    /// Without any.
    pub fn new() -> Self {
        Text::default()
    }

    /// A number that only grows, and begins at 0 with the process. The name of its samples ends with `_total`; the family's
    /// does not.
    ///
    /// # Panics
    ///
    /// Names are written into programs and not made at run time: one that is no name of a metric (`[a-zA-Z_][a-zA-Z0-9_]*`), ends
    /// with `_total`, or is that of another kind of family.
    pub fn counter(&mut self, name: &str, help: &str) -> Counter<'_> {
        assert!(!name.ends_with("_total"), "{name}: `_total` is added to the name of a counter");
        Counter(self.family(name, "counter", help))
    }

    /// A number that rises and falls.
    ///
    /// # Panics
    ///
    /// As [`counter`](Text::counter), but for the end.
    pub fn gauge(&mut self, name: &str, help: &str) -> Gauge<'_> {
        Gauge(self.family(name, "gauge", help))
    }

    /// How values are distributed.
    ///
    /// # Panics
    ///
    /// As [`counter`](Text::counter), but for the end.
    pub fn histogram(&mut self, name: &str, help: &str) -> Histogram<'_> {
        Histogram(self.family(name, "histogram", help))
    }

    /// What the process is, in labels, such as its version. The name of its samples ends with `_info`; the family's does not.
    ///
    /// # Panics
    ///
    /// As [`counter`](Text::counter), but for the end.
    pub fn info(&mut self, name: &str, help: &str, labels: Labels<'_>) {
        self.family(name, "info", help).line("_info", labels, None, 1);
    }

    /// The text.
    pub fn finish(self) -> String {
        let mut text = String::with_capacity(self.families.iter().map(|family| family.text.len()).sum::<usize>() + 8);
        self.families.iter().for_each(|family| text.push_str(&family.text));
        text.push_str("# EOF\n");
        text
    }

    fn family(&mut self, name: &str, kind: &'static str, help: &str) -> &mut Family {
        let at = self.families.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.families.push(Family::new(name, kind, help));
            self.families.len() - 1
        });
        let family = &mut self.families[at];
        assert_eq!(family.kind, kind, "{name} is one kind of metric");
        family
    }
}

impl Family {
    fn new(name: &str, kind: &'static str, help: &str) -> Self {
        assert!(is_name(name), "`{name}` is no name of a metric");
        let mut text = format!("# TYPE {name} {kind}\n");
        let unit = UNITS.iter().find(|unit| name.strip_suffix(**unit).is_some_and(|name| name.ends_with('_')));
        if let Some(unit) = unit {
            text.push_str(&format!("# UNIT {name} {unit}\n"));
        }
        text.push_str(&format!("# HELP {name} "));
        escape(&mut text, help);
        text.push('\n');
        Family { name: name.into(), kind, text }
    }

    /// One sample. `bound`: that of a histogram's bucket.
    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Into<Value>) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, value) in labels {
            assert!(is_name(name), "`{name}` is no name of a label");
            self.text.push(before);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(&mut self.text, value);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, " {}", value.into());
    }
}

/// A family of [counters](Text::counter).
#[derive(Debug)]
pub struct Counter<'a>(&'a mut Family);

impl Counter<'_> {
    /// What is counted with these labels.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Into<Value>) -> &mut Self {
        self.0.line("_total", labels, None, value);
        self
    }
}

/// A family of [gauges](Text::gauge).
#[derive(Debug)]
pub struct Gauge<'a>(&'a mut Family);

impl Gauge<'_> {
    /// How much it is with these labels.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Into<Value>) -> &mut Self {
        self.0.line("", labels, None, value);
        self
    }
}

/// A family of [histograms](Text::histogram).
#[derive(Debug)]
pub struct Histogram<'a>(&'a mut Family);

impl Histogram<'_> {
    /// The distribution with these labels: how many values are at most each bound, the bounds rising; how many there are; and
    /// all of them together. The bucket for those above the last bound comes by itself.
    pub fn sample(
        &mut self,
        labels: Labels<'_>,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        count: u64,
        sum: impl Into<Value>,
    ) -> &mut Self {
        for (bound, count) in buckets {
            self.0.line("_bucket", labels, Some(&Value::Float(bound).to_string()), count);
        }
        self.0.line("_bucket", labels, Some("+Inf"), count);
        self.0.line("_count", labels, None, count);
        self.0.line("_sum", labels, None, sum);
        self
    }
}

/// What a metric amounts to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value {
    /// A whole number, written with all its digits.
    Integer(u64),
    /// Any other.
    Float(f64),
}

impl Value {
    /// As the nearest number that has a point.
    pub fn as_f64(self) -> f64 {
        match self {
            Value::Integer(value) => value as f64,
            Value::Float(value) => value,
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Integer(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Integer(value.into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Integer(value) => write!(f, "{value}"),
            Value::Float(value) if value.is_nan() => f.write_str("NaN"),
            Value::Float(value) if value.is_infinite() => f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            // With a point or an exponent, as bounds of buckets have to have.
            Value::Float(value) => write!(f, "{value:?}"),
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of everything.
    fn example() -> String {
        let mut text = Text::new();
        text.info("conduit_build", "What this is.", &[("version", "0.1.0")]);
        text.counter("events_received", "Total events received.").sample(&[], 3).sample(&[("lane", "batch")], u64::MAX);
        text.gauge("load_ratio", "Part of its capacity, \"now\".\nA \\ is kept.")
            .sample(&[("topic", "a\"b\\c\nd"), ("lane", "größe")], 0.25)
            .sample(&[("topic", "")], f64::NAN)
            .sample(&[("topic", "x")], f64::NEG_INFINITY)
            .sample(&[("topic", "y")], true);
        text.histogram("latency_ns", "Processing latency.")
            .sample(&[("lane", "realtime")], [(100.0, 1), (1e6, 2)], 4, 5_000_001)
            .sample(&[("lane", "batch")], [(100.0, 0), (1e6, 0)], 0, 0);
        text.histogram("conduit_latency_seconds", "The same.").sample(&[], [(1e-7, 1), (0.001, 2)], 4, 0.005_000_001);
        // Comes back to one that has others behind it.
        text.counter("events_received", "Total events received.").sample(&[("lane", "realtime")], 0);
        text.finish()
    }

    #[test]
    fn every_kind_of_metric_is_written_as_the_format_has_it() {
        let expected = r#"# TYPE conduit_build info
# HELP conduit_build What this is.
conduit_build_info{version="0.1.0"} 1
# TYPE events_received counter
# HELP events_received Total events received.
events_received_total 3
events_received_total{lane="batch"} 18446744073709551615
events_received_total{lane="realtime"} 0
# TYPE load_ratio gauge
# UNIT load_ratio ratio
# HELP load_ratio Part of its capacity, \"now\".\nA \\ is kept.
load_ratio{topic="a\"b\\c\nd",lane="größe"} 0.25
load_ratio{topic=""} NaN
load_ratio{topic="x"} -Inf
load_ratio{topic="y"} 1
# TYPE latency_ns histogram
# UNIT latency_ns ns
# HELP latency_ns Processing latency.
latency_ns_bucket{lane="realtime",le="100.0"} 1
latency_ns_bucket{lane="realtime",le="1000000.0"} 2
latency_ns_bucket{lane="realtime",le="+Inf"} 4
latency_ns_count{lane="realtime"} 4
latency_ns_sum{lane="realtime"} 5000001
latency_ns_bucket{lane="batch",le="100.0"} 0
latency_ns_bucket{lane="batch",le="1000000.0"} 0
latency_ns_bucket{lane="batch",le="+Inf"} 0
latency_ns_count{lane="batch"} 0
latency_ns_sum{lane="batch"} 0
# TYPE conduit_latency_seconds histogram
# UNIT conduit_latency_seconds seconds
# HELP conduit_latency_seconds The same.
conduit_latency_seconds_bucket{le="1e-7"} 1
conduit_latency_seconds_bucket{le="0.001"} 2
conduit_latency_seconds_bucket{le="+Inf"} 4
conduit_latency_seconds_count 4
conduit_latency_seconds_sum 0.005000001
# EOF
"#;
        assert_eq!(example(), expected);
    }

    #[test]
    fn nothing_is_a_text_too() {
        assert_eq!(Text::new().finish(), "# EOF\n");
    }

    #[test]
    #[should_panic(expected = "one kind of metric")]
    fn a_name_is_that_of_one_kind_of_metric() {
        let mut text = Text::new();
        text.counter("depth", "");
        text.gauge("depth", "");
    }

    #[test]
    #[should_panic(expected = "no name of a metric")]
    fn a_name_that_readers_would_refuse_is_not_written() {
        Text::new().gauge("queue-depth", "");
    }
}
