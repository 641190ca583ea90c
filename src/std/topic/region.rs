//! A topic's file, mapped: creating it, opening it, and who may replace it.

use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::time::Duration;

use rustix::fs::{Stat, fstat};
use rustix::io::{Errno, pread};

use super::layout::{
    CDR_HEADER, Entry, Header, Parsed, Parts, SUPERSEDED, SlotKind, SubscriberPages, Timestamps, WaitPage, WriterPage,
};
use super::name::Name;
use super::schema::Schema;
use super::{Error, Geometry, Overflow};
use crate::core::atomic::Word;
use crate::core::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::core::ring::{
    Control, FrameHeader, FrameMemory, FrameWriter, Memory, Start, WordMemory, WordWriter, sweep_member, sweep_pins,
};
use crate::std::fork::UnsharedFile;
use crate::std::futex::{self, Deadline, barrier};
use crate::std::lock;
use crate::std::shm::{self, Access, Mapping};

/// Which parts of a region a handle writes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Publisher,
    Subscriber,
    /// Sleeps like a subscriber, writes nothing else.
    Observer,
    /// Writes nothing at all: it could not open the file for writing.
    Onlooker,
}

/// A mapped topic. Its lock bytes belong to `file`, which is never mapped, so that they go with it.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) name: Name,
    pub(super) parsed: Parsed,
    pub(super) schema: Schema,
    stat: Stat,
    view: View,
    mapping: Mapping,
    file: UnsharedFile,
}

impl Region {
    /// A region that has no name yet, with the writer's byte taken.
    pub(super) fn create(
        name: &Name,
        geometry: &Geometry,
        schema: &Schema,
        mode: u32,
        first_sequence: u64,
    ) -> Result<Self, Error> {
        let system = |action| move |source| system_error(action, name, source);
        let page = rustix::param::page_size();
        let parts = Parts::new(geometry, page, schema.data.len()).ok_or_else(|| Error::InvalidOption {
            option: "max_len",
            reason: "the region is too large to map".into(),
        })?;
        let len = parts.len;
        let file = shm::create_unnamed(mode, len as u64).map_err(|source| match source {
            Errno::NOSPC => Error::NoRoom { topic: name.to_string(), bytes: len as u64 },
            source => system_error("create", name, source),
        })?;
        let lock_file = UnsharedFile::new(shm::reopen(file.as_fd()).map_err(system("create"))?);
        // Nobody else can open an unnamed file, so the byte is free.
        lock::try_lock(lock_file.as_fd(), lock::WRITER).map_err(system("lock"))?;
        let header = Header::new(geometry, schema, &name.domain, &name.topic, page, len);
        let all = 0..len;
        let mapping = Mapping::new(file.as_fd(), len, std::slice::from_ref(&all), true).map_err(system("map"))?;
        let start = mapping.start().as_ptr();
        // SAFETY: the parts lie within the mapping, which nobody else has, and which is zeroed and page-aligned.
        unsafe {
            start.cast::<Header>().write(header);
            let ring = &raw mut (*start.add(parts.writer.start).cast::<WriterPage>()).ring;
            ring.write(Control::new(0, first_sequence));
            if geometry.slots == SlotKind::Frames {
                for slot in 0..geometry.capacity as usize {
                    let payload = start.add(parts.slot_0 + slot * geometry.stride() as usize);
                    payload.sub(CDR_HEADER.len()).cast::<[u8; 4]>().write(CDR_HEADER);
                }
            }
            let schema_at = start.add(parts.schema.start);
            std::ptr::copy_nonoverlapping(schema.data.as_ptr(), schema_at, schema.data.len());
        }
        let stat = fstat(&lock_file).map_err(system("inspect"))?;
        let view = View::new(&mapping, geometry, &parts);
        let parsed = Parsed {
            geometry: *geometry,
            parts,
            schema: Schema { data: Vec::new(), ..schema.clone() },
            schema_hash: schema.hash(),
            domain: name.domain.clone(),
            topic: name.topic.clone(),
            created: header.created,
        };
        Ok(Region { name: name.clone(), parsed, schema: schema.clone(), stat, view, mapping, file: lock_file })
    }

    /// Gives a created region its name. `false` if there is a topic of that name.
    pub(super) fn link(&self) -> Result<bool, Error> {
        match shm::link(self.file.as_fd(), self.name.path()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(source) => Err(system_error("name", &self.name, source)),
        }
    }

    /// Gives a created region the name of another. The caller holds the writer's byte of what has the name now, so that
    /// nobody else does this at the same time.
    pub(super) fn link_over(&self) -> Result<(), Error> {
        let beside = self.name.replacement();
        let failed = |source| system_error("name", &self.name, source);
        loop {
            match shm::link(self.file.as_fd(), beside.path()) {
                Ok(()) => {}
                // Left by a publisher that died between these two steps.
                Err(Errno::EXIST) => match shm::unlink(beside.path()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(source) => return Err(failed(source)),
                },
                Err(source) => return Err(failed(source)),
            }
            match shm::rename(beside.path(), self.name.path()) {
                Ok(()) => return Ok(()),
                // Taken for a leftover by somebody who cleans up.
                Err(Errno::NOENT) => {}
                Err(source) => {
                    // The error to tell of is the first.
                    let _ = shm::unlink(beside.path());
                    return Err(failed(source));
                }
            }
        }
    }

    /// Removes what a publisher left that died while it replaced this topic. The caller holds the writer's byte.
    pub(super) fn remove_leftover(&self) {
        // There is none, nearly always; one that cannot be removed takes memory, and no more.
        let _ = shm::unlink(self.name.replacement().path());
    }

    /// Maps the topic of this name. `None` if there is none.
    pub(super) fn open(name: &Name, role: Role, any_owner: bool) -> Result<Option<Self>, Error> {
        loop {
            let Some(candidate) = Candidate::open(name, access(role), any_owner)? else { return Ok(None) };
            if let Some(region) = candidate.map(role)? {
                return Ok(Some(region));
            }
        }
    }

    /// The device and inode that the name stands for now.
    pub(super) fn stat(name: &Name) -> Result<Option<(u64, u64)>, Errno> {
        Ok(shm::stat_name(name.path())?.map(|stat| identity(&stat)))
    }

    /// The locks of this handle.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether this process opened it, rather than the parent that forked it.
    #[inline(always)]
    pub(super) fn is_ours(&self) -> bool {
        self.file.is_ours()
    }

    /// `Err(Forked)` in a child that inherited this handle.
    #[inline(always)]
    pub(super) fn check_ours(&self) -> Result<(), Error> {
        if self.is_ours() { Ok(()) } else { Err(Error::Forked { topic: self.name.to_string() }) }
    }

    #[inline(always)]
    pub(super) fn view(&self) -> View {
        self.view
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.parsed.geometry
    }

    #[inline(always)]
    pub(super) fn writer_page(&self) -> &WriterPage {
        // SAFETY: the part lies within the mapping that this region holds, and is made of atomics.
        unsafe { self.view.writer.as_ref() }
    }

    #[inline(always)]
    pub(super) fn wait_page(&self) -> &WaitPage {
        // SAFETY: as for the writer's page.
        unsafe { self.view.wait.as_ref() }
    }

    #[inline(always)]
    pub(super) fn entry(&self, bit: u32) -> &Entry {
        // SAFETY: as for the writer's page; a bit is below MAX_READERS.
        unsafe { &self.view.subscribers.as_ref().entries[bit as usize] }
    }

    /// Whether the name stands for this file now. Ask after a lock is won: before, the answer can change.
    pub(super) fn is_current(&self) -> Result<bool, Error> {
        is_current(&self.name, &self.stat)
    }

    /// Whether a live publisher has the topic, as far as others than this handle go.
    pub(super) fn has_publisher(&self) -> bool {
        self.is_ours() && lock::is_locked(self.file(), lock::WRITER).unwrap_or(false)
    }

    /// Whether another region has taken the name, or will.
    #[inline]
    pub(super) fn is_superseded(&self) -> bool {
        self.writer_page().state.load_acquire() & u64::from(SUPERSEDED) != 0
    }

    /// How many subscribers have joined: each of them receives what is published after this call.
    pub(super) fn subscribers(&self) -> u32 {
        let is_there = |bit: &u32| {
            let entry = self.entry(*bit);
            // Acquire: pairs with the Release store at the end of joining.
            entry.pid.load(Ordering::Acquire) != 0 && entry.samples.load(Ordering::Relaxed) != 0
        };
        (0..self.geometry().subscribers).filter(is_there).count() as u32
    }

    /// What to add to a timestamp to get nanoseconds since 1970.
    pub(super) fn clock_offset(&self) -> Option<i128> {
        let (monotonic, real) = self.writer_page().clock.read()?;
        Some(i128::from(real) - i128::from(monotonic))
    }

    /// Where whoever comes from the region that had the name before, and wants `expected` next, starts in this one.
    pub(super) fn start_for(&self, expected: Option<u64>) -> Start {
        let first = self.writer_page().ring.base.load(Ordering::Relaxed);
        match expected {
            // A replacement goes on counting where the old region ended.
            Some(expected) if first >= expected => Start::Sequence(expected),
            // A topic that was removed and made anew: another stream, all of which is new to whoever comes.
            _ => Start::Sequence(first),
        }
    }

    /// Whether a region has the name that this one lost, or something that keeps whoever follows it from going on.
    pub(super) fn has_successor(&self) -> bool {
        match Region::stat(&self.name) {
            Ok(Some(named)) if named != self.identity() => match Region::open(&self.name, Role::Onlooker, true) {
                // Superseded in its turn, if its publisher died before it could put another in its place.
                Ok(region) => region.is_some_and(|region| !region.is_superseded()),
                Err(_) => true,
            },
            Ok(_) => false,
            Err(_) => true,
        }
    }

    /// Wakes everybody who sleeps on this topic, whether or not they said that they do.
    pub(super) fn wake_everybody(&self) {
        let wait = self.wait_page();
        for event in [&wait.messages, &wait.space] {
            event.announce();
            futex::wake_all(event.word());
        }
    }

    /// Announces somebody who will sleep until the topic has news: look again after this, then sleep.
    pub(super) fn prepare_to_sleep(&self) -> Sleep<'_> {
        let messages = &self.wait_page().messages;
        let ticket = messages.prepare();
        // A publisher without a fence: run one on its behalf. If that fails a wake-up may be missed, so look often.
        // Relaxed: see `Notifier`.
        let fenced = self.writer_page().fence_elided.load(Ordering::Relaxed) == 0 || barrier::run();
        let limit = (!fenced).then(|| Deadline::after(Duration::from_millis(10)));
        Sleep { word: messages.word(), ticket, limit }
    }

    /// Copies the first bytes of a payload without touching them as memory, so that whoever writes it may. Returns whether
    /// all could be read.
    pub(super) fn copy_payload(&self, slot: usize, target: &mut [u8]) -> bool {
        let at = self.parsed.parts.slot_0 + slot * self.view.stride;
        let len = target.len();
        let mut done = 0;
        // One call copies 2 GiB at most.
        while done < len {
            match pread(self.file(), &mut target[done..], (at + done) as u64) {
                Ok(0) => return false,
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Clears what the last owner of `bit` left. The caller holds the bit's lock byte.
    pub(super) fn sweep(&self, bit: u32) {
        // SAFETY: the lock byte was free, so the last owner is dead or done, and nobody else gets it meanwhile.
        unsafe {
            if self.geometry().slots == SlotKind::Frames {
                sweep_pins(&FrameView(self.view), bit);
            }
            sweep_member(&WordView(self.view), bit);
        }
        let entry = self.entry(bit);
        entry.pid.store(0, Ordering::Relaxed);
        // Last: while this says that the bit was in use, a sweep that was cut short is run again.
        entry.samples.store(0, Ordering::Release);
    }

    /// Sweeps `bit` if its owner is dead. Returns whether it was.
    pub(super) fn sweep_if_dead(&self, bit: u32) -> bool {
        if !matches!(lock::try_lock(self.file(), bit), Ok(true)) {
            return false;
        }
        self.sweep(bit);
        lock::unlock(self.file(), bit);
        true
    }

    /// Ends the life of this region: subscribers leave it for whatever takes the name next. The caller holds the
    /// writer's byte.
    pub(super) fn supersede(&self) {
        self.writer_page().state.fetch_or(SUPERSEDED, Ordering::AcqRel);
        self.wake_everybody();
    }

    /// Takes [`supersede`](Region::supersede) back.
    pub(super) fn revive(&self) {
        self.writer_page().state.fetch_and(!SUPERSEDED, Ordering::AcqRel);
        self.wake_everybody();
    }

    /// The sequence that the next message of this region would have. The caller holds the writer's byte and mapped the
    /// region as a publisher.
    pub(super) fn next_sequence(&self) -> u64 {
        // SAFETY: the writer's byte keeps other writers away.
        unsafe {
            match self.geometry().slots {
                SlotKind::Words => WordWriter::new(WordView(self.view)).next_sequence(),
                SlotKind::Frames => FrameWriter::new(FrameView(self.view), 1).next_sequence(),
            }
        }
    }

    /// Keeps the region in memory.
    pub(super) fn lock_in_memory(&self) -> Result<(), Error> {
        self.mapping.lock_in_memory().map_err(|source| system_error("lock in memory", &self.name, source))
    }

    /// The device and inode, to tell this region from one that took its name.
    pub(super) fn identity(&self) -> (u64, u64) {
        identity(&self.stat)
    }
}

#[allow(clippy::unnecessary_cast)] // 32-bit targets have narrower fields.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// How to sleep until a topic has news: on `word`, while it equals `ticket`, at most until `limit`.
pub(super) struct Sleep<'a> {
    pub(super) word: &'a AtomicU32,
    pub(super) ticket: u32,
    pub(super) limit: Option<Deadline>,
}

/// An open file that carries a topic's name, before anything in it was believed.
pub(super) struct Candidate {
    name: Name,
    lock_file: UnsharedFile,
    stat: Stat,
}

impl Candidate {
    /// Opens the file of this name. `None` if there is none.
    pub(super) fn open(name: &Name, access: Access, any_owner: bool) -> Result<Option<Self>, Error> {
        let lock_file = match shm::open(name.path(), access) {
            Ok(file) => UnsharedFile::new(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(corrupt(name, "it is no regular file".into())),
            Err(source) => return Err(system_error("open", name, source)),
        };
        let stat = fstat(&lock_file).map_err(|source| system_error("inspect", name, source))?;
        if !shm::is_regular(&stat) {
            return Err(corrupt(name, "it is no regular file".into()));
        }
        let owner = stat.st_uid;
        if !any_owner && owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(Error::ForeignOwner { topic: name.to_string(), owner });
        }
        Ok(Some(Candidate { name: name.clone(), lock_file, stat }))
    }

    /// Takes the writer's byte: `false` if a live publisher has it.
    pub(super) fn lock_writer(&self) -> Result<bool, Error> {
        lock::try_lock(self.lock_file.as_fd(), lock::WRITER).map_err(|source| system_error("lock", &self.name, source))
    }

    /// Whether the name still stands for this file.
    pub(super) fn is_current(&self) -> Result<bool, Error> {
        is_current(&self.name, &self.stat)
    }

    /// Whether anybody has a subscriber's byte.
    pub(super) fn has_subscribers(&self) -> bool {
        (0..lock::WRITER).any(|bit| lock::is_locked(self.lock_file.as_fd(), bit).unwrap_or(true))
    }

    /// The file's length when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.stat.st_size as u64
    }

    /// The process that says it publishes; for people.
    pub(super) fn publisher_pid(&self) -> u32 {
        let mut pid = [0; 4];
        let at = self.parse().map(|(parsed, _)| parsed.parts.writer.start + std::mem::offset_of!(WriterPage, pid));
        match at.map(|at| pread(&self.lock_file, &mut pid, at as u64)) {
            Ok(Ok(4)) => u32::from_ne_bytes(pid),
            _ => 0,
        }
    }

    /// Reads the header once and checks it.
    pub(super) fn parse(&self) -> Result<(Parsed, Schema), Error> {
        let wrong = |reason| corrupt(&self.name, reason);
        let failed = |source| system_error("read", &self.name, source);
        let mut bytes = [0; size_of::<Header>()];
        // A size that changes under us is found when the file is mapped and used, or not at all: see the guarantees.
        let stat = fstat(&self.lock_file).map_err(failed)?;
        let len = stat.st_size as u64;
        if (stat.st_blocks as u64).saturating_mul(512) < len {
            return Err(wrong("parts of it have no memory, so it was not made as topics are".into()));
        }
        if pread(&self.lock_file, &mut bytes, 0).map_err(failed)? != bytes.len() {
            return Err(wrong(format!("it ends after {len} bytes, within its header")));
        }
        let parsed = Header::parse(&bytes, len, rustix::param::page_size()).map_err(wrong)?;
        if (&parsed.domain, &parsed.topic) != (&self.name.domain, &self.name.topic) {
            return Err(wrong(format!("it is topic {} of domain `{}`", parsed.topic, parsed.domain)));
        }
        let mut data = vec![0; parsed.parts.schema.len()];
        if pread(&self.lock_file, &mut data, parsed.parts.schema.start as u64).map_err(failed)? != data.len() {
            return Err(wrong("it ends within its schema".into()));
        }
        let schema = Schema { data, ..parsed.schema.clone() };
        if schema.hash() != parsed.schema_hash {
            return Err(wrong("its schema does not have the hash it says".into()));
        }
        Ok((parsed, schema))
    }

    /// Maps the file for `role`. `None` if the name has come to stand for another file since it was opened.
    pub(super) fn map(self, role: Role) -> Result<Option<Region>, Error> {
        let (parsed, schema) = self.parse()?;
        let failed = |source| system_error("map", &self.name, source);
        // A second open file: a mapping that a forked child keeps would keep the locks of the file it was made from.
        let map_file = match shm::open(self.name.path(), access(role)) {
            Err(Errno::NOENT) => return Ok(None),
            result => result.map_err(failed)?,
        };
        if !shm::is_same(&fstat(&map_file).map_err(failed)?, &self.stat) {
            return Ok(None);
        }
        let page = rustix::param::page_size();
        let parts = &parsed.parts;
        let pages = |part| Parts::pages(part, page);
        let all = 0..parts.len;
        let mut writable = Vec::new();
        match role {
            Role::Publisher => writable.push(all),
            Role::Subscriber => {
                writable.extend([pages(&parts.wait), pages(&parts.subscribers), pages(&parts.headers)]);
            }
            Role::Observer => writable.push(pages(&parts.wait)),
            Role::Onlooker => {}
        }
        if cfg!(not(target_pointer_width = "64")) && matches!(role, Role::Subscriber | Role::Observer) {
            // A 64-bit load may need a store there.
            writable.extend([pages(&parts.writer), pages(&parts.subscribers), pages(&parts.headers)]);
            if parsed.geometry.slots == SlotKind::Words {
                writable.push(pages(&parts.slots));
            }
        }
        // Who only looks does so at a few pages of topics that may be large, or not what they say they are.
        let present = matches!(role, Role::Publisher | Role::Subscriber);
        let mapping = Mapping::new(map_file.as_fd(), parts.len, &writable, present).map_err(failed)?;
        let view = View::new(&mapping, &parsed.geometry, parts);
        Ok(Some(Region { name: self.name, parsed, schema, stat: self.stat, view, mapping, file: self.lock_file }))
    }
}

fn access(role: Role) -> Access {
    if role == Role::Onlooker { Access::Read } else { Access::ReadWrite }
}

fn is_current(name: &Name, stat: &Stat) -> Result<bool, Error> {
    let named = shm::stat_name(name.path()).map_err(|source| system_error("inspect", name, source))?;
    Ok(named.is_some_and(|named| shm::is_same(&named, stat)))
}

pub(super) fn system_error(action: &'static str, name: &Name, source: Errno) -> Error {
    Error::System { action, path: path(name), source: source.into() }
}

fn corrupt(name: &Name, reason: String) -> Error {
    Error::Corrupt { path: path(name), reason }
}

fn path(name: &Name) -> String {
    name.path().to_string_lossy().into_owned()
}

/// Where the words of a mapped topic are. Everything in here was checked and is this process's own copy. Valid while
/// the [`Region`] it came from lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) writer: NonNull<WriterPage>,
    wait: NonNull<WaitPage>,
    subscribers: NonNull<SubscriberPages>,
    headers: NonNull<FrameHeader<AtomicU64>>,
    slot_0: NonNull<u8>,
    stride: usize,
    capacity: usize,
    max_len: usize,
    words: usize,
    words_at: usize,
    timestamps: bool,
    lossless: bool,
}

// SAFETY: pointers to memory that is shared between processes, touched by the ring's protocol only.
unsafe impl Send for View {}
// SAFETY: as for Send.
unsafe impl Sync for View {}

impl View {
    fn new(mapping: &Mapping, geometry: &Geometry, parts: &Parts) -> Self {
        assert_eq!(mapping.len(), parts.len);
        // SAFETY: the parts lie within the mapping.
        let at = |offset: usize| unsafe { mapping.start().add(offset) };
        View {
            writer: at(parts.writer.start).cast(),
            wait: at(parts.wait.start).cast(),
            subscribers: at(parts.subscribers.start).cast(),
            headers: at(parts.headers.start).cast(),
            slot_0: at(parts.slot_0),
            stride: geometry.stride() as usize,
            capacity: geometry.capacity as usize,
            max_len: geometry.max_len as usize,
            words: geometry.max_len.div_ceil(8) as usize,
            words_at: geometry.words_at() as usize,
            timestamps: geometry.timestamps != Timestamps::None,
            lossless: geometry.overflow != Overflow::Overwrite,
        }
    }

    #[inline(always)]
    fn slot(&self, index: usize) -> *mut u8 {
        // SAFETY: masked, the index is a slot's, and slots lie within the mapping.
        unsafe { self.slot_0.as_ptr().add((index & (self.capacity - 1)) * self.stride) }
    }

    #[inline(always)]
    fn control(&self) -> &Control<AtomicU64> {
        // SAFETY: the writer's page lies within the mapping and is made of atomics.
        unsafe { &self.writer.as_ref().ring }
    }

    fn members(&self) -> Option<&AtomicU64> {
        // SAFETY: as for the writer's page.
        self.lossless.then_some(unsafe { &self.subscribers.as_ref().members.0 })
    }

    fn cursor(&self, bit: u32) -> Option<&AtomicU64> {
        // SAFETY: as for the writer's page.
        let entry = unsafe { self.subscribers.as_ref() }.entries.get(bit as usize)?;
        Some(&entry.cursor.0)
    }
}

/// A topic with Words slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct WordView(pub(super) View);

// SAFETY: the words lie in a mapping that outlives the view; their addresses follow from the checked geometry, which is
// constant; capacity is a power of two.
unsafe impl Memory for WordView {
    type Word = AtomicU64;
    #[inline(always)]
    fn capacity(&self) -> usize {
        self.0.capacity
    }
    #[inline(always)]
    fn control(&self) -> &Control<AtomicU64> {
        self.0.control()
    }
    #[inline(always)]
    fn stamp(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the first word of a slot, aligned to 8.
        unsafe { &*self.0.slot(index).cast() }
    }
    fn members(&self) -> Option<&AtomicU64> {
        self.0.members()
    }
    fn cursor(&self, bit: u32) -> Option<&AtomicU64> {
        self.0.cursor(bit)
    }
}

// SAFETY: as for Memory.
unsafe impl WordMemory for WordView {
    #[inline(always)]
    fn words(&self, index: usize) -> &[AtomicU64] {
        // SAFETY: the stride has room for so many words behind stamp and timestamp, aligned to 8.
        unsafe { std::slice::from_raw_parts(self.0.slot(index).add(self.0.words_at).cast(), self.0.words) }
    }
    #[inline(always)]
    fn timestamp(&self, index: usize) -> Option<&AtomicU64> {
        // SAFETY: the second word of a slot, where there are timestamps.
        self.0.timestamps.then(|| unsafe { &*self.0.slot(index).add(8).cast() })
    }
}

/// A topic with Frames slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameView(pub(super) View);

// SAFETY: as for WordView.
unsafe impl Memory for FrameView {
    type Word = AtomicU64;
    #[inline(always)]
    fn capacity(&self) -> usize {
        self.0.capacity
    }
    #[inline(always)]
    fn control(&self) -> &Control<AtomicU64> {
        self.0.control()
    }
    #[inline(always)]
    fn stamp(&self, index: usize) -> &AtomicU64 {
        &self.header(index).stamp
    }
    fn members(&self) -> Option<&AtomicU64> {
        self.0.members()
    }
    fn cursor(&self, bit: u32) -> Option<&AtomicU64> {
        self.0.cursor(bit)
    }
}

// SAFETY: as for Memory; a payload lies in its slot, behind its CDR header, and is max_len bytes long.
unsafe impl FrameMemory for FrameView {
    #[inline(always)]
    fn header(&self, index: usize) -> &FrameHeader<AtomicU64> {
        // SAFETY: masked, the index is a slot's; headers lie within the mapping.
        unsafe { self.0.headers.add(index & (self.0.capacity - 1)).as_ref() }
    }
    #[inline(always)]
    fn payload(&self, index: usize) -> *mut u8 {
        self.0.slot(index)
    }
    #[inline(always)]
    fn payload_len(&self) -> usize {
        self.0.max_len
    }
}
