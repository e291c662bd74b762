//! A sound on the disk, or in a pipe.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
    path::Path,
};

/// An open sound file: read in parts where one can seek in it, and whole where one cannot.
#[derive(Debug)]
pub enum SoundFile {
    /// A file.
    File(BufReader<File>),
    /// The content of a pipe.
    Pipe(Cursor<Vec<u8>>),
}

impl SoundFile {
    /// Opens what is at `path`.
    ///
    /// # Errors
    /// If there is nothing, a folder, or a pipe that breaks.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if file.metadata()?.is_file() {
            return Ok(Self::File(BufReader::new(file)));
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(Self::Pipe(Cursor::new(content)))
    }
}

impl Read for SoundFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Pipe(content) => content.read(buffer),
        }
    }
}

impl Seek for SoundFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Pipe(content) => content.seek(to),
        }
    }
}
