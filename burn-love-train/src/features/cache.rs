//! The folder of the cache: reading, writing, and its limit.

use std::{
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    entry::{Features, from_bytes, rounded, to_bytes},
    key::Key,
};

/// Files that are being written end so. Those of runs that were killed are removed when they are an hour old.
const PARTIAL: &str = "partial";
const PARTIAL_LIVES: Duration = Duration::from_secs(3600);

/// How features are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CachePrecision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to half precision, in half the space. They are rounded when computed, too, so a run does not depend on
    /// what is in the cache already.
    F16,
}

/// A cache that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder is none, or the system refused.
    #[error("{path}: expected a folder for cached features, found: {source}", path = path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Features of frozen parts in a folder. See the [module docs](super).
#[derive(Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    precision: CachePrecision,
    limit: u64,
    /// Bytes of all entries; held while one is written.
    used: Mutex<u64>,
    written: AtomicUsize,
    read: AtomicUsize,
    computed: AtomicUsize,
    computing: AtomicU64,
    damaged: AtomicUsize,
    left_out: AtomicUsize,
    failed: AtomicBool,
}

/// What a cache did since it was opened, and how large it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheReport {
    /// Features read.
    pub read: usize,
    /// Features computed, because they were not there or damaged.
    pub computed: usize,
    /// Time that computing took.
    pub computing: Duration,
    /// Damaged entries found.
    pub damaged: usize,
    /// Features that were not kept: the limit is reached, or the disk refused.
    pub left_out: usize,
    /// Bytes of all entries, those of other weights included.
    pub bytes: u64,
    /// Most bytes.
    pub limit: u64,
    /// The folder.
    pub folder: PathBuf,
}

impl FeatureCache {
    /// Opens a folder, which is made if it is not there, for at most `limit` bytes.
    ///
    /// Entries are never removed: beyond the limit, new ones are not kept.
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(folder: &Path, precision: CachePrecision, limit: u64) -> Result<Self, CacheError> {
        let used = fs::create_dir_all(folder)
            .and_then(|()| size_of(folder))
            .map_err(|source| CacheError::Io {
                path: folder.into(),
                source,
            })?;
        Ok(Self {
            folder: folder.into(),
            precision,
            limit,
            used: Mutex::new(used),
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            computed: AtomicUsize::new(0),
            computing: AtomicU64::new(0),
            damaged: AtomicUsize::new(0),
            left_out: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// What it did so far.
    pub fn report(&self) -> CacheReport {
        CacheReport {
            read: self.read.load(Relaxed),
            computed: self.computed.load(Relaxed),
            computing: Duration::from_micros(self.computing.load(Relaxed)),
            damaged: self.damaged.load(Relaxed),
            left_out: self.left_out.load(Relaxed),
            bytes: *self.used(),
            limit: self.limit,
            folder: self.folder.clone(),
        }
    }

    /// Whether there is an entry, be it damaged or not.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.folder.join(key.path()).is_file()
    }

    /// An entry, or only some frames of a clip's, unless it is not there or damaged.
    pub(super) fn get(&self, key: &Key, frames: Option<&[usize]>) -> Option<Features> {
        let path = self.folder.join(key.path());
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    self.complain(&path, &error);
                }
                return None;
            }
        };
        if let Some(features) = from_bytes(&bytes, key, frames) {
            self.read.fetch_add(1, Relaxed);
            return Some(features);
        }
        self.damaged.fetch_add(1, Relaxed);
        tracing::warn!("{}: damaged, so it is computed again", path.display());
        let mut used = self.used();
        let size = fs::metadata(&path).map_or(0, |file| file.len());
        if fs::remove_file(&path).is_ok() {
            *used = used.saturating_sub(size);
        }
        None
    }

    fn used(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was computed in `time`, and gives it back as it will be read.
    pub(super) fn put(&self, key: &Key, features: Features, time: Duration) -> Features {
        self.computed.fetch_add(1, Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.computing.fetch_add(micros, Relaxed);
        let path = self.folder.join(key.path());
        self.keep(&path, &to_bytes(key, &features, self.precision));
        rounded(features, self.precision)
    }

    fn keep(&self, path: &Path, bytes: &[u8]) {
        let size = bytes.len() as u64;
        let mut used = self.used();
        if path.exists() {
            return; // another thread was faster
        }
        if used.checked_add(size).is_none_or(|sum| sum > self.limit) {
            if self.left_out.fetch_add(1, Relaxed) == 0 {
                tracing::warn!(
                    "{}: the cache is full ({} of at most {}); what is not in it is computed every time",
                    self.folder.display(),
                    Bytes(*used),
                    Bytes(self.limit)
                );
            }
            return;
        }
        match self.write(path, bytes) {
            Ok(()) => *used += size,
            Err(error) => {
                self.left_out.fetch_add(1, Relaxed);
                self.complain(path, &error);
            }
        }
    }

    /// Says once that the disk refuses.
    fn complain(&self, path: &Path, error: &std::io::Error) {
        if !self.failed.swap(true, Relaxed) {
            tracing::warn!("{}: not kept, or not read: {error}", path.display());
        }
    }

    /// Writes a file aside and renames it, so that it is complete or absent.
    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let folder = path.parent().expect("entries lie in folders");
        fs::create_dir_all(folder)?;
        let number = self.written.fetch_add(1, Relaxed);
        let aside = folder.join(format!(".{}-{number}.{PARTIAL}", std::process::id()));
        let written = fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, path));
        if written.is_err() {
            // Whether it can be removed or not, the first error is the one to tell.
            fs::remove_file(&aside).ok();
        }
        written
    }
}

/// Bytes of all files in a folder and below; old partial ones are removed.
fn size_of(folder: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = match entry.metadata() {
            Ok(file) => file,
            // Another run has just renamed it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let path = entry.path();
        if file.is_dir() {
            sum += size_of(&path)?;
        } else if path.extension().is_some_and(|extension| extension == PARTIAL) {
            let age = file.modified().ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > PARTIAL_LIVES) {
                fs::remove_file(&path).ok();
            }
        } else {
            sum += file.len();
        }
    }
    Ok(sum)
}

impl fmt::Display for CacheReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "features: {} read, {} computed in {:.1} s",
            self.read,
            self.computed,
            self.computing.as_secs_f64()
        )?;
        for (count, what) in [(self.damaged, "damaged"), (self.left_out, "not kept")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        write!(
            f,
            "; {} of at most {} in {}",
            Bytes(self.bytes),
            Bytes(self.limit),
            self.folder.display()
        )
    }
}

/// A number of bytes for a person.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KB", "MB", "GB", "TB"];
        let (mut value, mut unit) = (self.0 as f64 / 1e3, 0);
        while value >= 1e3 && unit + 1 < units.len() {
            value /= 1e3;
            unit += 1;
        }
        write!(f, "{value:.1} {}", units[unit])
    }
}
