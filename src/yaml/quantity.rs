//! Times and sizes as people write and read them.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Reads `250ms`, `5s`, `1.5m`.
///
/// # Errors
///
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let nanoseconds = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        "" => return Err(format!("{text}: of what? Write {text}s or {text}ms")),
        _ => return Err(format!("`{unit}` is no unit of time: ns, us, ms, s, m and h are")),
    };
    let total = number.ok_or_else(|| format!("`{text}` is no time such as 5s or 100ms"))? * nanoseconds;
    if !(1.0..=1e18).contains(&total) {
        return Err("from 1ns to about 30 years is possible".into());
    }
    Ok(Duration::from_nanos(total as u64))
}

/// Reads `4096`, `64K`, `1MiB`.
///
/// # Errors
///
/// What is wrong with it.
pub fn size(text: &str) -> Result<usize, String> {
    size_in(text, 1.0..=1e12, || "1 byte to 1 TB is possible".into())
}

/// As [`size`], for other sizes than those: `range` says which are possible.
///
/// # Errors
///
/// What is wrong with it.
pub fn size_in(text: &str, possible: RangeInclusive<f64>, range: impl FnOnce() -> String) -> Result<usize, String> {
    let (number, unit) = split(text);
    let bytes = match unit {
        "" | "B" => 1.0,
        "K" | "k" | "KiB" => 1024.0,
        "kB" | "KB" => 1e3,
        "M" | "MiB" => 1_048_576.0,
        "MB" => 1e6,
        "G" | "GiB" => 1_073_741_824.0,
        "GB" => 1e9,
        _ => return Err(format!("`{unit}` is no unit of size: K, M, G (of 1024) and kB, MB, GB (of 1000) are")),
    };
    let total = number.ok_or_else(|| format!("`{text}` is no size such as 4096 or 64K"))? * bytes;
    if !possible.contains(&total) {
        return Err(range());
    }
    usize::try_from(total as u64).map_err(|_| format!("at most {} bytes are possible here", usize::MAX))
}

/// A number and its unit.
pub fn split(text: &str) -> (Option<f64>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (text[..end].parse().ok(), text[end..].trim())
}

/// As [`duration`] reads it, exactly.
pub fn show_duration(time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    let units =
        [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
    exact(nanoseconds, &units).unwrap_or_else(|| format!("{nanoseconds}ns"))
}

const SIZES: [(&str, u128); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// As [`size`] reads it, exactly.
pub fn show_size(bytes: usize) -> String {
    exact_size(bytes).unwrap_or_else(|| format!("{bytes} bytes"))
}

/// `None` if it is no multiple of a unit.
pub fn exact_size(bytes: usize) -> Option<String> {
    exact(bytes as u128, &SIZES)
}

fn exact(number: u128, units: &[(&str, u128)]) -> Option<String> {
    let (unit, one) = units.iter().find(|(_, one)| number > 0 && number % one == 0)?;
    Some(format!("{}{unit}", number / one))
}
