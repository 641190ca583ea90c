//! What is promised of a recording: each message is in it, or counted.
#![cfg(feature = "tank")]

mod support;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use conduit::tank::{
    Compression, Counts, Error, Query, Recorder, RecorderOptions, Recording, Report, SyncPolicy, leftovers,
};
use conduit::topic::{Overflow, SlotKind, Timestamps};
use conduit::{Publisher, Subscriber};
use support::{Directory, Domain, KINDS, LEN, Noise, PATIENCE, Process, fill, hear, message, number, rounds, say};

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    support::run_role(&[("recorder", recorder)]);
}

fn options(domain: &Domain) -> RecorderOptions {
    Recorder::options().domain(domain.name()).sync(SyncPolicy::None)
}

/// The numbers of each topic's messages, in the order of the file; each message must be whole.
fn read(path: &Path) -> BTreeMap<String, Vec<u64>> {
    let recording = Recording::open(path).unwrap();
    assert!(recording.is_complete(), "{:?}", recording.problems());
    let mut numbers = BTreeMap::<String, Vec<u64>>::new();
    let mut messages = recording.messages(Query::new()).unwrap();
    while let Some(message) = messages.next().unwrap() {
        let number = number(message.data).unwrap();
        assert_eq!(message.sequence, number as u32, "the sequence in the file is that of the topic");
        numbers.entry(message.topic.name.clone()).or_default().push(number);
    }
    numbers
}

fn counts(recorded: u64, lost: u64) -> Counts {
    let mut counts = Counts::default();
    (counts.recorded, counts.lost) = (recorded, lost);
    counts
}

fn sound(report: &Report) {
    assert!(report.fault.is_none(), "{:?}", report.fault);
    assert!(report.failed.is_empty(), "{:?}", report.failed);
}

#[test]
fn each_message_of_each_topic_is_in_the_file_in_order() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd { level: 1 }] {
        let domain = Domain::new();
        let directory = Directory::new(&domain);
        let path = directory.file("run.mcap");
        let mut publishers = Vec::new();
        for (topic, kind, overflow) in [
            ("words", SlotKind::Words, Overflow::Overwrite),
            ("frames", SlotKind::Frames, Overflow::Overwrite),
            ("lossless", SlotKind::Words, Overflow::Block),
            ("with/slash", SlotKind::Frames, Overflow::Block),
        ] {
            let options = domain.publisher_of(kind, LEN).overflow(overflow).depth(4096);
            publishers.push((topic, options.timestamps(Timestamps::Clock).open(topic).unwrap()));
        }
        let recorder = options(&domain).compression(compression).chunk_bytes(10_000).start(&path).unwrap();
        let each = 2000;
        for at in 0..each {
            for (_, publisher) in &mut publishers {
                publisher.publish(&message(LEN, at)).unwrap();
            }
        }
        let report = recorder.stop();
        sound(&report);
        let read = read(&path);
        for (topic, _) in &publishers {
            assert_eq!(report.topics[*topic], counts(each, 0), "{topic}");
            assert_eq!(read[*topic], (0..each).collect::<Vec<_>>(), "{topic}");
        }
        assert_eq!(report.files, [path]);
    }
}

#[test]
fn times_are_those_of_publishing_since_1970() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let mut stamped = domain.bytes().timestamps(Timestamps::Clock).open("stamped").unwrap();
    let mut plain = domain.bytes().timestamps(Timestamps::None).open("plain").unwrap();
    let recorder = options(&domain).start(&path).unwrap();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let before = now();
    stamped.publish(b"a").unwrap();
    plain.publish(b"b").unwrap();
    let published = now();
    sound(&recorder.stop());
    let after = now();
    // The pair of clock readings was taken at another time, between which the clocks may have been adjusted.
    let slack = 10_000_000;
    let recording = Recording::open(&path).unwrap();
    let mut messages = recording.messages(Query::new()).unwrap();
    let mut seen = 0;
    while let Some(message) = messages.next().unwrap() {
        let latest = if message.topic.name == "stamped" { published } else { after };
        assert!((before - slack..=latest + slack).contains(&message.log_time), "{}", message.topic.name);
        assert_eq!(message.log_time, message.publish_time);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

/// The sum must be exact however the recorder is overwhelmed; that it was overwhelmed is seen, too.
#[test]
fn what_is_published_faster_than_it_can_be_recorded_is_counted_to_the_last_message() {
    let mut lost = 0;
    for round in 0..rounds(20) {
        let domain = Domain::new();
        let directory = Directory::new(&domain);
        let path = directory.file("run.mcap");
        let overflow = |topic| if topic == "lossless" { Overflow::Block } else { Overflow::Overwrite };
        let topics = ["words", "frames", "lossless"];
        let mut publishers: Vec<_> = topics
            .iter()
            .map(|topic| {
                let kind = KINDS[usize::from(*topic != "words")];
                domain.publisher_of(kind, 256).overflow(overflow(*topic)).depth(16).open(topic).unwrap()
            })
            .collect();
        // The smallest memory, and the slowest compression.
        let recorder = options(&domain)
            .compression(Compression::Zstd { level: 19 })
            .workers(1)
            .chunk_bytes(1 << 16)
            .memory(1 << 18)
            .start(&path)
            .unwrap();
        let mut noise = Noise::new(u64::from(round) + 1);
        let each = 20_000 + noise.below(10_000);
        let mut bytes = [0; 256];
        for at in 0..each {
            fill(&mut bytes, at);
            for publisher in &mut publishers {
                publisher.publish(&bytes).unwrap();
            }
        }
        let report = recorder.stop();
        sound(&report);
        let read = read(&path);
        let said = Recording::open(&path).unwrap().counts().unwrap();
        for topic in topics {
            let counts = report.topics[topic];
            assert_eq!(counts.published(), each, "{topic}: {counts:?}");
            let numbers = read.get(topic).map_or(&[][..], |numbers| numbers);
            assert_eq!(counts.recorded, numbers.len() as u64, "{topic}");
            assert!(numbers.is_sorted_by(|a, b| a < b), "{topic}: each at most once, and in order");
            assert_eq!(said[topic], counts, "{topic}: what the file says");
            lost += counts.lost;
        }
    }
    assert!(lost > 0, "the recorder was not overwhelmed, so nothing was shown");
}

#[test]
fn a_topic_that_appears_later_is_recorded_from_its_first_message() {
    for _ in 0..rounds(100) {
        let domain = Domain::new();
        let directory = Directory::new(&domain);
        let path = directory.file("run.mcap");
        let recorder = options(&domain).topics(["late*"]).exclude(["*2"]).start(&path).unwrap();
        let mut publishers: Vec<_> = ["late1", "late2", "other"]
            .iter()
            .map(|topic| domain.publisher_of(SlotKind::Words, LEN).depth(1024).open(topic).unwrap())
            .collect();
        for at in 0..500 {
            for publisher in &mut publishers {
                publisher.publish(&message(LEN, at)).unwrap();
            }
        }
        // Found without a message to wake anybody.
        support::eventually("the topic is found", || recorder.progress().topics == 1);
        let report = recorder.stop();
        sound(&report);
        assert_eq!(report.topics.keys().collect::<Vec<_>>(), ["late1"]);
        assert_eq!(report.topics["late1"], counts(500, 0));
        assert_eq!(read(&path)["late1"].len(), 500);
    }
}

#[test]
fn a_topic_whose_publisher_and_schema_change_goes_on_in_the_same_recording() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let mut left = domain.publisher::<support::Left>().depth(64).open("t").unwrap();
    let recorder = options(&domain).start(&path).unwrap();
    for value in 0..20 {
        left.publish(&support::Left { value: value.into() }).unwrap();
    }
    drop(left);
    let mut right = domain.publisher::<support::Right>().depth(64).open("t").unwrap();
    for value in 20..40 {
        right.publish(&support::Right { value: value.into() }).unwrap();
    }
    drop(right);
    // The same again: no new channel.
    let mut right = domain.publisher::<support::Right>().depth(64).open("t").unwrap();
    right.publish(&support::Right { value: 40.0 }).unwrap();
    let report = recorder.stop();
    sound(&report);
    assert_eq!(report.topics["t"], counts(41, 0));
    let recording = Recording::open(&path).unwrap();
    let channels: Vec<_> = recording.topics().iter().map(|t| (t.schema.name.as_str(), t.messages)).collect();
    assert_eq!(channels, [("test_msgs/msg/Left", 20), ("test_msgs/msg/Right", 21)]);
    let mut messages = recording.messages(Query::new()).unwrap();
    let mut expected = 0;
    while let Some(message) = messages.next().unwrap() {
        let value = f64::from_le_bytes(message.data[4..12].try_into().unwrap());
        assert_eq!((value, message.sequence), (f64::from(expected), expected), "CDR: four bytes, then the struct");
        assert_eq!(message.data[..4], [0, 1, 0, 0]);
        expected += 1;
    }
    assert_eq!(expected, 41);
}

#[test]
fn a_recording_goes_on_in_another_file_without_a_gap_and_each_file_stands_alone() {
    for _ in 0..rounds(20) {
        let domain = Domain::new();
        let directory = Directory::new(&domain);
        let mut map = domain.publisher_of(SlotKind::Frames, LEN).latched(true).open("map").unwrap();
        let mut fast =
            domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block).depth(256).open("fast").unwrap();
        map.publish(&message(LEN, 0)).unwrap();
        let recorder =
            options(&domain).chunk_bytes(8 << 10).split_size(64 << 10).start(directory.file("run.mcap")).unwrap();
        let each = 5000;
        for at in 0..each {
            fast.publish(&message(LEN, at)).unwrap();
        }
        recorder.split();
        let report = recorder.stop();
        sound(&report);
        assert_eq!(report.topics["fast"], counts(each, 0));
        assert_eq!(report.topics["map"], counts(1, 0), "what is repeated is not counted");
        assert!(report.files.len() > 3, "{:?}", report.files);
        assert_eq!(report.files[0], directory.file("run_0000.mcap"));
        let mut numbers = Vec::new();
        for file in &report.files {
            let mut read = read(file);
            numbers.append(read.entry("fast".into()).or_default());
            assert_eq!(read["map"], [0], "{} begins with the map", file.display());
            assert!(
                std::fs::metadata(file).unwrap().len() < (64 << 10) + (16 << 10),
                "no larger than asked, but for its end"
            );
            let losses = Recording::open(file).unwrap().counts().unwrap();
            assert!(losses.values().all(|counts| counts.lost == 0));
        }
        assert_eq!(numbers, (0..each).collect::<Vec<_>>());
    }
}

#[test]
fn of_many_files_the_last_are_kept() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let mut publisher =
        domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block).depth(256).open("t").unwrap();
    let options = options(&domain).chunk_bytes(4 << 10).split_size(16 << 10).keep(3);
    let recorder = options.start(directory.file("run.mcap")).unwrap();
    for at in 0..5000 {
        publisher.publish(&message(LEN, at)).unwrap();
    }
    let report = recorder.stop();
    sound(&report);
    assert_eq!(report.files.len(), 3);
    let there = std::fs::read_dir(&directory.0).unwrap().count();
    assert_eq!(there, 3, "the others are gone");
    let kept: Vec<u64> = report.files.iter().flat_map(|file| read(file).remove("t").unwrap()).collect();
    assert_eq!(*kept.last().unwrap(), 4999);
    assert!(kept.is_sorted_by(|a, b| a + 1 == *b), "what is kept has no gap");
}

#[test]
fn a_snapshot_is_the_last_of_what_was_published_and_the_latched() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let mut map = domain.publisher_of(SlotKind::Frames, LEN).latched(true).open("map").unwrap();
    let mut fast = domain
        .publisher_of(SlotKind::Words, LEN)
        .overflow(Overflow::Block)
        .timestamps(Timestamps::Given)
        .depth(256)
        .open("fast")
        .unwrap();
    map.publish(&message(LEN, 0)).unwrap();
    let options = options(&domain).chunk_bytes(4 << 10).snapshot(Duration::from_secs(1));
    let recorder = options.start(directory.file("crash.mcap")).unwrap();
    // Ten seconds of messages, a thousand a second, in no time. The map is older than what a snapshot reaches back to.
    let publish = |fast: &mut Publisher<[u8]>, numbers: std::ops::Range<u64>| {
        for at in numbers {
            fast.publish_at(&message(LEN, at), 1_000_000_000_000_000 + at * 1_000_000).unwrap();
        }
    };
    publish(&mut fast, 0..10_000);
    support::eventually("all is taken", || recorder.progress().messages == 10_001);
    recorder.trigger();
    support::eventually("the snapshot is written", || recorder.progress().files == 1);
    publish(&mut fast, 10_000..10_500);
    support::eventually("all is taken", || recorder.progress().messages == 10_501);
    recorder.trigger();
    let report = recorder.stop();
    sound(&report);
    assert_eq!(report.files.len(), 2);
    let first = read(&report.files[0]);
    let numbers = &first["fast"];
    assert_eq!(*numbers.last().unwrap(), 9_999);
    // To the chunk, of which each has some 40 ms.
    assert!((1000..=1100).contains(&numbers.len()), "{}", numbers.len());
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b));
    assert_eq!(first["map"], [0]);
    assert_eq!(read(&report.files[1])["fast"], (10_000..10_500).collect::<Vec<_>>(), "only what came since");
    let counts = report.topics["fast"];
    assert_eq!(counts.published(), 10_500);
    assert_eq!(counts.recorded, numbers.len() as u64 + 500);
    assert_eq!(counts.lost, 0, "{counts:?}");
}

#[test]
fn what_is_published_while_it_is_paused_is_counted_as_that() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let mut publisher =
        domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block).depth(64).open("t").unwrap();
    let recorder = options(&domain).paused(true).start(&path).unwrap();
    let mut publish = |numbers: std::ops::Range<u64>| {
        for at in numbers {
            publisher.publish(&message(LEN, at)).unwrap();
        }
    };
    // That the recorder takes them although it is paused shows in that the publisher is not kept waiting.
    publish(0..1000);
    let taken = || topic_lag(&domain) == 0;
    support::eventually("what came while it was paused is taken", taken);
    recorder.resume();
    publish(1000..2000);
    support::eventually("what came after that is taken", taken);
    recorder.pause();
    publish(2000..2500);
    let report = recorder.stop();
    sound(&report);
    let counts = report.topics["t"];
    assert_eq!((counts.recorded, counts.paused, counts.lost), (1000, 1500, 0));
    assert_eq!(read(&path)["t"], (1000..2000).collect::<Vec<_>>());
}

fn topic_lag(domain: &Domain) -> u64 {
    let info = conduit::topic::inspect(Some(domain.name()), "t").unwrap();
    info.subscribers.iter().map(|subscriber| subscriber.lag).max().unwrap_or(0)
}

#[test]
fn no_recording_is_overwritten_and_a_wrong_option_is_an_error_before_anything_is_made() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(options(&domain).start(&path), Err(Error::Exists { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let other = directory.file("other.mcap");
    for wrong in [
        options(&domain).memory(1),
        options(&domain).chunk_bytes(0),
        options(&domain).workers(0),
        options(&domain).keep(0),
        options(&domain).sync(SyncPolicy::Every(Duration::ZERO)),
        options(&domain).snapshot(Duration::from_secs(1)).split_size(1 << 30),
    ] {
        assert!(matches!(wrong.start(&other), Err(Error::InvalidOption { .. })));
    }
    assert!(matches!(Recorder::options().domain("no domain").start(&other), Err(Error::Topic(_))));
    assert!(!other.exists());
}

#[test]
fn a_disk_with_too_little_left_ends_the_recording_with_a_finished_file() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let mut publisher = domain.publisher_of(SlotKind::Words, LEN).depth(64).open("t").unwrap();
    let recorder = options(&domain).min_free(u64::MAX).chunk_time(Duration::from_millis(2)).start(&path).unwrap();
    publisher.publish(&message(LEN, 0)).unwrap();
    wait_for_end(&recorder);
    let report = recorder.stop();
    assert!(matches!(report.fault, Some(Error::DiskFull { .. })), "{:?}", report.fault);
    assert_eq!(report.topics["t"], counts(1, 0));
    assert_eq!(read(&path)["t"], [0]);
}

fn wait_for_end(recorder: &Recorder) {
    let fd = recorder.as_fd();
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
    let patience = rustix::time::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&patience)).unwrap(), 1, "the recorder does not end of itself");
}

// ---------------------------------------------------------------------------------------------------------------------
// Processes

/// Records everything until it hears a line; with a limit on the size of files, of which each write that would go beyond it
/// fails.
fn recorder(args: &[&str]) {
    let [domain, path, limit] = args else { panic!("domain, path, limit") };
    let limit: u64 = limit.parse().unwrap();
    if limit > 0 {
        // SAFETY: no memory but the struct is involved. Ignored, the signal leaves the error to the call.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
    }
    let options = Recorder::options().domain(domain).sync(SyncPolicy::Every(Duration::from_millis(20)));
    let recorder = options.chunk_time(CHUNK_TIME).chunk_bytes(1 << 16).start(path).unwrap();
    say("recording");
    if limit > 0 {
        wait_for_end(&recorder);
    } else {
        hear();
    }
    let report = recorder.stop();
    let counts = report.topics.get("t").copied().unwrap_or_default();
    say(format_args!("{} {} {}", counts.published(), counts.recorded, report.fault.is_some()));
}

const CHUNK_TIME: Duration = Duration::from_millis(100);

/// However full the disk gets: the file has an end, holds what it says, and the rest is counted.
#[test]
fn a_write_that_fails_ends_the_recording_with_a_finished_file_and_an_exact_count() {
    let mut noise = Noise::new(1);
    for _ in 0..rounds(50) {
        let domain = Domain::new();
        let directory = Directory::new(&domain);
        let path = directory.file("run.mcap");
        let mut publisher = domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block).open("t").unwrap();
        let limit = 20_000 + noise.below(2_000_000);
        let path_text = path.to_str().unwrap();
        let mut recorder = Process::start("recorder", &[domain.name(), path_text, &limit.to_string()]);
        recorder.expect("recording");
        let mut published = 0;
        let line = loop {
            publisher.publish(&message(LEN, published)).unwrap();
            published += 1;
            if let Some(line) = recorder.line_now() {
                break line;
            }
        };
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words[2], "true", "it says why it ended");
        let (known, recorded): (u64, u64) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        assert!(known <= published);
        recorder.finish();
        let recording = Recording::open(&path).unwrap();
        assert!(recording.len() <= limit);
        let there = recording.message_count();
        assert_eq!(there, recorded, "limit {limit}, {:?}", recording.problems());
        if recording.is_complete() {
            let counts = recording.counts().unwrap()["t"];
            assert_eq!(counts.recorded, there);
            assert!(counts.published() <= known, "the file knows of what came before its end");
        }
    }
}

/// A recorder that gets no time at all keeps nobody waiting, and counts what it missed when it does.
#[test]
fn a_recorder_that_is_stopped_slows_no_publisher_and_counts_what_it_missed() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let mut publisher = domain.publisher_of(SlotKind::Words, LEN).depth(256).open("t").unwrap();
    let mut recorder = Process::start("recorder", &[domain.name(), path.to_str().unwrap(), "0"]);
    recorder.expect("recording");
    let mut published = 0;
    let mut publish = |messages| {
        for _ in 0..messages {
            publisher.publish(&message(LEN, published)).unwrap();
            published += 1;
        }
    };
    publish(100);
    recorder.signal(libc::SIGSTOP);
    publish(100_000);
    recorder.signal(libc::SIGCONT);
    publish(100);
    recorder.tell("stop");
    let line = recorder.line();
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!(words[0].parse::<u64>().unwrap(), published);
    assert_eq!(words[2], "false");
    let numbers = &read(&path)["t"];
    assert_eq!(numbers.len() as u64, words[1].parse::<u64>().unwrap());
    assert!((numbers.len() as u64) < published, "it was not stopped, so nothing was shown");
}
/// What is older than the chunk time outlives the recorder, whenever that is killed.
#[test]
fn a_recorder_that_is_killed_loses_nothing_that_is_older_than_the_chunk_time() {
    let mut noise = Noise::seeded("a_recorder_that_is_killed");
    for _ in 0..rounds(200) {
        let domain = Domain::new();
        let directory = Directory::new(&domain);
        let path = directory.file("run.mcap");
        let options = domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block).depth(1024);
        let mut publisher = options.timestamps(Timestamps::Clock).open("t").unwrap();
        let mut watcher = Subscriber::<[u8]>::options().domain(domain.name()).open("t").unwrap();
        let recorder = Process::start("recorder", &[domain.name(), path.to_str().unwrap(), "0"]);
        let mut recorder = recorder;
        recorder.expect("recording");
        // For up to four chunk times, a message now and then: each sleep is the time between messages, not a wait.
        let pause = Duration::from_micros(50 + noise.below(2000));
        let until = std::time::Instant::now() + CHUNK_TIME.mul_f64(noise.below(400) as f64 / 100.0);
        let mut times = Vec::new();
        while std::time::Instant::now() < until {
            publisher.publish(&message(LEN, times.len() as u64)).unwrap();
            times.push(watcher.recv().unwrap().timestamp().unwrap());
            std::thread::sleep(pause);
        }
        let now = || {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
        };
        let killed = now();
        recorder.kill();
        assert_eq!(leftovers(&directory.0).unwrap(), std::slice::from_ref(&path), "it is named");
        let report = conduit::tank::recover(&path).unwrap();
        assert!(leftovers(&directory.0).unwrap().is_empty());
        assert!(conduit::tank::check(&path).unwrap().is_sound(), "{report:?}");
        let numbers = read(&path).remove("t").unwrap_or_default();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "what is there is all from the beginning");
        let old = times.iter().filter(|time| **time + CHUNK_TIME < killed).count();
        assert!(numbers.len() >= old, "{} of {old} messages that were older than the chunk time", numbers.len());
    }
}

#[test]
fn parts_do_not_mix_with_those_of_an_earlier_recording() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let start = || Recorder::options().domain(domain.name()).split_size(1 << 20).start(directory.file("run.mcap"));
    // As with `keep`, which leaves the last ones.
    std::fs::write(directory.file("run_0007.mcap"), b"").unwrap();
    let error = start().unwrap_err();
    assert!(matches!(&error, Error::Exists { path } if path.ends_with("run_0007.mcap")), "{error}");
    std::fs::rename(directory.file("run_0007.mcap"), directory.file("runs_0007.mcap")).unwrap();
    let recorder = start().unwrap();
    // What comes while it runs is no reason to end.
    std::fs::write(directory.file("run_0001.mcap"), b"").unwrap();
    recorder.split();
    let report = recorder.stop();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    assert_eq!(report.files, [directory.file("run_0000.mcap"), directory.file("run_0002.mcap")]);
    assert_eq!(report.bytes, report.files.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>());
}

#[test]
fn only_files_are_taken_for_leftovers() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let pipe = std::ffi::CString::new(directory.file("pipe.mcap").to_str().unwrap()).unwrap();
    // SAFETY: the path ends, and lives as long as the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    std::fs::create_dir(directory.file("directory.mcap")).unwrap();
    std::fs::write(directory.file("cut.mcap"), b"\x89MCAP0\r\n").unwrap();
    assert_eq!(leftovers(directory.file("")).unwrap(), [directory.file("cut.mcap")]);
}

/// However long ago it was published: whoever plays the file does not wait for it.
#[test]
fn what_a_latched_topic_said_before_is_recorded_when_the_file_begins() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let options = domain.publisher_of(SlotKind::Words, LEN).latched(true).timestamps(Timestamps::Given);
    let mut map = options.open("map").unwrap();
    // An hour before this test, if the machine runs as long.
    map.publish_at(&message(LEN, 0), 1).unwrap();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let began = now();
    let recorder = Recorder::options().domain(domain.name()).start(directory.file("run.mcap")).unwrap();
    support::eventually("it is recorded", || recorder.progress().messages == 1);
    recorder.split();
    let report = recorder.stop();
    assert_eq!((report.files.len(), report.topics["map"].recorded), (2, 1));
    for file in &report.files {
        let recording = Recording::open(file).unwrap();
        let mut messages = recording.messages(Query::new()).unwrap();
        let message = messages.next().unwrap().expect("each file has it");
        assert!((began..=now()).contains(&message.log_time), "{began} {message:?}");
        assert!(message.publish_time < began, "{message:?}");
    }
    map.remove().unwrap();
}
