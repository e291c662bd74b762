//! Bytes of a file or of memory.

use std::{
    fs::File,
    io::{self, Cursor, Read, Write},
    ops::{Deref, Range},
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use super::WeightsError;

/// Bytes with a name.
pub(super) struct Blob {
    path: PathBuf,
    content: Content,
}

enum Content {
    /// A file's, read by the system where they are looked at.
    Mapped(Mmap),
    Read(Vec<u8>),
}

impl Blob {
    /// The file at `path`, mapped, or read where the system cannot map it.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let fail = io_error(path);
        let mut file = File::open(path).map_err(&fail)?;
        // Opening a directory succeeds on some systems; reading it does not.
        if file.metadata().map_err(&fail)?.is_dir() {
            return Err(WeightsError::Format {
                path: path.into(),
                expected: "a weights file",
                found: "a directory".into(),
            });
        }
        let content = match map(&file) {
            Ok(bytes) => Content::Mapped(bytes),
            Err(_) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(&fail)?;
                Content::Read(bytes)
            }
        };
        Ok(Self {
            path: path.into(),
            content,
        })
    }

    /// Bytes in memory, called `path` in messages.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            content: Content::Read(bytes),
        }
    }

    /// Name of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in all.
    pub fn length(&self) -> u64 {
        self.bytes().len() as u64
    }

    /// All bytes, for a parser that goes back and forth.
    pub fn reader(&self) -> Cursor<&[u8]> {
        Cursor::new(self.bytes())
    }

    /// Some bytes.
    pub fn read(&self, offset: u64, length: u64) -> Result<Bytes<'_>, WeightsError> {
        let range = || {
            let start = usize::try_from(offset).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            (end <= self.bytes().len()).then_some(start..end)
        };
        match range() {
            Some(range) => Ok(Bytes { blob: self, range }),
            None => Err(io_error(&self.path)(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Mapped(bytes) => bytes,
            Content::Read(bytes) => bytes,
        }
    }
}

/// Bytes of a [`Blob`]. What is mapped takes memory until this is dropped.
pub(super) struct Bytes<'a> {
    blob: &'a Blob,
    range: Range<usize>,
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.blob.bytes()[self.range.clone()]
    }
}

impl Drop for Bytes<'_> {
    fn drop(&mut self) {
        if let Content::Mapped(bytes) = &self.blob.content {
            let_go(bytes, &self.range);
        }
    }
}

// STYLE's rule that `unsafe` is for `ops` is broken because only the system can map a file.

/// A file's bytes.
#[allow(unsafe_code, reason = "the file is another's, who may change it")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: nothing here writes into a file (`write_atomically` replaces it), so the bytes stay what they are unless
    // another program changes them. Then values are read that were never meant; where it cuts the file short, or the disk
    // fails, the system ends this program.
    unsafe { Mmap::map(file) }
}

/// Tells the system that some pages can go; they come back from the file where they are looked at again.
#[cfg(unix)]
#[allow(unsafe_code, reason = "of maps that were written to, values would be lost")]
fn let_go(bytes: &Mmap, range: &Range<usize>) {
    let advice = memmap2::UncheckedAdvice::DontNeed;
    // SAFETY: the map is of a file and only read, so pages that are gone come back the same.
    let done = unsafe { bytes.unchecked_advise_range(advice, range.start, range.len()) };
    // Memory is kept for longer otherwise, and that is all.
    done.ok();
}

#[cfg(not(unix))]
fn let_go(_: &Mmap, _: &Range<usize>) {}

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
