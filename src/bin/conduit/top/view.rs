//! What was found, as tables and as JSON.

use serde_json::{Map, Value, json};

use super::daemon::{Bound, Daemon, Lane, RATES};
use super::topics::TopicRow;
use crate::output::{Style, Table, harmless, terminal_size};
use crate::units;

/// All of a moment.
pub struct Frame<'a> {
    pub topics: Vec<TopicRow>,
    /// What a daemon does, or why there is nothing to tell of one.
    pub daemon: std::result::Result<Daemon, String>,
    pub metrics: &'a str,
    /// ` in domain NAME`, or nothing.
    pub place: String,
}

impl Frame<'_> {
    /// All lines.
    pub fn lines(&self, style: Style) -> Vec<String> {
        self.made(style, usize::MAX, usize::MAX)
    }

    /// As many lines, as long, as the terminal has room for now.
    pub fn fitting(&self, style: Style, has_keys: bool) -> Vec<String> {
        let (width, height) = terminal_size();
        let keys = usize::from(has_keys);
        // The cursor has the last line.
        let mut lines = self.made(style, width, height.saturating_sub(1 + keys));
        if has_keys {
            lines.push(style.dim("q quit".chars().take(width).collect::<String>()));
        }
        lines
    }

    fn made(&self, style: Style, width: usize, height: usize) -> Vec<String> {
        let cut = |line: String| line.chars().take(width).collect::<String>();
        let mut below = vec![String::new(), cut(self.told_of_daemon())];
        if let Ok(daemon) = &self.daemon {
            // In columns: as a sentence it would not fit.
            let heads = RATES.map(|(name, _)| name.to_uppercase().replace('_', "-"));
            let mut table = Table::new(&heads.each_ref().map(|head| &head[..]));
            table.row(daemon.rates.map(per_second).into());
            below.extend(painted(style, table, &cut));
            let mut table = Table::new(&["LANE", "DEPTH", "STATE", "RATE", "LATE", "LAT p50", "LAT p99"]);
            daemon.lanes.iter().for_each(|lane| table.row(lane_cells(lane)));
            below.extend(painted(style, table, &cut));
        }
        let mut lines = self.topic_lines(style, height.saturating_sub(below.len()), &cut);
        lines.append(&mut below);
        lines.truncate(height);
        lines
    }

    /// No more than `height`: of topics that have no room there, those with the lowest rates are left out.
    fn topic_lines(&self, style: Style, height: usize, cut: &impl Fn(String) -> String) -> Vec<String> {
        if self.topics.is_empty() {
            return vec![cut(format!("no topics{}", self.place))];
        }
        // A head, and a line for those that are left out.
        let room = if self.topics.len() < height { self.topics.len() } else { height.saturating_sub(2) };
        let mut busiest: Vec<&TopicRow> = self.topics.iter().collect();
        if room < busiest.len() {
            let rate = |row: &TopicRow| row.rates.map_or(0.0, |(rate, _)| rate);
            busiest.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
            busiest.truncate(room);
            busiest.sort_by(|a, b| a.topic.cmp(&b.topic));
        }
        let mut table = Table::new(&["TOPIC", "RATE", "BYTES/s", "SUBS", "LAG", "LOST", "PUBLISHER"]);
        busiest.iter().for_each(|row| table.row(topic_cells(row)));
        let mut lines = painted(style, table, cut);
        if room < self.topics.len() {
            let more = units::several((self.topics.len() - room) as u64, "topic", "topics");
            lines.push(style.dim(cut(format!("and {more} of lower rates"))));
        }
        lines
    }

    fn told_of_daemon(&self) -> String {
        let metrics = harmless(self.metrics);
        match &self.daemon {
            Err(reason) => format!("no daemon's metrics at {metrics}: {}", harmless(reason)),
            Ok(daemon) => format!(
                "daemon at {metrics}: {}, {} in events",
                units::several(daemon.connections, "connection", "connections"),
                units::memory(daemon.memory),
            ),
        }
    }

    pub fn json(&self) -> Value {
        let topics: Vec<Value> = self.topics.iter().map(topic_json).collect();
        let mut daemon = json!({ "metrics": self.metrics });
        match &self.daemon {
            Err(reason) => daemon["error"] = reason[..].into(),
            Ok(found) => {
                let rates: Map<String, Value> =
                    RATES.iter().zip(found.rates).map(|((name, _), rate)| ((*name).into(), rate.into())).collect();
                daemon["connections"] = found.connections.into();
                daemon["memory"] = found.memory.into();
                daemon["per_second"] = rates.into();
                daemon["lanes"] = found.lanes.iter().map(lane_json).collect();
            }
        }
        json!({ "topics": topics, "daemon": daemon })
    }
}

fn painted(style: Style, table: Table, cut: &impl Fn(String) -> String) -> Vec<String> {
    let lines = table.lines().into_iter().enumerate();
    lines.map(|(at, line)| if at == 0 { style.bold(cut(line)) } else { cut(line) }).collect()
}

fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".into(),
        Some(rate) if rate > 0.0 && rate < 9.95 => format!("{rate:.1}/s"),
        Some(rate) => format!("{}/s", units::short(rate.round() as u64)),
    }
}

fn topic_cells(row: &TopicRow) -> Vec<String> {
    let (rate, bytes) =
        row.rates.map_or(("-".into(), "-".into()), |(rate, bytes)| (units::hertz(rate), units::bytes(bytes)));
    let mut cells = vec![harmless(&row.topic), rate, bytes];
    match &row.state {
        Ok(state) => cells.extend([
            state.subscribers.to_string(),
            units::short(state.lag),
            units::short(state.lost),
            state.publisher.into(),
        ]),
        Err(error) => cells.push(harmless(error)),
    }
    cells
}

fn topic_json(row: &TopicRow) -> Value {
    let mut json = json!({
        "topic": row.topic,
        "rate": row.rates.map(|(rate, _)| rate),
        "bytes_per_second": row.rates.map(|(_, bytes)| bytes),
        "missed": row.missed,
    });
    match &row.state {
        Ok(state) => {
            json["published"] = state.published.into();
            json["publisher"] = state.publisher.into();
            json["subscribers"] = state.subscribers.into();
            json["lag"] = state.lag.into();
            json["lost"] = state.lost.into();
        }
        Err(error) => json["error"] = error[..].into(),
    }
    json
}

fn lane_cells(lane: &Lane) -> Vec<String> {
    let [p50, p99] = lane.latency.map(|latency| match latency {
        None => "-".into(),
        Some(Bound::AtMost(bound)) => format!("\u{2264} {}", units::time(bound)),
        Some(Bound::Above(bound)) => format!("> {}", units::time(bound)),
    });
    vec![
        harmless(&lane.name),
        format!("{}/{}", units::count(lane.depth), units::count(lane.capacity)),
        lane.state.as_deref().map_or("-".into(), harmless),
        lane.rate.map_or("-".into(), units::hertz),
        lane.late.map_or("-".into(), |late| format!("{:.1} %", late * 100.0)),
        p50,
        p99,
    ]
}

fn lane_json(lane: &Lane) -> Value {
    let at_most = |bound: Option<Bound>| match bound {
        Some(Bound::AtMost(bound)) => Some(bound.round() as u64),
        Some(Bound::Above(_)) | None => None,
    };
    let above = |bound: Option<Bound>| match bound {
        Some(Bound::Above(bound)) => Some(bound.round() as u64),
        Some(Bound::AtMost(_)) | None => None,
    };
    let latency = |bound| json!({ "at_most": at_most(bound), "above": above(bound) });
    json!({
        "lane": lane.name, "depth": lane.depth, "capacity": lane.capacity, "state": lane.state, "rate": lane.rate,
        "late_ratio": lane.late, "latency_ns": { "p50": latency(lane.latency[0]), "p99": latency(lane.latency[1]) },
    })
}

#[cfg(test)]
mod tests {
    use super::super::topics::TopicState;
    use super::*;
    use crate::output::Out;

    fn row(topic: &str, rate: f64) -> TopicRow {
        let state = TopicState { published: 7, publisher: "alive", subscribers: 2, lag: 12_345, lost: 0 };
        TopicRow { topic: topic.into(), rates: Some((rate, 10.0 * rate)), missed: 0, state: Ok(state) }
    }

    fn frame(topics: Vec<TopicRow>) -> Frame<'static> {
        Frame { topics, daemon: Err("nobody listens".into()), metrics: "here", place: " in domain x".into() }
    }

    #[test]
    fn what_has_no_room_is_what_does_the_least_and_is_told() {
        let style = Out::new().style;
        let frame = frame((0..10).map(|n| row(&format!("t{n}"), f64::from(n % 5))).collect());
        let lines = frame.made(style, 30, 8);
        let said: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap_or("")).collect();
        assert_eq!(said, ["TOPIC", "t3", "t4", "t8", "t9", "and", "", "no"], "{lines:#?}");
        assert_eq!(lines[5], "and 6 topics of lower rates");
        assert!(lines.iter().all(|line| line.chars().count() <= 30), "{lines:#?}");
        assert_eq!(frame.made(style, 80, 13).len(), 13);
        for height in 0..13 {
            assert!(frame.made(style, 80, height).len() <= height, "{height}");
        }
        assert_eq!(frame.made(style, usize::MAX, usize::MAX).len(), 13);
    }

    #[test]
    fn no_topics_and_no_daemon_are_told_in_a_line_each() {
        let lines = frame(Vec::new()).lines(Out::new().style);
        assert_eq!(lines, ["no topics in domain x", "", "no daemon's metrics at here: nobody listens"]);
    }

    #[test]
    fn what_a_stranger_calls_a_lane_commands_no_terminal() {
        let lane = Lane {
            name: "\x1b[2J".into(),
            depth: 1,
            capacity: u64::MAX,
            state: Some("\u{202e}".into()),
            rate: None,
            late: Some(0.25),
            latency: [Some(Bound::AtMost(2000.0)), Some(Bound::Above(1e10))],
        };
        let cells = lane_cells(&lane).join(" ");
        assert_eq!(cells, "\\u{1b}[2J 1/18,446,744,073,709,551,615 \\u{202e} - 25.0 % \u{2264} 2.00 µs > 10.0 s");
        let json = lane_json(&lane);
        assert_eq!(json["latency_ns"]["p50"], json!({ "at_most": 2000, "above": null }));
        assert_eq!(json["latency_ns"]["p99"], json!({ "at_most": null, "above": 10_000_000_000u64 }));
    }
}
