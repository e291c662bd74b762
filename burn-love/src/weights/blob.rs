//! Bytes of a file or of memory, read where they are needed.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::WeightsError;

/// Something with positions.
pub(super) trait Reader: Read + Seek + Send {}
impl<R: Read + Seek + Send> Reader for R {}

/// Bytes with a name and a length.
pub(super) struct Blob {
    path: PathBuf,
    length: u64,
    reader: Mutex<Box<dyn Reader>>,
}

impl Blob {
    /// The file at `path`.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = File::open(path).map_err(io_error(path))?;
        let metadata = file.metadata().map_err(io_error(path))?;
        // Opening a directory succeeds on some systems; reading it does not.
        if metadata.is_dir() {
            return Err(WeightsError::Format {
                path: path.into(),
                expected: "a weights file",
                found: "a directory".into(),
            });
        }
        Ok(Self {
            path: path.into(),
            length: metadata.len(),
            reader: Mutex::new(Box::new(file)),
        })
    }

    /// Bytes in memory, called `path` in messages.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            length: bytes.len() as u64,
            reader: Mutex::new(Box::new(Cursor::new(bytes))),
        }
    }

    /// Name of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in all.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The reader, for a parser that wants one.
    pub fn reader(&self) -> MutexGuard<'_, Box<dyn Reader>> {
        // A reader has no state that a panic elsewhere could break: every use seeks first.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some bytes. The range is checked before memory is taken.
    pub fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, WeightsError> {
        let fail = io_error(&self.path);
        let end = offset.checked_add(length);
        let size = usize::try_from(length);
        let (Ok(size), true) = (size, end.is_some_and(|end| end <= self.length)) else {
            return Err(fail(io::ErrorKind::UnexpectedEof.into()));
        };
        let mut bytes = vec![0; size];
        let mut reader = self.reader();
        reader
            .seek(SeekFrom::Start(offset))
            .and_then(|_| reader.read_exact(&mut bytes))
            .map_err(fail)?;
        Ok(bytes)
    }
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
