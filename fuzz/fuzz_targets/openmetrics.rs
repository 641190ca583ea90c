//! Any text as metrics: samples or an error, and each sample is read as the same again when it is written.
#![no_main]

use conduit::net::openmetrics::{Text, samples};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let lines = text.lines().count();
    let mut read = 0;
    for (at, sample) in samples(&text).enumerate() {
        read += 1;
        assert!(read <= lines + 1);
        let Ok(sample) = sample else {
            assert_eq!(samples(&text).count(), at + 1, "nothing behind an error");
            break;
        };
        // Those of recording rules, which this program does not write.
        if sample.name.contains(':') {
            continue;
        }
        let mut again = Text::new();
        let labels: Vec<(&str, &str)> = sample.labels.iter().map(|(name, value)| (*name, &**value)).collect();
        again.gauge(sample.name, "").sample(&labels, sample.value);
        let again = again.finish();
        let found = samples(&again).next().expect("a sample").expect("no error");
        assert_eq!((found.name, &found.labels), (sample.name, &sample.labels));
        assert_eq!(found.value.to_string(), sample.value.to_string(), "NaN is no other");
    }
});
