//! The stack machine that a pickle programs, as far as state dicts do.

use std::collections::HashMap;

use safetensors::Dtype;

/// PyTorch's typed storages that a tensor may lie in.
const STORAGES: &[(&str, Dtype)] = &[
    ("FloatStorage", Dtype::F32),
    ("DoubleStorage", Dtype::F64),
    ("HalfStorage", Dtype::F16),
    ("BFloat16Storage", Dtype::BF16),
    ("LongStorage", Dtype::I64),
    ("IntStorage", Dtype::I32),
    ("ShortStorage", Dtype::I16),
    ("CharStorage", Dtype::I8),
    ("ByteStorage", Dtype::U8),
    ("BoolStorage", Dtype::BOOL),
];

/// Most dimensions of a tensor, and bytes of a storage's name: far above any real one, so that a small file cannot ask
/// for much memory.
const LONGEST: usize = 64;

/// A tensor as a pickle describes it: a view of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::weights) struct StoredTensor {
    /// Name of the storage.
    pub storage: String,
    /// Elements of the storage.
    pub storage_elements: usize,
    /// Their type.
    pub dtype: Dtype,
    /// First element of the view.
    pub offset: usize,
    /// Shape of the view.
    pub shape: Vec<usize>,
    /// Elements from one index to the next, for each dimension.
    pub strides: Vec<usize>,
}

/// A function or class that state dicts name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", storage) => {
                let found = STORAGES.iter().find(|(name, _)| *name == storage)?;
                Some(Self::Storage(found.1))
            }
            _ => None,
        }
    }
}

/// What stands on the stack; containers are indices into the machine's arenas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'a str),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Float => "a number",
            Self::Text(_) => "a text",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// A storage, as its persistent id describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    pub dtype: Dtype,
    pub key: &'a str,
    pub elements: usize,
}

/// The stack machine that a pickle programs.
pub(super) struct Machine<'a> {
    input: &'a [u8],
    pub position: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    pub lists: Vec<Vec<Value<'a>>>,
    pub dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<StoredTensor>,
}

impl<'a> Machine<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            position: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            tuples: Vec::new(),
            lists: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Runs the program; its result is what is left on the stack.
    pub fn run(&mut self) -> Result<Value<'a>, String> {
        loop {
            let at = self.position;
            match self.byte()? {
                b'.' => return self.pop(),
                code => self.step(code, at)?,
            }
        }
    }

    /// Opcodes of protocols 2 to 4, by their names in Python's `pickletools`.
    fn step(&mut self, code: u8, at: usize) -> Result<(), String> {
        match code {
            // PROTO, FRAME
            0x80 => self.skip(1),
            0x95 => self.skip(8),
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool(code == 0x88)),
            // BININT, BININT1, BININT2, LONG1, BINFLOAT
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            0x8a => {
                let value = self.long()?;
                self.push(Value::Int(value))
            }
            b'G' => {
                self.skip(8)?;
                self.push(Value::Float)
            }
            // SHORT_BINUNICODE, BINUNICODE
            0x8c => {
                let length = self.byte()?;
                self.text(length.into())
            }
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)
            }
            // EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT
            b')' => self.tuple(self.stack.len()),
            b']' => {
                self.lists.push(Vec::new());
                self.push(Value::List(self.lists.len() - 1))
            }
            b'}' => self.empty_dict(),
            // MARK, TUPLE, TUPLE1, TUPLE2, TUPLE3
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b't' => {
                let mark = self.mark()?;
                self.tuple(mark)
            }
            0x85..=0x87 => {
                let size = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(size).ok_or_else(underflow)?;
                self.tuple(start)
            }
            // APPEND, APPENDS
            b'a' => self.append(self.stack.len().saturating_sub(1)),
            b'e' => {
                let mark = self.mark()?;
                self.append(mark)
            }
            // SETITEM, SETITEMS
            b's' => self.set_items(self.stack.len().saturating_sub(2)),
            b'u' => {
                let mark = self.mark()?;
                self.set_items(mark)
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let slot = self.byte()?;
                self.put(slot.into())
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.put(slot)
            }
            0x94 => self.put(self.memo.len() as u32),
            // BINGET, LONG_BINGET
            b'h' => {
                let slot = self.byte()?;
                self.get(slot.into())
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.get(slot)
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.global(module, name),
                _ => Err("a function without a name".into()),
            },
            // BINPERSID, REDUCE, BUILD
            b'Q' => self.storage(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            _ => Err(format!(
                "pickle opcode {code:#04x} at byte {at}, which no state dict needs"
            )),
        }
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), String> {
        self.stack.push(value);
        Ok(())
    }

    /// Takes the top of the stack, which a mark protects.
    fn pop(&mut self) -> Result<Value<'a>, String> {
        if self.marks.last().is_some_and(|mark| *mark >= self.stack.len()) {
            return Err(underflow());
        }
        self.stack.pop().ok_or_else(underflow)
    }

    fn mark(&mut self) -> Result<usize, String> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        // Values below a mark can only be taken by a broken pickle.
        (mark <= self.stack.len()).then_some(mark).ok_or_else(underflow)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self
            .position
            .checked_add(length)
            .filter(|end| *end <= self.input.len());
        let end = end.ok_or("a pickle that is cut short")?;
        let bytes = &self.input[self.position..end];
        self.position = end;
        Ok(bytes)
    }

    fn skip(&mut self, length: usize) -> Result<(), String> {
        self.take(length).map(drop)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("N bytes"))
    }

    /// Little-endian two's complement of up to eight bytes.
    fn long(&mut self) -> Result<i64, String> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        let Some(last) = bytes.last() else { return Ok(0) };
        if length > 8 {
            return Err(format!("a number of {length} bytes"));
        }
        let mut word = [if *last < 0x80 { 0 } else { 0xff }; 8];
        word[..length].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(word))
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8")?;
        self.push(Value::Text(text))
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.input[self.position..];
        let length = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or("a pickle that is cut short")?;
        let line = std::str::from_utf8(self.take(length)?).map_err(|_| "a name that is not UTF-8")?;
        self.skip(1)?;
        Ok(line)
    }

    fn tuple(&mut self, start: usize) -> Result<(), String> {
        let items = self.stack.split_off(start);
        self.tuples.push(items);
        self.push(Value::Tuple(self.tuples.len() - 1))
    }

    fn empty_dict(&mut self) -> Result<(), String> {
        self.dicts.push(Vec::new());
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    fn append(&mut self, start: usize) -> Result<(), String> {
        let items = self.stack.split_off(start);
        match self.stack.last() {
            Some(Value::List(list)) => {
                self.lists[*list].extend(items);
                Ok(())
            }
            _ => Err("items of no list".into()),
        }
    }

    fn set_items(&mut self, start: usize) -> Result<(), String> {
        let items = self.stack.split_off(start);
        match (self.stack.last(), items.len() % 2) {
            (Some(Value::Dict(dict)), 0) => {
                self.dicts[*dict].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err("entries of no dict".into()),
        }
    }

    fn put(&mut self, slot: u32) -> Result<(), String> {
        let value = *self.stack.last().ok_or_else(underflow)?;
        self.memo.insert(slot, value);
        Ok(())
    }

    fn get(&mut self, slot: u32) -> Result<(), String> {
        let value = *self.memo.get(&slot).ok_or("a value that was never stored")?;
        self.push(value)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = Global::find(module, name).ok_or_else(|| {
            format!("a use of `{module}.{name}`, which no state dict needs: it was not run")
        })?;
        self.push(Value::Global(global))
    }

    /// A persistent id: `("storage", type, key, device, elements)`, and before PyTorch 1.6 nothing as sixth: storages
    /// that are views of others were given up long before.
    fn storage(&mut self) -> Result<(), String> {
        let Value::Tuple(index) = self.pop()? else {
            return Err("a storage without a description".into());
        };
        let (dtype, key, elements) = match self.tuples[index][..] {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(elements),
            ]
            | [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(elements),
                Value::None,
            ] => (dtype, key, elements),
            _ => return Err("a storage with another description than PyTorch's".into()),
        };
        let elements = usize::try_from(elements).map_err(|_| format!("a storage of {elements} elements"))?;
        if key.len() > LONGEST {
            return Err(format!("a storage with a name of {} bytes", key.len()));
        }
        self.storages.push(Storage { dtype, key, elements });
        self.push(Value::Storage(self.storages.len() - 1))
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Global(function)) = (arguments, function) else {
            return Err(format!("a call of {}", function.name()));
        };
        match (function, &self.tuples[arguments][..]) {
            (Global::OrderedDict, []) => self.empty_dict(),
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => {
                let tensor = *tensor;
                self.push(tensor)
            }
            (
                Global::RebuildTensor,
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => self.tensor(storage, offset, shape, strides),
            _ => Err(format!(
                "a call of {function:?} with other arguments than PyTorch's"
            )),
        }
    }

    fn tensor(&mut self, storage: usize, offset: i64, shape: usize, strides: usize) -> Result<(), String> {
        let sizes = |tuple: usize| -> Option<Vec<usize>> {
            let size = |value: &Value| match value {
                Value::Int(size) => usize::try_from(*size).ok(),
                _ => None,
            };
            self.tuples[tuple].iter().map(size).collect()
        };
        let (Ok(offset), Some(shape), Some(strides)) =
            (usize::try_from(offset), sizes(shape), sizes(strides))
        else {
            return Err("a tensor with negative sizes".into());
        };
        if shape.len().max(strides.len()) > LONGEST {
            return Err(format!("a tensor of {} dimensions", shape.len()));
        }
        let Storage { dtype, key, elements } = self.storages[storage];
        self.tensors.push(StoredTensor {
            storage: key.to_owned(),
            storage_elements: elements,
            dtype,
            offset,
            shape,
            strides,
        });
        self.push(Value::Tensor(self.tensors.len() - 1))
    }

    /// The state of an ordered dict: `_metadata`, which holds versions of modules.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            other => Err(format!(
                "a state of {}",
                other.map_or("nothing", |value| value.name())
            )),
        }
    }
}

fn underflow() -> String {
    "a pickle that takes what is not there".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_sign() {
        let long = |bytes: &[u8]| Machine::new(bytes).long();
        assert_eq!(long(&[2, 0x00, 0x80]), Ok(-32768));
        assert_eq!(long(&[3, 0x00, 0x80, 0x00]), Ok(32768));
        assert_eq!(long(&[0]), Ok(0));
        assert!(long(&[9, 1, 2, 3, 4, 5, 6, 7, 8, 9]).is_err());
    }
}
