//! Damage to files of both formats: an error, or no harm; never a panic, never values that were not written.

use std::{path::Path, sync::LazyLock};

use burn::tensor::TensorData;
use proptest::prelude::*;

use super::{State, TensorSource, WeightsError, WeightsFile, compare, write_safetensors, write_torch};

fn state() -> State {
    State::from([
        (
            "encoder.weight".into(),
            TensorData::from([[1f32, -2.0], [0.5, 3.25]]),
        ),
        ("encoder.bias".into(), TensorData::from([7f32, -8.0, 9.5])),
        ("scale".into(), TensorData::from([[[1e-6f32]]])),
    ])
}

/// The bytes of a file with the state.
fn written(write: impl Fn(&Path, &State) -> Result<(), WeightsError>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write(&path, &state()).unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left aside"
    );
    std::fs::read(path).unwrap()
}

fn torch() -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| written(|path, state| write_torch(path, state)));
    BYTES.clone()
}

fn safetensors() -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> =
        LazyLock::new(|| written(|path, state| write_safetensors(path, state, None)));
    BYTES.clone()
}

/// What a model of the state's shapes gets from a file.
fn load(bytes: Vec<u8>) -> Result<State, WeightsError> {
    let path = Path::new("damaged");
    let file = WeightsFile::from_bytes(path, bytes)?;
    let report = compare(&state().shapes(), &file, path)?.complete(path)?;
    let read = |key: String| file.read(&key).map(|data| (key, data));
    report.applied.into_iter().map(read).collect()
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(load(torch()).unwrap(), state());
    assert_eq!(load(safetensors()).unwrap(), state());
    let again = written(|path, state| write_torch(path, state));
    assert_eq!(again, torch(), "the same content gives the same bytes");
    let again = written(|path, state| write_safetensors(path, state, None));
    assert_eq!(again, safetensors());
}

#[test]
fn no_cut_is_taken_for_a_whole() {
    for whole in [torch(), safetensors()] {
        for length in 0..whole.len() {
            assert!(load(whole[..length].to_vec()).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn a_changed_byte_of_a_torch_file_is_noticed_or_harmless() {
    let whole = torch();
    for position in 0..whole.len() {
        for change in [0x01, 0x02, 0x10, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[position] ^= change;
            if let Ok(found) = load(bytes) {
                assert_eq!(found, state(), "byte {position} changed by {change:#x}");
            }
        }
    }
}

#[test]
fn a_changed_byte_of_a_safetensors_file_changes_its_own_value_at_most() {
    let whole = safetensors();
    let values: Vec<f32> = state()
        .values()
        .flat_map(|data| data.to_vec::<f32>().unwrap())
        .collect();
    let header = whole.len() - 4 * values.len();
    for position in 0..whole.len() {
        for change in [0x01, 0x02, 0x10, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[position] ^= change;
            let Ok(found) = load(bytes) else { continue };
            let found = found.values().flat_map(|data| data.to_vec::<f32>().unwrap());
            let differ: Vec<_> = found
                .zip(&values)
                .enumerate()
                .filter(|(_, (found, value))| found.to_bits() != value.to_bits())
                .map(|(i, _)| i)
                .collect();
            // The format has no checksums: a byte of a value is that value's, and no other's.
            let own = position.checked_sub(header).map(|offset| offset / 4);
            assert_eq!(
                differ,
                Vec::from_iter(own),
                "byte {position} changed by {change:#x}"
            );
        }
    }
}

#[test]
fn errors_name_the_file_and_what_was_found() {
    let words = |bytes: Vec<u8>| load(bytes).unwrap_err().to_string();
    assert_eq!(
        words(Vec::new()),
        "damaged: expected a safetensors file or a state dict saved by PyTorch, found an empty file"
    );
    let whole = torch();
    assert!(words(whole[..whole.len() / 2].to_vec()).starts_with("damaged: expected an undamaged file"));
    let mut changed = whole.clone();
    let value = 7f32.to_le_bytes();
    let position = whole.windows(4).position(|bytes| bytes == value).unwrap();
    changed[position] ^= 1;
    assert_eq!(
        words(changed),
        "damaged: expected an undamaged file, found another checksum of the entry `0`"
    );
    let whole = safetensors();
    assert_eq!(
        words(whole[..whole.len() - 4].to_vec()),
        "damaged: expected an undamaged file, found 28 bytes of tensors where the header tells of 32"
    );
}

#[test]
fn values_that_are_no_numbers_are_refused_in_both_formats() {
    let mut state = state();
    state.insert("encoder.bias".into(), TensorData::from([1f32, f32::NAN, 2.0]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for torch in [true, false] {
        if torch {
            write_torch(&path, &state).unwrap();
        } else {
            write_safetensors(&path, &state, None).unwrap();
        }
        let error = load(std::fs::read(&path).unwrap()).unwrap_err().to_string();
        assert_eq!(
            error,
            "damaged: expected finite values, found NaN in `encoder.bias`"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        torch_file in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<Option<prop::sample::Index>>(),
        copied in any::<Option<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>>(),
    ) {
        let mut bytes = if torch_file { torch() } else { safetensors() };
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Some((from, to, at)) = copied {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            let at = at.index(bytes.len());
            bytes.splice(at..at, piece);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let (true, Ok(found)) = (torch_file, load(bytes)) {
            prop_assert_eq!(found, state());
        }
    }
}
