//! Writes what `torch.load` reads: `{"model": state dict}`, as Meta publishes its weights.

use std::{io::Write, path::Path};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{
    TensorSource, WeightsError,
    blob::{io_error, write_atomically},
};

/// PyTorch maps storages into memory where they begin at multiples of this.
const ALIGNMENT: u16 = 64;

/// Writes tensors as f32 under `model`, one tensor in memory at a time.
///
/// The file is written aside and renamed: it is complete on disk when this returns, or what was there before is
/// untouched.
///
/// # Errors
/// If a tensor cannot be read or the file cannot be written.
pub fn write_torch(path: &Path, source: &dyn TensorSource) -> Result<(), WeightsError> {
    let fail = io_error(path);
    let io = |error: zip::result::ZipError| fail(error.into());
    // The date is left out: the same content gives the same bytes.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(ALIGNMENT)
        .last_modified_time(zip::DateTime::default());
    write_atomically(path, |target| {
        let mut archive = ZipWriter::new(target);
        let mut entry = |name: String, content: &[u8]| -> Result<(), WeightsError> {
            // Without it, an entry above 4 GiB is refused when its last byte is written.
            let large = content.len() as u64 >= u64::from(u32::MAX);
            archive
                .start_file(format!("archive/{name}"), options.large_file(large))
                .map_err(&io)?;
            archive.write_all(content).map_err(&fail)
        };
        entry("data.pkl".into(), &pickle(source))?;
        entry("byteorder".into(), b"little")?;
        for (index, key) in source.keys().into_iter().enumerate() {
            entry(format!("data/{index}"), source.read(key)?.as_bytes())?;
        }
        entry("version".into(), b"3\n")?;
        archive.finish().map(drop).map_err(&io)
    })
}

/// The pickle, in protocol 2. Nothing is memoized: a few bytes more, and no numbering.
fn pickle(source: &dyn TensorSource) -> Vec<u8> {
    const ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut out = b"\x80\x02}".to_vec();
    text(&mut out, "model");
    out.extend(ORDERED_DICT);
    out.push(b'(');
    for (index, key) in source.keys().into_iter().enumerate() {
        let info = source.info(key).expect("a key of the source");
        text(&mut out, key);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        text(&mut out, &index.to_string());
        text(&mut out, "cpu");
        number(&mut out, info.elements());
        out.extend(b"tQK\x00"); // persistent id, offset 0
        tuple(&mut out, &info.shape);
        tuple(&mut out, &strides(&info.shape));
        out.push(0x89); // requires_grad = False
        out.extend(ORDERED_DICT); // backward hooks
        out.extend(b"tR");
    }
    out.extend(b"us."); // items of the inner dict, then of the outer
    out
}

/// BINUNICODE
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// LONG1 of eight bytes; sizes of memory leave the sign bit free.
fn number(out: &mut Vec<u8>, number: usize) {
    out.extend([0x8a, 8]);
    out.extend((number as u64).to_le_bytes());
}

/// MARK, items, TUPLE
fn tuple(out: &mut Vec<u8>, items: &[usize]) {
    out.push(b'(');
    items.iter().for_each(|item| number(out, *item));
    out.push(b't');
}

/// Elements from one index to the next of a contiguous tensor.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}
