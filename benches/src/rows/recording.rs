//! Recording beside the writer of the `mcap` crate, what it costs a publisher, and playing.

use super::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::clock::{ns, span, ticks};
use crate::stage::{Role, allow, role};
use crate::stats::summary;
use conduit::tank::{Compression, Player, Recorder, Recording, SyncPolicy};
use conduit::topic::{Overflow, SlotKind, Timestamps};
use conduit::{Publisher, Subscriber};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const ZSTD: Compression = Compression::Zstd { level: 1 };
const THEIRS: &str = "mcap crate, one thread";
const OURS: &str = "conduit, from a topic";

pub fn rows() -> Vec<Row> {
    vec![
        write("record 100 B", 0.9).cell(THEIRS, theirs::<100, 0>).cell(OURS, ours::<100, 0>),
        write("record 1 KiB", 0.9).cell(THEIRS, theirs::<1024, 0>).cell(OURS, ours::<1024, 0>),
        write("record 100 B, lz4", 1.7).cell(THEIRS, theirs::<100, 1>).cell(OURS, ours::<100, 1>),
        write("record 1 KiB, lz4", 1.7).cell(THEIRS, theirs::<1024, 1>).cell(OURS, ours::<1024, 1>),
        write("record 100 B, zstd", 1.7).cell(THEIRS, theirs::<100, 2>).cell(OURS, ours::<100, 2>),
        write("record 1 KiB, zstd", 1.7).cell(THEIRS, theirs::<1024, 2>).cell(OURS, ours::<1024, 2>),
        Row::new(
            "publish 100 B beside a recorder",
            "time of one call, at so many a second; the recorder is another process, on the other core",
        )
        .column("1k", "p50 at 1 kHz", Time)
        .column("20k", "p50 at 20 kHz", Time)
        .column("block", "p50 of 256 at once, each", Time)
        .cell("alone", publish::<false>)
        .cell("recorded", publish::<true>)
        .target("recorded", "1k", &["alone"], AtMost(1.05))
        .target("recorded", "20k", &["alone"], AtMost(1.05))
        .target("recorded", "block", &["alone"], AtMost(1.05)),
        Row::new("play 100 B as fast as it goes", "without subscribers")
            .column("rate", "messages/s", Rate)
            .cell("conduit", play_fast)
            .target("conduit", "rate", &[], AtLeast(2e6)),
        Row::new(
            "play as it was recorded",
            "1000 messages, a millisecond apart: how far each is from where it should be",
        )
        .column("p50", "p50", Time)
        .column("p99", "p99", Time)
        .cell("conduit", play_spaced)
        .target("conduit", "p99", &[], AtMost(100e3)),
    ]
}

fn write(name: &'static str, at_least: f64) -> Row {
    Row::new(
        name,
        "from the first message to the finished file; numbers that wander, as sensors say; both may use both cores",
    )
    .column("rate", "messages/s", Rate)
    .target(OURS, "rate", &[THEIRS], AtLeast(at_least))
}

fn compression(number: u8) -> Compression {
    [Compression::None, Compression::Lz4, ZSTD][usize::from(number)]
}

/// How many messages take long enough to measure, and little enough of the disk.
fn messages(len: usize, compression: u8, quick: bool) -> u64 {
    let bytes = if compression == 0 { 128 << 20 } else { 48 << 20 };
    (if quick { bytes / 4 } else { bytes } / (len as u64 + 31)).max(1)
}

/// Where files go: `CONDUIT_BENCH_DIR`, or where temporary ones do.
fn file(context: &Context) -> PathBuf {
    let directory = std::env::var_os("CONDUIT_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    directory.join(format!("{}.mcap", context.topic(1).name))
}

/// Numbers that wander, as what sensors say does, so that they can be compressed about as well.
fn payloads<const LEN: usize>() -> Vec<[u8; LEN]> {
    let (mut noise, mut value) = (0x2545_f491_4f6c_dd1d_u64, 0.0f64);
    let mut next = || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        value += (noise % 1000) as f64 * 1e-4 - 0.05;
        value.to_le_bytes()
    };
    let payload = |_| {
        let mut payload = [0; LEN];
        payload.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&next()[..chunk.len()]));
        payload
    };
    (0..1024).map(payload).collect()
}

/// Runs one process that may use both cores, which returns how many nanoseconds it took.
fn timed(context: &Context, act: impl Fn() -> Duration) -> Result<f64, String> {
    let stage = context.stage;
    let roles: Vec<Role> = vec![role(context.cores[0], || {
        allow(&context.cores);
        stage.put(0, act().as_nanos() as u64);
    })];
    context.play(roles)?;
    Ok(stage.get(0) as f64)
}

fn theirs<const LEN: usize, const C: u8>(context: &Context) -> Outcome {
    let (path, payloads, count) = (file(context), payloads::<LEN>(), messages(LEN, C, context.quick));
    let took = timed(context, || {
        let start = Instant::now();
        let (compression, level) = match compression(C) {
            Compression::None => (None, 0),
            Compression::Lz4 => (Some(mcap::Compression::Lz4), 0),
            Compression::Zstd { level } => (Some(mcap::Compression::Zstd), level as u32),
        };
        let options =
            mcap::WriteOptions::new().compression(compression).compression_level(level).compression_threads(0);
        let file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
        let mut writer = options.create(file).expect("a writer");
        let channel_id = writer.add_channel(0, "t", "", &Default::default()).expect("a channel");
        for at in 0..count {
            let header =
                mcap::records::MessageHeader { channel_id, sequence: at as u32, log_time: at, publish_time: at };
            writer.write_to_known_channel(&header, &payloads[at as usize % 1024]).expect("written");
        }
        writer.finish().expect("finished");
        start.elapsed()
    });
    let _ = std::fs::remove_file(&path);
    Ok(vec![("rate", count as f64 / (took? * 1e-9))])
}

fn ours<const LEN: usize, const C: u8>(context: &Context) -> Outcome {
    let (path, payloads, count) = (file(context), payloads::<LEN>(), messages(LEN, C, context.quick));
    let domain = context.topic(1).name;
    let took = timed(context, || {
        let options = Publisher::<[u8]>::options().domain(&domain).depth(4096).max_len(LEN);
        let options = options.overflow(Overflow::Block).timestamps(Timestamps::None);
        let mut publisher = options.open("t").expect("a publisher");
        let recorder = Recorder::options()
            .domain(&domain)
            .compression(compression(C))
            .sync(SyncPolicy::None)
            // For all of it: what is measured is the time until all is written.
            .memory(1 << 30)
            .start(&path)
            .expect("a recorder");
        let start = Instant::now();
        for at in 0..count {
            publisher.publish(&payloads[at as usize % 1024]).expect("published");
        }
        let report = recorder.stop();
        let took = start.elapsed();
        assert_eq!(report.total().recorded, count, "{report:?}");
        publisher.remove().expect("removed");
        took
    });
    let _ = std::fs::remove_file(&path);
    Ok(vec![("rate", count as f64 / (took? * 1e-9))])
}

fn publish<const RECORDED: bool>(context: &Context) -> Outcome {
    let stage = context.stage;
    let (path, domain) = (file(context), context.topic(1).name);
    let per_block = 256;
    let quick = context.quick;
    let roles: Vec<Role> = vec![
        role(context.cores[0], || {
            let options = Publisher::<[u8]>::options().domain(&domain).depth(1024).max_len(100).slots(SlotKind::Frames);
            let mut publisher = options.timestamps(Timestamps::Clock).open("t").expect("a publisher");
            stage.meet();
            stage.meet();
            let payload = [7; 100];
            // One lane for each way of publishing, of a message or a block at a time.
            for (lane, interval, count, batch) in
                [(0, 1_000_000, 200, 1), (1, 50_000, 2000, 1), (2, 2_000_000, 100, per_block)]
            {
                let count = if quick { count / 2 } else { count };
                let interval = span(Duration::from_nanos(interval));
                let mut due = ticks();
                for sample in &mut stage.lane(lane)[..count] {
                    while ticks() < due {
                        std::hint::spin_loop();
                    }
                    due += interval;
                    let start = ticks();
                    for _ in 0..batch {
                        publisher.publish(&payload).expect("published");
                    }
                    *sample = ticks() - start;
                }
            }
            stage.meet();
            publisher.remove().expect("removed");
        }),
        role(context.cores[1], || {
            stage.meet();
            let options = Recorder::options().domain(&domain).sync(SyncPolicy::None);
            let recorder = RECORDED.then(|| options.start(&path).expect("a recorder"));
            stage.meet();
            stage.meet();
            if let Some(recorder) = recorder {
                assert!(recorder.stop().total().recorded > 0);
            }
        }),
    ];
    let played = context.play(roles);
    let _ = std::fs::remove_file(&path);
    played?;
    let p50 = |lane: usize, batch: u64| {
        let taken = stage.recorded(lane).iter().take_while(|&&t| t > 0);
        let mut taken: Vec<f64> = taken.map(|&t| ns(t) / batch as f64).collect();
        summary(&mut taken).map(|summary| summary.p50).ok_or("nothing was published")
    };
    Ok(vec![("1k", p50(0, 1)?), ("20k", p50(1, 1)?), ("block", p50(2, per_block as u64)?)])
}

/// Records so many messages of 100 bytes, so far apart.
fn record(path: &PathBuf, domain: &str, count: u64, apart: u64) {
    let options = Publisher::<[u8]>::options().domain(domain).depth(4096).max_len(100);
    let mut publisher = options.overflow(Overflow::Block).timestamps(Timestamps::Given).open("t").expect("a publisher");
    let recorder = Recorder::options().domain(domain).memory(1 << 30).start(path).expect("a recorder");
    for at in 0..count {
        publisher.publish_at(&[7; 100], 1_000_000_000 + at * apart).expect("published");
    }
    assert_eq!(recorder.stop().total().recorded, count);
    publisher.remove().expect("removed");
}

fn play_fast(context: &Context) -> Outcome {
    let (path, domain) = (file(context), context.topic(1).name);
    let count = if context.quick { 200_000 } else { 1_000_000 };
    let took = timed(context, || {
        record(&path, &domain, count, 1000);
        assert!(Recording::open(&path).expect("a recording").is_complete());
        let options = Player::options().domain(&domain).overflow(Overflow::Overwrite).as_fast_as_possible();
        let start = Instant::now();
        let report = options.start([&path]).expect("a player").finish().expect("played");
        assert_eq!(report.topics["t"].published, count);
        start.elapsed()
    });
    let _ = std::fs::remove_file(&path);
    let _ = conduit::topic::clean(Some(&domain), false);
    Ok(vec![("rate", count as f64 / (took? * 1e-9))])
}

fn play_spaced(context: &Context) -> Outcome {
    let stage = context.stage;
    let (path, domain) = (file(context), context.topic(1).name);
    let (count, apart) = (if context.quick { 200 } else { 1000 }, 1_000_000);
    let roles: Vec<Role> = vec![
        role(context.cores[0], || {
            record(&path, &domain, count, apart);
            stage.meet();
            let options = Player::options().domain(&domain).wait_for_subscribers(Duration::from_secs(10));
            options.start([&path]).expect("a player").finish().expect("played");
            stage.meet();
        }),
        role(context.cores[1], || {
            stage.meet();
            let options = Subscriber::<[u8]>::options().domain(&domain).wait(Duration::from_secs(10));
            let mut subscriber = options.open("t").expect("a subscriber");
            let mut first = None;
            for (at, sample) in (0..count).zip(stage.lane(0)) {
                let message = subscriber.recv().expect("a message");
                let time = message.timestamp().expect("a time").as_nanos() as u64;
                let due = *first.get_or_insert(time) + at * apart;
                // Nothing is recorded as 0.
                *sample = time.abs_diff(due) + 1;
            }
            stage.meet();
        }),
    ];
    let played = context.play(roles);
    let _ = std::fs::remove_file(&path);
    let _ = conduit::topic::clean(Some(&domain), false);
    played?;
    let mut errors: Vec<f64> = stage.recorded(0)[..count as usize].iter().map(|&t| t as f64).collect();
    let errors = summary(&mut errors).ok_or("nothing was played")?;
    Ok(vec![("p50", errors.p50), ("p99", errors.p99)])
}
