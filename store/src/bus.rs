//! `SIGBUS`, which the system sends to whoever reads a page of a mapped file that it has no bytes for.
//!
//! Each map is entered in a list. The handler looks for the address there: its map gets pages of zeros in place of those that
//! are gone, and the mark that something was lost. A signal for any other address goes to whoever had the signal before.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// What happens when bytes of a map are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnLoss {
    /// They read as zeros, and the guard tells it.
    Tell,
    /// The program ends.
    End,
}

/// A map's place in the list.
#[derive(Debug)]
pub(crate) struct Guard {
    region: &'static Region,
}

/// A place of the list. None is ever freed, since the handler may be looking at it; one whose map is gone is used again.
#[derive(Debug)]
struct Region {
    next: *const Region,
    taken: AtomicBool,
    /// Odd while the place is being filled in.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
    /// What to say before the program ends, where it does.
    last_words: AtomicPtr<CString>,
}

// SAFETY: `next` is written before the place is in the list, and never again; everything else is atomic.
unsafe impl Sync for Region {}
// SAFETY: as above.
unsafe impl Send for Region {}

static LIST: AtomicPtr<Region> = AtomicPtr::new(null_mut());

/// Whoever had the signal before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Enters the addresses from `start`, `bytes` of them, which are a map of the file at `path`.
pub(crate) fn guard(start: usize, bytes: usize, path: &Path, on_loss: OnLoss) -> io::Result<Guard> {
    install()?;
    let region = free_region();
    region.version.fetch_add(1, Ordering::SeqCst);
    region.lost.store(false, Ordering::SeqCst);
    region.start.store(start, Ordering::SeqCst);
    region.end.store(start + bytes, Ordering::SeqCst);
    let words = (on_loss == OnLoss::End).then(|| Box::into_raw(Box::new(last_words(path))));
    region.last_words.store(words.unwrap_or(null_mut()), Ordering::SeqCst);
    region.version.fetch_add(1, Ordering::SeqCst);
    Ok(Guard { region })
}

impl Guard {
    /// Whether bytes of the map were lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.region.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let region = self.region;
        region.version.fetch_add(1, Ordering::SeqCst);
        region.start.store(0, Ordering::SeqCst);
        region.end.store(0, Ordering::SeqCst);
        let words = region.last_words.swap(null_mut(), Ordering::SeqCst);
        region.version.fetch_add(1, Ordering::SeqCst);
        if !words.is_null() {
            // SAFETY: it came from `Box::into_raw`, and only a handler for an address of this map reads it, which nobody
            // reads any more.
            drop(unsafe { Box::from_raw(words) });
        }
        region.taken.store(false, Ordering::SeqCst);
    }
}

fn last_words(path: &Path) -> CString {
    let mut text = b"error: `".to_vec();
    // No zero byte is in a path, and control characters are nobody's business on a terminal.
    text.extend(
        path.as_os_str().as_bytes().iter().map(|&byte| if byte < 32 || byte == 127 { b'?' } else { byte }),
    );
    text.extend(
        b"`: expected it unchanged while it is in use, found that it was made shorter or could not be read\n",
    );
    CString::new(text).unwrap_or_default()
}

/// A place that nobody has, or a new one.
fn free_region() -> &'static Region {
    let mut next = LIST.load(Ordering::SeqCst).cast_const();
    // SAFETY: places of the list are never freed.
    while let Some(region) = unsafe { next.as_ref() } {
        if region.taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return region;
        }
        next = region.next;
    }
    let region = Box::leak(Box::new(Region {
        next: null(),
        taken: AtomicBool::new(true),
        version: AtomicUsize::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        last_words: AtomicPtr::new(null_mut()),
    }));
    let mut first = LIST.load(Ordering::SeqCst);
    loop {
        region.next = first;
        match LIST.compare_exchange(first, region, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return region,
            Err(now) => first = now,
        }
    }
}

/// Takes the signal, once.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Option<i32>> = OnceLock::new();
    let errno = INSTALLED.get_or_init(|| {
        // SAFETY: all zeros is a value of this struct of integers; both calls only read and write what they are given.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, null(), &mut before) != 0 {
                return io::Error::last_os_error().raw_os_error();
            }
            // Before the handler may run, which asks for it.
            let _ = BEFORE.set(before);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigemptyset(&mut action.sa_mask);
            if libc::sigaction(libc::SIGBUS, &action, null_mut()) != 0 {
                return io::Error::last_os_error().raw_os_error();
            }
            None
        }
    });
    errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
}

/// Runs in the thread that read, wherever it was: nothing but atomics and system calls may be used.
extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives a valid `info` to a handler of this kind; the place of `errno` is this thread's own.
    let (address, errno) = unsafe { ((*info).si_addr() as usize, libc::__errno_location()) };
    // SAFETY: as above.
    let kept = unsafe { *errno };
    let mended = mend(address);
    // SAFETY: as above.
    unsafe { *errno = kept };
    if !mended {
        pass_on(signal, info, context);
    }
}

/// Puts zeros in place of what is gone behind `address`, if that is a map's.
fn mend(address: usize) -> bool {
    let mut next = LIST.load(Ordering::SeqCst).cast_const();
    // SAFETY: places of the list are never freed.
    while let Some(region) = unsafe { next.as_ref() } {
        next = region.next;
        let version = region.version.load(Ordering::SeqCst);
        let (start, end) = (region.start.load(Ordering::SeqCst), region.end.load(Ordering::SeqCst));
        // A place that is being filled in is not that of a map which somebody reads.
        if version % 2 == 1
            || region.version.load(Ordering::SeqCst) != version
            || !(start..end).contains(&address)
        {
            continue;
        }
        // SAFETY: the words stay as long as the map, which is being read. `_exit` runs nothing of this program any more.
        unsafe {
            if let Some(words) = region.last_words.load(Ordering::SeqCst).as_ref() {
                let words = words.as_bytes();
                libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len());
                libc::_exit(2);
            }
        }
        region.lost.store(true, Ordering::SeqCst);
        // SAFETY: `sysconf` only answers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as usize;
        let from = address / page * page;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the pages are those of a map that is being read and thus there; its owner unmaps its addresses as before,
        // whatever lies there. Another thread that does the same gives them the same zeros.
        let mapped = unsafe {
            libc::mmap(
                from as *mut c_void,
                (end - from).next_multiple_of(page),
                libc::PROT_READ,
                flags,
                -1,
                0,
            )
        };
        return mapped != libc::MAP_FAILED;
    }
    false
}

/// Gives the signal to whoever had it before; where that is nobody, the read is repeated and ends the program.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(before) = BEFORE.get() else { return };
    // SAFETY: what stands in `sa_sigaction` is a function of the kind that the flags say, or one of the two constants.
    unsafe {
        match before.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                // Ignored or not, the system ends a program that goes on reading there.
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, null_mut());
                // One that somebody sent is not repeated by itself.
                if (*info).si_code <= 0 {
                    libc::raise(signal);
                }
            }
            handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}
