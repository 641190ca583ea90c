//! How much of the randomised work the tests do.

extern crate std;

use proptest::test_runner::Config;

/// How many cases of a property to try: `cases` at full size, fewer as `CONDUIT_ROUNDS` (in percent) says.
pub(crate) fn rounds(cases: u32) -> Config {
    let percent = std::env::var("CONDUIT_ROUNDS").ok().and_then(|percent| percent.parse().ok()).unwrap_or(10);
    Config { cases: (cases / 100 * percent).max(16), failure_persistence: None, ..Config::default() }
}
