//! PyTorch's files from before 1.6: four pickles and a list of storages, which follow one behind the other.
//!
//! A magic number, the protocol's version, facts about the system, what was saved, the storages' names; then for each
//! storage the number of its elements in eight bytes, and the elements. There are no checksums: of damage, only what changes
//! a length is seen. torchvggish's weights are published in this format.

use std::collections::BTreeMap;

use super::{
    WeightsError,
    blob::Blob,
    pickle::{self, Described},
    torch_file::{Contents, Entry, damaged, other_kind},
};

/// The whole pickle of the magic number: protocol 2, ten bytes, the end.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The only version of the protocol that there ever was.
const VERSION: i64 = 1001;

/// Bytes in which the pickles must end: thousands of times what a model of thousands of tensors takes.
const LONGEST: u64 = 1 << 26;

/// Whether a file may be in this format, going by its first bytes.
pub(super) fn recognises(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Reads the pickles, and checks that every storage is there in full and nothing behind them.
pub(super) fn read(blob: &Blob) -> Result<Contents, WeightsError> {
    let start = blob.read(0, blob.length().min(LONGEST))?;
    let other = |found: String| other_kind(blob, found);
    let mut at = MAGIC.len();
    let (version, length) = pickle::number(&start[at..]).map_err(other)?;
    if version != VERSION {
        return Err(other(format!("version {version} of the old format")));
    }
    at += length;
    let (little, length) = pickle::truth(&start[at..], "little_endian").map_err(other)?;
    if !little {
        return Err(other("numbers with the highest byte first".into()));
    }
    at += length;
    let Described {
        tensors,
        storages: sizes,
        length,
    } = pickle::described(&start[at..]).map_err(other)?;
    at += length;
    let (names, length) = pickle::texts(&start[at..]).map_err(other)?;
    let mut at = (at + length) as u64;

    let mut storages = BTreeMap::new();
    for name in names {
        let (elements, size) = *sizes
            .get(&name)
            .ok_or_else(|| damaged(blob, format!("a storage `{name}` of no tensor")))?;
        let end = (at + COUNT).checked_add(size).filter(|end| *end <= blob.length());
        let end = end.ok_or_else(|| damaged(blob, format!("a storage `{name}` that is cut short")))?;
        let entry = Entry {
            start: at + COUNT,
            size,
            crc32: None,
        };
        let count = blob.read(at, COUNT)?;
        let count = u64::from_le_bytes(count[..].try_into().expect("eight bytes"));
        if count != elements {
            let found = format!("{count} elements instead of {elements} in the storage `{name}`");
            return Err(damaged(blob, found));
        }
        storages.insert(name, entry);
        at = end;
    }
    if at != blob.length() {
        let found = format!("{} bytes behind the last storage", blob.length() - at);
        return Err(damaged(blob, found));
    }
    match tensors
        .iter()
        .find(|(_, tensor)| !storages.contains_key(&tensor.storage))
    {
        Some((key, _)) => Err(damaged(blob, format!("no values of `{key}`"))),
        None => Ok((tensors, storages)),
    }
}

/// Bytes of the number of a storage's elements.
const COUNT: u64 = 8;
