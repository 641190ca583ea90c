//! Numbers as lines of blocks: values and times come in, text goes out.

use std::collections::VecDeque;
use std::time::Duration;

/// Messages within so much time of a column's first are in that column.
const COLUMN_TIME: Duration = Duration::from_millis(50);
/// Columns that are kept: more than a terminal has.
const MOST_COLUMNS: usize = 1000;
/// With less room for blocks than this, other parts of the line make room.
const LEAST_BLOCKS: usize = 12;
/// The shortest end of a name that still tells it from others.
const LEAST_NAME: usize = 8;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const GAP: char = ' ';

/// What a field was.
#[derive(Default)]
pub struct History {
    columns: VecDeque<Column>,
}

/// What a field was for a short time.
struct Column {
    begin: Duration,
    sum: f64,
    /// Numbers in the sum; NaN is none.
    count: u64,
    range: Range,
}

/// The lowest and the highest of some numbers: of none, the one is above the other.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Range {
    min: f64,
    max: f64,
}

impl Range {
    const NONE: Range = Range { min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// `min` and `max` of floats pass NaN by.
    fn with(self, min: f64, max: f64) -> Self {
        Range { min: self.min.min(min), max: self.max.max(max) }
    }

    fn is_none(self) -> bool {
        self.min > self.max
    }
}

impl Column {
    /// `None` if there was no number.
    fn mean(&self) -> Option<f64> {
        let mean = self.sum / self.count as f64;
        (!mean.is_nan()).then_some(mean)
    }
}

impl History {
    /// Adds the value of a message of the time `at`. Messages that came faster than columns may share one; a time that goes
    /// back begins another.
    pub fn push(&mut self, at: Duration, value: f64) {
        let shared = self.columns.back_mut().filter(|column| {
            let since = at.checked_sub(column.begin);
            since.is_some_and(|since| since < COLUMN_TIME)
        });
        let column = match shared {
            Some(column) => column,
            None => {
                if self.columns.len() == MOST_COLUMNS {
                    self.columns.pop_front();
                }
                self.columns.push_back(Column { begin: at, sum: 0.0, count: 0, range: Range::NONE });
                self.columns.back_mut().expect("one was added")
            }
        };
        if !value.is_nan() {
            column.sum += value;
            column.count += 1;
        }
        column.range = column.range.with(value, value);
    }

    /// The last columns, `width` at most.
    fn last(&self, width: usize) -> impl Iterator<Item = &Column> {
        self.columns.range(self.columns.len().saturating_sub(width)..)
    }

    /// Of all values in the last columns.
    fn range(&self, width: usize) -> Range {
        self.last(width).fold(Range::NONE, |range, column| range.with(column.range.min, column.range.max))
    }

    /// The last columns from the left to the right, the newest at the right end of `width`. Their scale is from the lowest
    /// to the highest value in them; infinities are at its ends.
    fn blocks(&self, width: usize) -> String {
        let finite = self.last(width).filter_map(Column::mean).filter(|mean| mean.is_finite());
        let means = finite.fold(Range::NONE, |range, mean| range.with(mean, mean));
        let all = self.range(width);
        // An infinity has no place on a scale.
        let or = |end: f64, of_means: f64| if end.is_finite() { end } else { of_means };
        let scale = Range { min: or(all.min, means.min), max: or(all.max, means.max) };
        let block = |column: &Column| column.mean().map_or(GAP, |mean| BLOCKS[level(mean, scale)]);
        let blocks: String = self.last(width).map(block).collect();
        format!("{blocks:>width$}")
    }
}

/// Which block stands for a value.
fn level(value: f64, scale: Range) -> usize {
    const TOP: usize = BLOCKS.len() - 1;
    if value.is_infinite() {
        return if value > 0.0 { TOP } else { 0 };
    }
    if scale.min == scale.max {
        // What stays the same is neither low nor high.
        return TOP / 2;
    }
    // The difference of two floats may be none, that of their halves is one.
    let unit = if (scale.max - scale.min).is_finite() { 1.0 } else { 0.5 };
    let part = (value * unit - scale.min * unit) / (scale.max * unit - scale.min * unit);
    ((part * BLOCKS.len() as f64) as usize).min(TOP)
}

/// A number in a few characters: six digits, or all of a whole number that has no more than fifteen.
pub fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    let text = format!("{value:.5e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, ""));
    match exponent.parse() {
        Ok(exponent @ -4..15) => {
            without_zeros(&format!("{value:.*}", usize::try_from(5 - exponent).unwrap_or(0))).into()
        }
        _ => format!("{}e{exponent}", without_zeros(mantissa)),
    }
}

/// A fraction without the zeros at its end.
fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A field that is plotted.
pub struct Row<'a> {
    pub name: String,
    /// Its last value.
    pub last: &'a str,
    pub history: &'a History,
}

/// What is shown of a [`Row`], in parts that are as wide as those of the other rows.
#[derive(PartialEq, Debug)]
pub struct Line {
    pub name: String,
    pub last: String,
    /// The lowest and the highest value of the columns; `None` where there is no room for it.
    pub range: Option<(String, String)>,
    pub blocks: String,
}

/// Columns that the words and spaces take in `name  last  blocks`, and what `  min 1  max 2` adds to that.
const SPACES: usize = 4;
const RANGE_WORDS: usize = 12;

/// How wide the parts are.
#[derive(Default)]
pub struct Layout {
    /// Only grows, or the blocks would jump about.
    figure: usize,
}

impl Layout {
    /// A line for each row, narrower than `width`: in the last column of a terminal the cursor may wrap.
    pub fn lines(&mut self, rows: &[Row<'_>], width: usize) -> Vec<Line> {
        loop {
            let (lines, longest) = self.lines_of(rows, width.saturating_sub(1));
            // Wider figures leave room for fewer columns, whose figures may be others.
            if longest <= self.figure {
                return lines;
            }
            self.figure = longest;
        }
    }

    /// The lines for figures as wide as any has been, and how wide they are now.
    fn lines_of(&self, rows: &[Row<'_>], width: usize) -> (Vec<Line>, usize) {
        let name = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let figure = self.figure.min(width.saturating_sub(SPACES));
        let rest = width.saturating_sub(SPACES + figure);
        let beside_range = rest.saturating_sub(RANGE_WORDS + 2 * figure);
        let has_range = beside_range >= name + LEAST_BLOCKS;
        let (name, room) = if has_range {
            (name, beside_range - name)
        } else {
            let name = name.min(rest.saturating_sub(LEAST_BLOCKS).max(LEAST_NAME)).min(rest);
            (name, rest - name)
        };
        let mut longest = 0;
        let mut aligned = |text: &str| {
            longest = longest.max(text.chars().count());
            format!("{:>figure$}", end_of(text, figure))
        };
        let mut lines = Vec::new();
        for row in rows {
            let range = row.history.range(room);
            let end = |value| if range.is_none() { "-".into() } else { self::figure(value) };
            lines.push(Line {
                name: format!("{:name$}", end_of(&row.name, name)),
                last: aligned(row.last),
                range: has_range.then(|| (aligned(&end(range.min)), aligned(&end(range.max)))),
                blocks: row.history.blocks(room),
            });
        }
        (lines, longest)
    }
}

/// The text, or where it is too long its end, which tells a field from its neighbours.
fn end_of(text: &str, width: usize) -> String {
    let length = text.chars().count();
    match width {
        _ if length <= width => text.into(),
        0 => String::new(),
        _ => std::iter::once('…').chain(text.chars().skip(length - (width - 1))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that each have a column.
    fn history(values: &[f64]) -> History {
        let mut history = History::default();
        for (at, value) in (0..).zip(values) {
            history.push(COLUMN_TIME * at, *value);
        }
        history
    }

    #[test]
    fn values_become_blocks_from_the_lowest_to_the_highest() {
        assert_eq!(history(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).blocks(8), "▁▂▃▄▅▆▇█");
        assert_eq!(history(&[-1.0, 1.0, 0.0]).blocks(3), "▁█▅");
        assert_eq!(history(&[0.0, 1.0, 1.0, 0.0]).blocks(4), "▁██▁");
    }

    #[test]
    fn the_newest_is_at_the_right_and_what_does_not_fit_has_gone() {
        let history = history(&[100.0, 1.0, 2.0, 3.0]);
        assert_eq!(history.blocks(6), "  █▁▁▁");
        assert_eq!(history.blocks(3), "▁▅█", "the scale is that of what is shown");
        assert_eq!(history.range(3), Range { min: 1.0, max: 3.0 });
        assert_eq!(history.blocks(0), "");
        assert_eq!(History::default().blocks(3), "   ");
    }

    #[test]
    fn what_stays_the_same_is_neither_low_nor_high() {
        assert_eq!(history(&[0.0, 0.0]).blocks(2), "▄▄");
        assert_eq!(history(&[1e300]).blocks(1), "▄");
    }

    #[test]
    fn nan_is_a_gap_and_infinities_are_at_the_ends_of_the_scale() {
        assert_eq!(history(&[1.0, f64::NAN, 2.0]).blocks(3), "▁ █");
        assert_eq!(history(&[f64::NAN, f64::NAN]).blocks(2), "  ");
        assert!(history(&[f64::NAN]).range(1).is_none());
        let infinite = history(&[f64::NEG_INFINITY, 1.0, 1.5, 2.0, f64::INFINITY]);
        assert_eq!(infinite.blocks(5), "▁▁▅██");
        assert_eq!(infinite.range(5), Range { min: f64::NEG_INFINITY, max: f64::INFINITY });
        assert_eq!(history(&[f64::INFINITY, f64::INFINITY]).blocks(2), "██");
        let mut both = History::default();
        both.push(Duration::ZERO, f64::INFINITY);
        both.push(Duration::ZERO, f64::NEG_INFINITY);
        assert_eq!(both.blocks(1), " ", "their mean is no number");
    }

    #[test]
    fn the_widest_scale_there_is_has_a_middle() {
        assert_eq!(history(&[f64::MIN, 0.0, f64::MAX]).blocks(3), "▁▅█");
        assert_eq!(history(&[0.0, 5e-324]).blocks(2), "▁█");
    }

    #[test]
    fn messages_that_come_faster_than_columns_share_one_with_their_mean_and_extremes() {
        let ms = Duration::from_millis;
        let mut history = History::default();
        for (at, value) in [(0, 0.0), (49, 4.0), (50, 8.0), (99, 0.0), (99, f64::NAN), (101, 0.0)] {
            history.push(ms(at), value);
        }
        assert_eq!(history.columns.iter().map(Column::mean).collect::<Vec<_>>(), [Some(2.0), Some(4.0), Some(0.0)]);
        assert_eq!(history.range(2), Range { min: 0.0, max: 8.0 });
        assert_eq!(history.blocks(3), "▃▅▁", "on the scale of all values");
        history.push(ms(10), 0.0);
        assert_eq!(history.columns.len(), 4, "a time that goes back begins another");
    }

    #[test]
    fn no_more_is_kept_than_a_terminal_shows() {
        let history = history(&[1.0; MOST_COLUMNS + 5]);
        assert_eq!(history.columns.len(), MOST_COLUMNS);
        assert_eq!(history.columns[0].begin, COLUMN_TIME * 5, "the oldest have gone");
    }

    #[test]
    fn figures_have_six_digits_unless_they_are_whole() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (-1.0 / 3.0, "-0.333333"),
            (2.0 / 3.0 * 1e-4, "6.66667e-5"),
            (0.000125, "0.000125"),
            (9.999_999_9, "10"),
            (1234.5678, "1234.57"),
            (1_234_567.8, "1234568"),
            (1_795_204_980.0, "1795204980"),
            (-999_999_999_999_999.0, "-999999999999999"),
            (1e15, "1e15"),
            (1.234_567_8e300, "1.23457e300"),
            (5e-324, "4.94066e-324"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    fn row<'a>(name: &str, last: &'a str, history: &'a History) -> Row<'a> {
        Row { name: name.into(), last, history }
    }

    fn text(line: &Line) -> String {
        let range = line.range.as_ref().map_or(String::new(), |(min, max)| format!("  min {min}  max {max}"));
        format!("{}  {}{range}  {}", line.name, line.last, line.blocks)
    }

    #[test]
    fn the_parts_of_lines_stand_below_each_other_and_fill_the_width_but_its_last_column() {
        let (x, y) = (history(&[1.0, -1.5]), history(&[20.0, 20.0]));
        let lines = Layout::default().lines(&[row("x", "-1.5", &x), row("long.y", "20", &y)], 60);
        let lines: Vec<_> = lines.iter().map(text).collect();
        let expected = [("x       -1.5  min -1.5  max    1", "█▁"), ("long.y    20  min   20  max   20", "▄▄")];
        assert_eq!(lines, expected.map(|(figures, blocks)| format!("{figures}  {blocks:>25}")));
        assert!(lines.iter().all(|line| line.chars().count() == 59));
    }

    #[test]
    fn in_a_narrow_terminal_the_range_goes_first_and_then_the_beginnings_of_names() {
        let x = history(&[1.0, 2.0]);
        let line = |width| text(&Layout::default().lines(&[row("pose.position.x", "2", &x)], width)[0]);
        assert_eq!(line(47), "pose.position.x  2  min 1  max 2            ▁█");
        assert_eq!(line(46), format!("pose.position.x  2  {:>25}", "▁█"));
        assert_eq!(line(30), "….position.x  2            ▁█");
        assert_eq!(line(20), "…ition.x  2      ▁█");
        for width in 6..100 {
            assert_eq!(line(width).chars().count(), width - 1, "{width}");
        }
    }

    #[test]
    fn figures_that_get_shorter_leave_the_blocks_where_they_are() {
        let x = history(&[0.0]);
        let mut layout = Layout::default();
        let before = layout.lines(&[row("x", "-0.123456", &x)], 60);
        let after = layout.lines(&[row("x", "1", &x)], 60);
        assert_eq!(before[0].blocks, after[0].blocks);
        assert_eq!(after[0].last, "        1");
    }

    #[test]
    fn a_range_of_no_number_is_told_by_a_dash() {
        let gap = history(&[f64::NAN]);
        let lines = Layout::default().lines(&[row("x", "NaN", &gap)], 60);
        assert_eq!(lines[0].range, Some(("  -".into(), "  -".into())));
    }
}
