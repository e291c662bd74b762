//! One entry as the content of a file: safetensors with its name and a checksum in the metadata.

use std::collections::HashMap;

use burn::{prelude::*, tensor::DType};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{cache::CachePrecision, key::Key};

const KEY: &str = "key";
const CHECKSUM: &str = "crc32";

/// The tensors of an entry, f32, in the order of its part's names.
pub(crate) type Features = Vec<TensorData>;

/// Values as they are kept, and back: what is computed now equals what is read later.
pub(super) fn rounded(features: Features, precision: CachePrecision) -> Features {
    match precision {
        CachePrecision::F32 => features,
        CachePrecision::F16 => features.into_iter().map(|data| f32s(f16s(data))).collect(),
    }
}

fn f32s(data: TensorData) -> TensorData {
    data.convert_dtype(DType::F32)
}

/// Values beyond f16's range become its largest, not infinity.
fn f16s(data: TensorData) -> TensorData {
    let mut data = f32s(data);
    let largest = 65504.0;
    for value in data.as_mut_slice::<f32>().expect("just converted") {
        *value = value.clamp(-largest, largest);
    }
    data.convert_dtype(DType::F16)
}

/// The content of an entry's file.
pub(super) fn to_bytes(key: &Key, features: &Features, precision: CachePrecision) -> Vec<u8> {
    let (dtype, stored): (_, Vec<TensorData>) = match precision {
        CachePrecision::F32 => (Dtype::F32, features.iter().cloned().map(f32s).collect()),
        CachePrecision::F16 => (Dtype::F16, features.iter().cloned().map(f16s).collect()),
    };
    let tensors = key.part.tensors();
    assert_eq!(tensors.len(), stored.len(), "tensors of {key:?}");
    let views = tensors.iter().zip(&stored).map(|((name, _), data)| {
        let view = TensorView::new(dtype, data.shape.to_vec(), data.as_bytes());
        (*name, view.expect("as many bytes as the shape says"))
    });
    let metadata = HashMap::from([
        (KEY.to_owned(), key.whole()),
        (
            CHECKSUM.to_owned(),
            checksum(stored.iter().map(TensorData::as_bytes)),
        ),
    ]);
    safetensors::serialize(views, Some(metadata)).expect("names and sizes are right")
}

/// The tensors in a file's content, or of a clip's only those of some frames; nothing if it is damaged, or another entry's.
pub(super) fn from_bytes(bytes: &[u8], key: &Key, frames: Option<&[usize]>) -> Option<Features> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let metadata = header.metadata().as_ref()?;
    let file = SafeTensors::deserialize(bytes).ok()?;
    let tensors = key.part.tensors();
    let view = |name: &str, rank| file.tensor(name).ok().filter(|view| view.shape().len() == rank);
    let views: Vec<TensorView<'_>> = tensors
        .iter()
        .map(|(name, rank)| view(name, *rank))
        .collect::<Option<_>>()?;
    let same = metadata.get(KEY) == Some(&key.whole())
        && file.len() == tensors.len()
        && metadata.get(CHECKSUM) == Some(&checksum(views.iter().map(TensorView::data)));
    if !same {
        return None;
    }
    views
        .into_iter()
        .map(|view| {
            let dtype = match view.dtype() {
                Dtype::F32 => DType::F32,
                Dtype::F16 => DType::F16,
                _ => return None,
            };
            let (bytes, shape) = match frames {
                Some(frames) => some_frames(&view, frames)?,
                None => (view.data().to_vec(), view.shape().to_vec()),
            };
            Some(f32s(TensorData::from_bytes_vec(bytes, shape, dtype)))
        })
        .collect()
}

/// Frames of `[1, T, …]`; nothing if it has not that many.
fn some_frames(view: &TensorView<'_>, frames: &[usize]) -> Option<(Vec<u8>, Vec<usize>)> {
    let mut shape = view.shape().to_vec();
    let length = view.data().len() / shape[1].max(1);
    let all: Vec<&[u8]> = view.data().chunks_exact(length.max(1)).collect();
    let some: Option<Vec<&[u8]>> = frames.iter().map(|frame| all.get(*frame).copied()).collect();
    shape[1] = frames.len();
    Some((some?.concat(), shape))
}

fn checksum<'a>(tensors: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    tensors.for_each(|bytes| hasher.update(bytes));
    format!("{:08x}", hasher.finalize())
}
