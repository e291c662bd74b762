//! PyTorch's files: every kind of tensor in them, those that are refused, and damage anywhere.

use std::path::{Path, PathBuf};

use burn_love::{
    sam2::{Sam2, to_checkpoint},
    weights::{Allow, Dtype, Family, Format, Sam2File, State, TensorSource, WeightsFile, state_of},
};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, image_path};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("parity/torch_file")
        .join(name)
}

/// All floats of a file.
fn floats(file: &WeightsFile) -> Result<State, String> {
    let is_float = |key: &&str| file.info(key).is_some_and(|info| info.is_float());
    file.keys()
        .into_iter()
        .filter(is_float)
        .map(|key| Ok((key.to_owned(), file.read(key).map_err(|error| error.to_string())?)))
        .collect()
}

fn expected() -> State {
    floats(&WeightsFile::open(&path("expected.safetensors")).unwrap()).unwrap()
}

#[test]
fn every_kind_of_tensor_is_read() {
    for name in ["nested.pt", "flat.pt", "protocol4.pt", "training.pt", "old.pt"] {
        let file = WeightsFile::open(&path(name)).unwrap();
        assert_eq!(file.format(), Format::Torch);
        assert_eq!(floats(&file).unwrap(), expected(), "{name}");
        let dtype = |key| file.info(key).unwrap().dtype;
        assert_eq!(
            ["f16", "bf16", "f64", "steps", "index", "flags"].map(dtype),
            [
                Dtype::F16,
                Dtype::BF16,
                Dtype::F64,
                Dtype::I64,
                Dtype::I32,
                Dtype::BOOL
            ],
            "{name}"
        );
        let error = file.read("steps").unwrap_err().to_string();
        assert!(error.contains("expected floats in `steps`, found I64"), "{error}");
    }
}

#[test]
fn a_checkpoint_of_meta_s_is_loaded() {
    let device = Default::default();
    let file = Sam2File::open(&path("sam2.pt")).unwrap();
    assert_eq!(file.family(), Family::Sam2);
    let (model, report): (Sam2<Cpu>, _) = file
        .load_into(image_path::config().init(&device), Allow::default())
        .unwrap();
    assert!(report.missing.is_empty() && report.unused.is_empty());
    // The same weights, put into the model from the fixture that the file was made of.
    let fixture = Fixture::load("image_path");
    let other: Sam2<Cpu> = fixture.load_into(image_path::config().init(&device), to_checkpoint);
    let state = state_of(&model, to_checkpoint);
    assert_eq!(report.applied.len(), state.len());
    assert_eq!(state, state_of(&other, to_checkpoint));
    let features = model.forward_image(fixture.images("pixels", &device));
    let expected = fixture.tensor("feature.0", &device);
    assert_close(
        "feature.0",
        features.high_res.stride4,
        expected,
        crate::IMAGE_MODEL,
    );
}

/// An old file has no checksums, but its length says what is in it.
#[test]
fn an_old_file_is_whole_or_refused() {
    let whole = std::fs::read(path("old.pt")).unwrap();
    let load = |bytes: Vec<u8>| {
        let file = WeightsFile::from_bytes(Path::new("old.pt"), bytes).map_err(|error| error.to_string())?;
        floats(&file)
    };
    assert_eq!(load(whole.clone()), Ok(expected()));
    for length in 0..whole.len() {
        assert!(load(whole[..length].to_vec()).is_err(), "{length} bytes");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(
        load(longer)
            .unwrap_err()
            .contains("1 bytes behind the last storage")
    );
    // Whatever is changed, nothing panics.
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x11;
        let _ = load(bytes);
    }
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    let refused = |name: &str, words: &[&str]| {
        let error = WeightsFile::open(&path(name)).err().unwrap().to_string();
        for word in words.iter().chain(&[name]) {
            assert!(error.contains(word), "expected `{word}` in: {error}");
        }
    };
    refused(
        "foreign.pt",
        &["expected a PyTorch state dict", "`argparse.Namespace`"],
    );
    refused("generate.py", &["expected a safetensors file", "neither"]);
}

/// What a damaged file gives: an error, or what the whole one gives; never a panic, never other values.
fn load(bytes: Vec<u8>) -> Result<State, String> {
    let file = WeightsFile::from_bytes(Path::new("damaged.pt"), bytes).map_err(|error| error.to_string())?;
    floats(&file)
}

#[test]
fn damage_anywhere_is_an_error_or_harmless() {
    let whole = std::fs::read(path("nested.pt")).unwrap();
    let expected = expected();
    for length in 0..whole.len() {
        assert!(load(whole[..length].to_vec()).is_err(), "cut to {length} bytes");
    }
    let mut noticed = 0;
    for position in 0..whole.len() {
        for change in [0x01, 0x20, 0xff] {
            let mut bytes = whole.clone();
            bytes[position] ^= change;
            match load(bytes) {
                Err(_) => noticed += 1,
                // A tensor whose name or type the directory lost is missing, which loading a model reports.
                Ok(state) => {
                    let same = state.iter().all(|(key, data)| expected.get(key) == Some(data));
                    assert!(same, "byte {position} changed by {change:#x}");
                }
            }
        }
    }
    assert!(noticed > whole.len(), "{noticed} of {} changes", 3 * whole.len());
}
