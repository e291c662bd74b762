//! Bytes of a file or of memory.

use std::{
    fs::{self, File},
    io::{self, Cursor, Write},
    ops::Deref,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use super::WeightsError;

/// Bytes with a name.
pub(super) struct Blob {
    path: PathBuf,
    bytes: Box<dyn Deref<Target = [u8]> + Send + Sync>,
}

impl Blob {
    /// The file at `path`, mapped: what is not looked at is not read, and what was can be let go. Where the system has no
    /// maps, all of it is read.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = File::open(path).map_err(io_error(path))?;
        // Opening a directory succeeds on some systems; reading it does not.
        if file.metadata().map_err(io_error(path))?.is_dir() {
            return Err(WeightsError::Format {
                path: path.into(),
                expected: "a weights file",
                found: "a directory".into(),
            });
        }
        match map(&file) {
            Ok(bytes) => Ok(Self {
                path: path.into(),
                bytes: Box::new(bytes),
            }),
            Err(_) => Ok(Self::from_bytes(path, fs::read(path).map_err(io_error(path))?)),
        }
    }

    /// Bytes in memory, called `path` in messages.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            bytes: Box::new(bytes),
        }
    }

    /// Name of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in all.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// All bytes, for a parser that wants to go back and forth.
    pub fn reader(&self) -> Cursor<&[u8]> {
        Cursor::new(&self.bytes)
    }

    /// Some bytes.
    pub fn read(&self, offset: u64, length: u64) -> Result<&[u8], WeightsError> {
        let range = || {
            let start = usize::try_from(offset).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            self.bytes.get(start..end)
        };
        range().ok_or_else(|| io_error(&self.path)(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// A file's bytes.
#[allow(
    unsafe_code,
    reason = "another program may change the file meanwhile, as it may for all that reads weights so"
)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: nothing here writes to a file in place (`write_atomically`), so the bytes stay what they are unless another
    // program changes them; then values are read that were never meant, and where it cuts the file short, the system
    // ends this program.
    unsafe { Mmap::map(file) }
}

/// The system's words about a file.
pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> WeightsError + use<> {
    let path = path.to_path_buf();
    move |source| WeightsError::Io {
        path: path.clone(),
        source,
    }
}

/// Writes a file aside, flushes it to the disk and renames it: what stands at `path` is complete or untouched.
pub(super) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut io::BufWriter<File>) -> Result<(), WeightsError>,
) -> Result<(), WeightsError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.partial"));
    let fail = io_error(path);
    let attempt = || {
        let mut target = io::BufWriter::new(File::create(&aside).map_err(&fail)?);
        write(&mut target)?;
        target.flush().map_err(&fail)?;
        target.get_ref().sync_all().map_err(&fail)?;
        drop(target);
        std::fs::rename(&aside, path).map_err(&fail)
    };
    attempt().inspect_err(|_| {
        // What is left is of no use; that it cannot be removed changes nothing about the error.
        std::fs::remove_file(&aside).ok();
    })
}
