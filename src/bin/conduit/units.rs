//! Quantities as people write and read them.

use std::time::SystemTime;

pub use conduit::yaml::quantity::{duration, size};
use conduit::yaml::quantity::{size_in, split};

/// Reads a size from `least` to `most`.
pub fn size_within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let range = || format!("{} to {} is possible", memory(least as u64), memory(most as u64));
    size_in(text, least as f64..=most as f64, range)
}

/// Reads a rate in hertz: `10`, `0.5`, `1kHz`.
pub fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text);
    let hertz = match unit {
        "" | "Hz" | "hz" => 1.0,
        "kHz" | "k" => 1e3,
        _ => return Err(format!("`{unit}` is no unit of rate: Hz and kHz are")),
    };
    let total = number.ok_or_else(|| format!("`{text}` is no rate such as 10 or 0.5"))? * hertz;
    if !(1e-6..=1e9).contains(&total) { Err("0.000001 to 1e9 Hz is possible".into()) } else { Ok(total) }
}

/// `21.3 µs`.
pub fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        n if n < 1e3 => return format!("{n:.0} ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n if n < 120e9 => (n / 1e9, "s"),
        n if n < 7200e9 => (n / 60e9, "min"),
        n if n < 172_800e9 => (n / 3600e9, "h"),
        n => (n / 86_400e9, "days"),
    };
    format!("{} {unit}", three_digits(value))
}

/// `4.10 MB`, of 1000.
pub fn bytes(bytes: f64) -> String {
    let (value, unit) = match bytes {
        n if n < 1e3 => return format!("{n:.0} B"),
        n if n < 1e6 => (n / 1e3, "kB"),
        n if n < 1e9 => (n / 1e6, "MB"),
        n if n < 1e12 => (n / 1e9, "GB"),
        n => (n / 1e12, "TB"),
    };
    format!("{} {unit}", three_digits(value))
}

/// `20 KiB`, of 1024: what memory is counted in.
pub fn memory(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if value.fract() == 0.0 { format!("{value} {unit}") } else { format!("{} {unit}", three_digits(value)) }
}

/// `1000 Hz`, `29.97 Hz`.
pub fn hertz(hertz: f64) -> String {
    match hertz {
        h if h >= 1e6 => format!("{} MHz", three_digits(h / 1e6)),
        h if h >= 1e5 => format!("{} kHz", three_digits(h / 1e3)),
        h if h >= 1000.0 => format!("{h:.0} Hz"),
        h if h >= 100.0 => format!("{h:.1} Hz"),
        h => format!("{h:.2} Hz"),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A large number in at most four characters: `123k`.
pub fn short(number: u64) -> String {
    let letters = [(1e18, 'E'), (1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')];
    // Not what would be rounded to 1000 of a smaller letter.
    let fitting = letters.into_iter().find(|(unit, _)| number as f64 >= 0.9995 * unit);
    fitting.map_or_else(|| number.to_string(), |(unit, letter)| format!("{:.0}{letter}", number as f64 / unit))
}

/// `1 message`, `2 messages`.
pub fn several(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {many}", count(number)) }
}

/// `2026-11-20T19:43:00.123456789Z`, from nanoseconds since 1970.
pub fn utc(nanoseconds: i128) -> String {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days from 0000-03-01, in eras of 400 years; the year begins in March, so that leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        nanoseconds.rem_euclid(1_000_000_000)
    )
}

/// Nanoseconds since 1970; times before that are 0.
pub fn since_1970(time: SystemTime) -> i128 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn large_numbers_take_four_characters() {
        for (number, text) in [(7, "7"), (10_000, "10k"), (999_499, "999k"), (999_500, "1M"), (u64::MAX, "18E")] {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn durations_sizes_and_rates_are_read_as_written() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("100 ms"), Ok(Duration::from_millis(100)));
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("1.5kB"), Ok(1500));
        assert_eq!(size_within("4K", 1, 4096), Ok(4096));
        assert_eq!(size_within("4097", 1, 4096), Err("1 B to 4 KiB is possible".into()));
        assert_eq!(rate("0.5"), Ok(0.5));
        assert_eq!(rate("2kHz"), Ok(2000.0));
    }

    #[test]
    fn quantities_that_make_no_sense_are_refused() {
        for text in ["", "5", "s", "-1s", "5x", "1e3s", "0s", "99999999999h", "1..5s", "infs", "nan"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "x", "0", "-1", "5Q", "99999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["", "0", "-3", "1e10", "5 rpm"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_are_written_with_three_digits() {
        assert_eq!([time(12.4), time(1234.0), time(99_960.0), time(5e9)], ["12 ns", "1.23 µs", "100 µs", "5.00 s"]);
        assert_eq!([bytes(999.0), bytes(4096.0), bytes(1.5e9)], ["999 B", "4.10 kB", "1.50 GB"]);
        assert_eq!([memory(4096), memory(1 << 20), memory(1536)], ["4 KiB", "1 MiB", "1.50 KiB"]);
        assert_eq!(
            [hertz(29.97), hertz(100.0), hertz(1000.0), hertz(2.5e6)],
            ["29.97 Hz", "100.0 Hz", "1000 Hz", "2.50 MHz"]
        );
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn times_are_calendar_times() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(utc(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(utc(1_795_204_980_123_456_789), "2026-11-20T20:03:00.123456789Z");
        assert_eq!(utc(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999999999Z");
    }
}
