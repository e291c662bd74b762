//! PyTorch's files: a pickle, which describes tensors, and the storages that they lie in; in a zip archive, or one behind
//! the other as before PyTorch 1.6 ([`old_torch`](super::old_torch)).
//!
//! Burn 0.21's `PytorchStore` is not used: it ignores strides, and a storage that cannot be read becomes zeros without
//! a word. Here every storage must have the size that its tensors need and the checksum that the archive states, and a
//! view is read as its strides say.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, PoisonError},
};

use burn::prelude::*;
use zip::{CompressionMethod, ZipArchive};

use super::{
    TensorInfo, TensorSource, WeightsError,
    blob::{Blob, Bytes},
    old_torch,
    pickle::{StoredTensor, state_dict},
    source::floats,
};

/// First bytes of a zip archive.
const ZIP: &[u8] = b"PK\x03\x04";

/// Where a storage, or another entry of the archive, lies in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Its first byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Its checksum; old files have none.
    pub crc32: Option<u32>,
}

/// The tensors of a file, and where their storages lie.
pub(super) type Contents = (Vec<(String, StoredTensor)>, BTreeMap<String, Entry>);

/// A file of `torch.save` of which the pickle was read.
pub(super) struct TorchFile {
    blob: Blob,
    tensors: BTreeMap<String, StoredTensor>,
    storages: BTreeMap<String, Entry>,
    /// Storages whose checksum was found to be right.
    checked: Mutex<BTreeSet<String>>,
}

impl TorchFile {
    /// Whether a file may be in this format, going by its first bytes.
    pub fn recognises(start: &[u8]) -> bool {
        start.starts_with(ZIP) || old_torch::recognises(start)
    }

    /// Reads the archive's directory and the pickle, and checks that every storage is there in full.
    pub fn new(blob: Blob) -> Result<Self, WeightsError> {
        let zipped = blob.read(0, blob.length().min(ZIP.len() as u64))?[..] == *ZIP;
        let (tensors, storages) = if zipped {
            Self::archive(&blob)?
        } else {
            old_torch::read(&blob)?
        };
        for (key, tensor) in &tensors {
            fits(tensor, &storages[&tensor.storage])
                .map_err(|found| damaged(&blob, format!("`{key}` with {found}")))?;
        }
        Ok(Self {
            blob,
            tensors: tensors.into_iter().collect(),
            storages,
            checked: Mutex::default(),
        })
    }

    /// Tensors and storages of an archive.
    fn archive(blob: &Blob) -> Result<Contents, WeightsError> {
        let mut entries = directory(blob)?;
        let (folder, pickle) = entries
            .iter()
            .find_map(|(name, entry)| Some((name.strip_suffix("data.pkl")?.to_owned(), *entry)))
            .ok_or_else(|| other_kind(blob, "a zip archive without data.pkl".into()))?;
        let order = entries.get(&format!("{folder}byteorder"));
        if let Some(order) = order
            && *read_whole(blob, "byteorder", order)? != *b"little"
        {
            return Err(other_kind(blob, "numbers with the highest byte first".into()));
        }
        let pickle = read_whole(blob, "data.pkl", &pickle)?;
        let tensors = state_dict(&pickle).map_err(|found| other_kind(blob, found))?;
        let mut storages = BTreeMap::new();
        for (key, tensor) in &tensors {
            let name = &tensor.storage;
            if !storages.contains_key(name) {
                let entry = entries.remove(&format!("{folder}data/{name}"));
                let entry = entry.ok_or_else(|| damaged(blob, format!("no values of `{key}`")))?;
                storages.insert(name.clone(), entry);
            }
        }
        Ok((tensors, storages))
    }

    /// Name of the file.
    pub fn path(&self) -> &Path {
        self.blob.path()
    }

    /// The bytes of a range of a storage, whose checksum is right.
    fn bytes(&self, name: &str, start: u64, size: u64) -> Result<Bytes<'_>, WeightsError> {
        let entry = &self.storages[name];
        if size == entry.size {
            return read_whole(&self.blob, name, entry);
        }
        // Several tensors may share a large storage: it is checked once.
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if !checked.contains(name) {
            read_whole(&self.blob, name, entry)?;
            checked.insert(name.to_owned());
        }
        self.blob.read(entry.start + start, size)
    }
}

impl TensorSource for TorchFile {
    fn keys(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn info(&self, key: &str) -> Option<TensorInfo> {
        self.tensors.get(key).map(|tensor| TensorInfo {
            shape: tensor.shape.clone(),
            dtype: tensor.dtype,
        })
    }

    fn read(&self, key: &str) -> Result<TensorData, WeightsError> {
        let tensor = &self.tensors[key];
        let shape = tensor.shape.clone();
        if shape.contains(&0) {
            return Ok(TensorData::new(Vec::<f32>::new(), shape));
        }
        let width = (tensor.dtype.bitsize() / 8) as u64;
        let extent = extent(tensor).expect("checked when the file was opened") as u64;
        let bytes = self.bytes(&tensor.storage, tensor.offset as u64 * width, extent * width)?;
        let values = floats(self.blob.path(), key, tensor.dtype, &bytes)?;
        drop(bytes);
        let values = if is_contiguous(tensor) {
            values
        } else {
            gather(&values, &tensor.shape, &tensor.strides)
        };
        Ok(TensorData::new(values, shape))
    }
}

pub(super) fn other_kind(blob: &Blob, found: String) -> WeightsError {
    WeightsError::Format {
        path: blob.path().into(),
        expected: "a PyTorch state dict",
        found,
    }
}

pub(super) fn damaged(blob: &Blob, found: String) -> WeightsError {
    WeightsError::Damaged {
        path: blob.path().into(),
        found,
    }
}

/// The entries of the archive by name.
fn directory(blob: &Blob) -> Result<BTreeMap<String, Entry>, WeightsError> {
    let broken = |error: zip::result::ZipError| {
        damaged(
            blob,
            format!("a zip archive without its end or its directory ({error})"),
        )
    };
    let mut archive = ZipArchive::new(blob.reader()).map_err(broken)?;
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(broken)?;
        let name = file.name().to_owned();
        if file.encrypted() || file.compression() != CompressionMethod::Stored {
            return Err(other_kind(
                blob,
                format!("a compressed or encrypted entry `{name}`"),
            ));
        }
        let entry = Entry {
            start: file.data_start().unwrap_or(u64::MAX),
            size: file.size(),
            crc32: Some(file.crc32()),
        };
        let end = entry.start.checked_add(entry.size);
        if end.is_none_or(|end| end > blob.length()) {
            return Err(damaged(
                blob,
                format!("an entry `{name}` that goes on behind the end of the file"),
            ));
        }
        entries.insert(name, entry);
    }
    Ok(entries)
}

fn read_whole<'a>(blob: &'a Blob, name: &str, entry: &Entry) -> Result<Bytes<'a>, WeightsError> {
    let bytes = blob.read(entry.start, entry.size)?;
    if entry.crc32.is_some_and(|crc32| crc32fast::hash(&bytes) != crc32) {
        return Err(damaged(blob, format!("another checksum of the entry `{name}`")));
    }
    Ok(bytes)
}

/// Whether a view lies within its storage and the storage is there in full; otherwise, what is wrong.
fn fits(tensor: &StoredTensor, entry: &Entry) -> Result<(), String> {
    let width = (tensor.dtype.bitsize() / 8) as u64;
    let needed = (tensor.storage_elements as u64).checked_mul(width);
    if needed != Some(entry.size) {
        return Err(format!(
            "a storage of {} bytes for {} elements of {}",
            entry.size, tensor.storage_elements, tensor.dtype
        ));
    }
    let (shape, strides) = (&tensor.shape, &tensor.strides);
    if shape.len() != strides.len() {
        return Err(format!("shape {shape:?} and strides {strides:?}"));
    }
    // A view that repeats elements could be of any size.
    let elements = shape
        .iter()
        .try_fold(1usize, |product, size| product.checked_mul(*size));
    let end = extent(tensor).and_then(|extent| extent.checked_add(tensor.offset));
    match (elements, end) {
        (Some(0), _) => Ok(()),
        (Some(elements), Some(end))
            if elements <= tensor.storage_elements && end <= tensor.storage_elements =>
        {
            Ok(())
        }
        _ => Err(format!(
            "a view of shape {shape:?}, strides {strides:?} and offset {} into {} elements",
            tensor.offset, tensor.storage_elements
        )),
    }
}

/// Elements from the first of a view to behind its last.
fn extent(tensor: &StoredTensor) -> Option<usize> {
    let dimensions = tensor.shape.iter().zip(&tensor.strides);
    dimensions
        .map(|(size, stride)| size.saturating_sub(1).checked_mul(*stride))
        .try_fold(1usize, |sum, distance| sum.checked_add(distance?))
}

/// Whether the elements follow each other in the order of their indices.
fn is_contiguous(tensor: &StoredTensor) -> bool {
    let mut expected = 1;
    let mut dimensions = tensor.shape.iter().zip(&tensor.strides).rev();
    dimensions.all(|(size, stride)| {
        let follows = *size == 1 || *stride == expected;
        expected *= size;
        follows
    })
}

/// The elements of a view in the order of their indices.
fn gather(values: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let elements = shape.iter().product();
    let mut gathered = Vec::with_capacity(elements);
    let mut index = vec![0; shape.len()];
    let mut position = 0;
    while gathered.len() < elements {
        gathered.push(values[position]);
        // The next index, as an odometer counts.
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            position += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            position -= shape[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[usize], strides: &[usize], offset: usize) -> StoredTensor {
        StoredTensor {
            storage: "0".into(),
            storage_elements: 12,
            dtype: safetensors::Dtype::F32,
            offset,
            shape: shape.into(),
            strides: strides.into(),
        }
    }

    #[test]
    fn views_are_read_as_their_strides_say() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        assert!(is_contiguous(&view(&[3, 4], &[4, 1], 0)));
        assert!(is_contiguous(&view(&[3, 1, 4], &[4, 99, 1], 0)));
        assert!(!is_contiguous(&view(&[3, 4], &[1, 3], 0)));
        assert_eq!(gather(&values, &[2, 3], &[1, 4]), [0.0, 4.0, 8.0, 1.0, 5.0, 9.0]);
        assert_eq!(extent(&view(&[2, 3], &[1, 4], 0)), Some(10));
    }

    #[test]
    fn views_outside_their_storage_are_refused() {
        let entry = |size| Entry {
            start: 0,
            size,
            crc32: None,
        };
        assert_eq!(fits(&view(&[3, 4], &[4, 1], 0), &entry(48)), Ok(()));
        assert_eq!(fits(&view(&[2, 4], &[4, 1], 4), &entry(48)), Ok(()));
        for (tensor, size) in [
            (view(&[3, 4], &[4, 1], 0), 47),
            (view(&[3, 4], &[4, 1], 1), 48),
            (view(&[3, 4], &[5, 1], 0), 48),
            (view(&[3, 4], &[4], 0), 48),
            (view(&[1 << 40, 1], &[0, 0], 0), 48),
            (view(&[1 << 40, 1 << 40], &[1 << 40, 1], 0), 48),
            (view(&[2], &[usize::MAX], 0), 48),
        ] {
            assert!(fits(&tensor, &entry(size)).is_err(), "{tensor:?}");
        }
    }
}
