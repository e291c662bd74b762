//! What a pickle describes, by the names that it gives.

use std::collections::HashMap;

use super::machine::{Machine, StoredTensor, Value};

/// The names and tensors of the state dict in a pickle: under `model`, as Meta saves them, or all of it.
///
/// # Errors
/// What was found instead.
pub(in crate::weights) fn state_dict(pickle: &[u8]) -> Result<Vec<(String, StoredTensor)>, String> {
    Ok(described(pickle)?.tensors)
}

/// What one of several pickles in a row describes.
pub(in crate::weights) struct Described {
    /// As [`state_dict`] gives them.
    pub tensors: Vec<(String, StoredTensor)>,
    /// Every storage that is named, with its elements and the bytes that they take.
    pub storages: HashMap<String, (u64, u64)>,
    /// Bytes of the pickle.
    pub length: usize,
}

/// The state dict at the start of `pickle`, behind which other things may stand.
///
/// # Errors
/// What was found instead.
pub(in crate::weights) fn described(pickle: &[u8]) -> Result<Described, String> {
    let mut machine = Machine::new(pickle);
    let root = machine.run()?;
    let mut storages = HashMap::new();
    for storage in &machine.storages {
        let (elements, width) = (storage.elements as u64, storage.dtype.bitsize() as u64 / 8);
        let bytes = elements
            .checked_mul(width)
            .ok_or_else(|| format!("a storage of {elements} elements"))?;
        let size = (elements, bytes);
        if storages
            .insert(storage.key.to_owned(), size)
            .is_some_and(|other| other != size)
        {
            return Err(format!("two sizes of the storage `{}`", storage.key));
        }
    }
    let entries = |value: &Value| match value {
        Value::Dict(index) => Some(&machine.dicts[*index]),
        _ => None,
    };
    let root = entries(&root).ok_or_else(|| format!("a pickle of {}", root.name()))?;
    let nested = root.iter().find(|(key, _)| *key == Value::Text("model"));
    let dict = nested.and_then(|(_, value)| entries(value)).unwrap_or(root);
    let tensor = |(key, value): &(Value, Value)| match (key, value) {
        (Value::Text(key), Value::Tensor(index)) => Ok(((*key).to_owned(), machine.tensors[*index].clone())),
        (Value::Text(key), other) => Err(format!("{} as `{key}` of the state dict", other.name())),
        (other, _) => Err(format!("{} as a name in the state dict", other.name())),
    };
    Ok(Described {
        tensors: dict.iter().map(tensor).collect::<Result<_, _>>()?,
        storages,
        length: machine.position,
    })
}

/// The number that a pickle holds, and the pickle's length.
///
/// # Errors
/// What was found instead.
pub(in crate::weights) fn number(pickle: &[u8]) -> Result<(i64, usize), String> {
    let mut machine = Machine::new(pickle);
    match machine.run()? {
        Value::Int(number) => Ok((number, machine.position)),
        other => Err(format!("a pickle of {}", other.name())),
    }
}

/// A truth value of the dict that a pickle holds, and the pickle's length.
///
/// # Errors
/// What was found instead.
pub(in crate::weights) fn truth(pickle: &[u8], key: &str) -> Result<(bool, usize), String> {
    let mut machine = Machine::new(pickle);
    let Value::Dict(dict) = machine.run()? else {
        return Err("no dict".into());
    };
    let found = machine.dicts[dict]
        .iter()
        .find(|(name, _)| *name == Value::Text(key));
    match found {
        Some((_, Value::Bool(truth))) => Ok((*truth, machine.position)),
        _ => Err(format!("a dict without `{key}`")),
    }
}

/// The texts of the list that a pickle holds, and the pickle's length.
///
/// # Errors
/// What was found instead.
pub(in crate::weights) fn texts(pickle: &[u8]) -> Result<(Vec<String>, usize), String> {
    let mut machine = Machine::new(pickle);
    let Value::List(list) = machine.run()? else {
        return Err("no list".into());
    };
    let text = |value: &Value| match value {
        Value::Text(text) => Ok((*text).to_owned()),
        other => Err(format!("{} in a list of names", other.name())),
    };
    let texts = machine.lists[list].iter().map(text).collect::<Result<_, _>>()?;
    Ok((texts, machine.position))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::Dtype;

    use super::*;

    /// `{"w": tensor([[..], [..]])}` of 2 × 3 elements behind the first of a storage.
    fn pickle() -> Vec<u8> {
        let mut bytes = b"\x80\x02}q\x00X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\nq\x01((".to_vec();
        bytes.extend(b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x07tQ");
        bytes.extend(b"K\x01K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.");
        bytes
    }

    #[test]
    fn a_state_dict_is_read() {
        let tensor = StoredTensor {
            storage: "0".into(),
            storage_elements: 7,
            dtype: Dtype::F32,
            offset: 1,
            shape: vec![2, 3],
            strides: vec![3, 1],
        };
        assert_eq!(state_dict(&pickle()), Ok(vec![("w".into(), tensor)]));
    }

    #[test]
    fn foreign_functions_are_refused_by_name() {
        let error = state_dict(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.").unwrap_err();
        assert!(error.contains("`os.system`"), "{error}");
        let error = state_dict(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").unwrap_err();
        assert!(error.contains("`builtins.eval`"), "{error}");
    }

    #[test]
    fn deep_nesting_takes_no_stack() {
        let deep = [b")".to_vec(), vec![0x85; 1_000_000], b".".to_vec()].concat();
        assert_eq!(state_dict(&deep), Err("a pickle of a tuple".into()));
    }

    #[test]
    fn no_cut_is_taken_for_a_whole() {
        let whole = pickle();
        for length in 0..whole.len() {
            assert!(state_dict(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            tail in prop::collection::vec(any::<u8>(), 0..64),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut bytes = pickle();
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            bytes.truncate(keep.index(bytes.len() + 1));
            bytes.extend(tail);
            let _ = state_dict(&bytes);
        }
    }
}
