//! Signals by name.

/// Those that make a program end.
pub const SIGNALS: &[(&str, i32)] = &[
    ("SIGINT", libc::SIGINT),
    ("SIGTERM", libc::SIGTERM),
    ("SIGKILL", libc::SIGKILL),
    ("SIGHUP", libc::SIGHUP),
    ("SIGQUIT", libc::SIGQUIT),
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGABRT", libc::SIGABRT),
];

/// The number of a signal, by its name with or without `SIG`.
pub fn number(name: &str) -> Option<i32> {
    SIGNALS.iter().find(|(known, _)| *known == name || known.strip_prefix("SIG") == Some(name)).map(|(_, it)| *it)
}

/// The name of a signal; its number, if it is none of them.
pub fn name(number: i32) -> String {
    let known = SIGNALS.iter().find(|(_, it)| *it == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).into())
}
