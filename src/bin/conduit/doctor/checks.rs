//! The single checks.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use conduit::topic::Removed;
use rustix::fs::inotify::{self, CreateFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit};

use super::Verdict::{Good, Note, Warning};
use super::{Finding, Verdict};
use crate::units;

const SHM: &str = "/dev/shm";

pub fn all() -> Vec<Finding> {
    let mut findings = vec![shared_memory(), kernel(), waiting_for_several(), barriers()];
    findings.extend(files());
    findings.extend([open_files(), locked_memory(), watches(), processors(), clock(), governor(), stale_topics()]);
    findings.into_iter().flatten().collect()
}

/// A finding, or nothing where the system doesn't tell.
type Found = Option<Finding>;

fn shared_memory() -> Found {
    let stat = match rustix::fs::statvfs(SHM) {
        Ok(stat) => stat,
        Err(error) => {
            let finding = Finding::new("shared memory", Warning, format!("{SHM}: {error}"));
            return Some(finding.advice("mount it:\n mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm"));
        }
    };
    let (size, free) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
    let value = format!("{SHM}: {} free of {}", units::memory(free), units::memory(size));
    let magic = rustix::fs::statfs(SHM).map_or(0, |stat| stat.f_type as u64);
    Some(if !matches!(magic, TMPFS | RAMFS) {
        Finding::new("shared memory", Warning, value)
            .advice("it is no file system in memory: mount a tmpfs there, or every message goes to a disk")
    } else if free < 16 << 20 || free < size / 20 {
        Finding::new("shared memory", Warning, value).advice(
            "new topics may not fit; to make room, one of:\n conduit clean\n mount -o remount,size=1G /dev/shm\n(docker: --shm-size)",
        )
    } else if size <= 64 << 20 {
        Finding::new("shared memory", Note, value)
            .advice("small, as in containers, too small for large topics:\n mount -o remount,size=1G /dev/shm\n(docker: --shm-size)")
    } else {
        Finding::new("shared memory", Good, value)
    })
}

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

fn kernel() -> Found {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let value = format!("{} {release} {}", name.sysname().to_string_lossy(), name.machine().to_string_lossy());
    let finding = |verdict| Finding::new("kernel", verdict, value.clone());
    Some(match version {
        v if v < (5, 4) => finding(Warning).advice("topics need 5.4 or later"),
        v if v < (5, 16) => finding(Note).advice("from 5.16 on, waiting for several topics takes one call"),
        _ => finding(Good),
    })
}

fn waiting_for_several() -> Found {
    // SAFETY: no words to wait for: the kernel refuses that, or does not know the call.
    unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
    let missing = matches!(errno(), libc::ENOSYS | libc::EPERM);
    Some(feature(
        "futex_waitv",
        !missing,
        Note,
        "a wait set uses a helper thread for each topic (Linux 5.16 has the call)",
    ))
}

fn barriers() -> Found {
    const QUERY: libc::c_int = 0;
    const GLOBAL_EXPEDITED: libc::c_long = 1 << 1;
    // SAFETY: takes integers only.
    let commands = unsafe { libc::syscall(libc::SYS_membarrier, QUERY, 0, 0) };
    let there = commands > 0 && commands & GLOBAL_EXPEDITED != 0;
    Some(feature(
        "membarrier",
        there,
        Warning,
        "each publish runs a fence of its own, and who sleeps on a topic whose publisher leaves the fence to sleepers \
         looks every 10 ms (a sandbox may forbid the call)",
    ))
}

/// What topics need of the file system, tried out on a file without a name.
fn files() -> Vec<Found> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = match rustix::fs::open(SHM, flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => file,
        Err(error) => {
            let finding = Finding::new("O_TMPFILE", Warning, format!("{SHM}: {error}"));
            return vec![Some(finding.advice("topics cannot be created: may this user write to /dev/shm?"))];
        }
    };
    let mut findings = vec![Some(Finding::new("O_TMPFILE", Good, "works"))];
    findings.push(Some(feature(
        "file locks (OFD)",
        locks_work(&file),
        Warning,
        "nobody can tell who is alive: topics do not work here",
    )));
    findings.push(Some(feature(
        "MADV_POPULATE_WRITE",
        populate_works(&file).unwrap_or(false),
        Note,
        "the first message in each page takes a page fault (Linux 5.14 has the call)",
    )));
    findings
}

fn locks_work(file: &OwnedFd) -> bool {
    // SAFETY: a C struct of integers, for which zero is a value; the call reads it, for an open file.
    unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_WRLCK as _;
        lock.l_len = 1;
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) == 0
    }
}

fn populate_works(file: &OwnedFd) -> Option<bool> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    let page = rustix::param::page_size();
    rustix::fs::ftruncate(file, page as u64).ok()?;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping of one page, which nobody but this function knows of, and which it takes down.
    unsafe {
        let start = mmap(std::ptr::null_mut(), page, access, MapFlags::SHARED, file.as_fd(), 0).ok()?;
        let works = libc::madvise(start, page, libc::MADV_POPULATE_WRITE) == 0;
        munmap(start, page).ok()?;
        Some(works)
    }
}

fn open_files() -> Found {
    let limit = getrlimit(Resource::Nofile).current;
    let value = limit.map_or("unlimited".into(), |limit| limit.to_string());
    Some(match limit {
        Some(limit) if limit < 1024 => Finding::new("open files", Warning, value)
            .advice("each topic takes a descriptor:\n ulimit -n 4096, or LimitNOFILE= in a unit"),
        _ => Finding::new("open files", Good, value),
    })
}

fn locked_memory() -> Found {
    let limit = getrlimit(Resource::Memlock).current;
    let value = limit.map_or("unlimited".into(), units::memory);
    Some(match limit {
        Some(limit) if limit < 64 << 20 => Finding::new("locked memory", Note, value)
            .advice("enough unless topics are opened with `memory_lock`:\n ulimit -l, or LimitMEMLOCK= in a unit"),
        _ => Finding::new("locked memory", Good, value),
    })
}

fn watches() -> Found {
    let most: u64 = number("/proc/sys/fs/inotify/max_user_instances")?;
    let value = format!("{most} instances for each user");
    Some(if let Err(error) = inotify::init(CreateFlags::CLOEXEC) {
        Finding::new("inotify", Warning, format!("{value}, none to be had: {error}"))
            .advice("who waits for topics looks every now and then instead:\n sysctl fs.inotify.max_user_instances=512")
    } else if most < 64 {
        Finding::new("inotify", Warning, value)
            .advice("each process that waits for topics takes one:\n sysctl fs.inotify.max_user_instances=512")
    } else {
        Finding::new("inotify", Good, value)
    })
}

fn processors() -> Found {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    Some(if count == 1 {
        Finding::new("processors", Warning, "1")
            .advice("publisher and subscriber take turns: each message costs a change of process")
    } else {
        Finding::new("processors", Good, count.to_string())
    })
}

fn clock() -> Found {
    const READINGS: u32 = 1000;
    let source = text("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or("unknown".into());
    // The quickest of several runs: others may have the processor meanwhile.
    let run = || {
        let start = Instant::now();
        for _ in 0..READINGS {
            std::hint::black_box(crate::hz::monotonic_now());
        }
        start.elapsed().as_nanos() as f64 / f64::from(READINGS)
    };
    let cost = (0..10).map(|_| run()).fold(f64::INFINITY, f64::min);
    let value = format!("{source}, {} to read", units::time(cost));
    Some(if cost > 200.0 {
        Finding::new("clock", Warning, value)
            .advice("a timestamp takes a system call: choose another clock source, or open topics without timestamps")
    } else {
        Finding::new("clock", Good, value)
    })
}

fn governor() -> Found {
    let governor = text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")?;
    Some(match governor.as_str() {
        "powersave" | "conservative" => Finding::new("frequency", Note, governor)
            .advice("latencies are longer than they could be:\n cpupower frequency-set -g performance"),
        _ => Finding::new("frequency", Good, governor),
    })
}

fn stale_topics() -> Found {
    let mut stale = conduit::topic::clean(None, true).unwrap_or_default();
    stale.retain(|stale| stale.error.is_none());
    let bytes = stale.iter().map(|stale| stale.bytes).sum();
    let topics = units::several(stale.len() as u64, "topic", "topics");
    Some(if stale.is_empty() {
        Finding::new("stale topics", Good, "none")
    } else {
        Finding::new("stale topics", Note, format!("{topics}, {}", units::memory(bytes))).advice(format!(
            "nobody uses them; to have the memory back:\n {}",
            cleaning(&stale, &std::env::var("CONDUIT_DOMAIN").unwrap_or_default())
        ))
    })
}

/// The command that removes all of `stale` and looks at as little else as possible, where `domain` is what a command works
/// in that is told of none.
fn cleaning(stale: &[Removed], domain: &str) -> String {
    let first = stale.first().map_or("", |stale| &stale.domain);
    if stale.iter().any(|stale| stale.domain != first) {
        "conduit clean --all-domains".into()
    } else if first == domain {
        "conduit clean".into()
    } else if first.is_empty() {
        "conduit clean --domain ''".into()
    } else {
        format!("conduit clean --domain {first}")
    }
}

fn feature(name: &'static str, there: bool, otherwise: Verdict, advice: &str) -> Finding {
    if there { Finding::new(name, Good, "works") } else { Finding::new(name, otherwise, "missing").advice(advice) }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

fn number(path: &str) -> Option<u64> {
    text(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_to_be_cleaned_than_there_is_to_clean() {
        let stale = |domains: &[&str]| -> Vec<_> {
            let topic = |domain: &&str| Removed { domain: (*domain).into(), topic: "t".into(), bytes: 0, error: None };
            domains.iter().map(topic).collect()
        };
        assert_eq!(cleaning(&stale(&["a", "a"]), "a"), "conduit clean");
        assert_eq!(cleaning(&stale(&["a", "a"]), ""), "conduit clean --domain a");
        assert_eq!(cleaning(&stale(&[""]), ""), "conduit clean");
        assert_eq!(cleaning(&stale(&[""]), "a"), "conduit clean --domain ''");
        assert_eq!(cleaning(&stale(&["", "a"]), "a"), "conduit clean --all-domains");
    }
}
