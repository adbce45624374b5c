//! A pickle machine that builds state dicts and can do nothing else.
//!
//! Pickle is a program: its `GLOBAL` looks up any Python object and its `REDUCE` calls it. This machine knows the few
//! names that a state dict needs as plain data ([`Global`]) and refuses every other name and every other instruction.
//! Values lie in one arena and refer to each other by index, so that neither copies of copies nor deep nesting can
//! exhaust memory or the stack: time and memory are linear in the length of the pickle.

use crate::{Error, Result};
use candle_core::DType;
use std::collections::HashMap;

/// Index of a value in the arena.
pub(crate) type Id = usize;

/// A Python object, as far as state dicts need them.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Str(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Pairs in order.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(TensorRef),
    /// Something beside the weights, of which nothing is kept.
    Opaque,
}

/// The names that a pickle may look up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(DType),
    /// fastcore's list, in which fastai's `learn.save` keeps the optimizer's numbers.
    FastcoreList,
}

impl Global {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "collections.OrderedDict" => Self::OrderedDict,
            "torch._utils._rebuild_tensor_v2" => Self::RebuildTensor,
            "torch._utils._rebuild_parameter" => Self::RebuildParameter,
            "torch.FloatStorage" => Self::Storage(DType::F32),
            "torch.DoubleStorage" => Self::Storage(DType::F64),
            "torch.HalfStorage" => Self::Storage(DType::F16),
            "torch.BFloat16Storage" => Self::Storage(DType::BF16),
            "torch.LongStorage" => Self::Storage(DType::I64),
            "torch.IntStorage" => Self::Storage(DType::I32),
            "torch.ShortStorage" => Self::Storage(DType::I16),
            // Booleans are bytes; no network here has them, but optimizers and buffers may.
            "torch.ByteStorage" | "torch.BoolStorage" => Self::Storage(DType::U8),
            "fastcore.foundation.L" => Self::FastcoreList,
            _ => return None,
        })
    }
}

/// Elements that lie in a file of the archive.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub(crate) dtype: DType,
    /// Name of the file under `data/`.
    pub(crate) key: String,
    /// Number of elements.
    pub(crate) len: usize,
}

/// A strided view of a storage; not yet checked against its length.
#[derive(Clone, Debug)]
pub(crate) struct TensorRef {
    pub(crate) storage: Storage,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) stride: Vec<usize>,
}

/// What a pickle built.
#[derive(Debug)]
pub(crate) struct Built {
    arena: Vec<Value>,
    /// The object itself.
    pub(crate) root: Id,
}

impl Built {
    pub(crate) fn get(&self, id: Id) -> &Value {
        &self.arena[id]
    }

    /// The pairs of a dict whose keys are strings; other keys are left out.
    pub(crate) fn entries(&self, id: Id) -> Option<Vec<(&str, Id)>> {
        let Value::Dict(pairs) = self.get(id) else { return None };
        let named = |&(key, value): &(Id, Id)| match self.get(key) {
            Value::Str(name) => Some((name.as_str(), value)),
            _ => None,
        };
        Some(pairs.iter().filter_map(named).collect())
    }
}

/// Runs a pickle.
///
/// # Errors
///
/// [`Error::ForbiddenGlobal`] and [`Error::ForbiddenOpcode`] for anything beyond state dicts, [`Error::Pickle`] for
/// what makes no sense.
pub(crate) fn run(code: &[u8]) -> Result<Built> {
    let mut machine = Machine {
        code,
        at: 0,
        start: 0,
        arena: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        items: 0,
    };
    loop {
        machine.start = machine.at;
        let opcode = machine.byte()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Built { arena: machine.arena, root });
        }
        machine.step(opcode)?;
    }
}

/// What a pickle may make and keep at a time: a hundred times what the state dict of a ResNet-152 needs.
const MOST_VALUES: usize = 200_000;

struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    /// Where the current instruction begins.
    start: usize,
    arena: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Of all tuples, lists and dicts.
    items: usize,
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => self.protocol(),
            // A frame only says how much to read ahead.
            0x95 => self.take(8).map(drop),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'J' => self.array().and_then(|b| self.push(Value::Int(i32::from_le_bytes(b).into()))),
            b'K' => self.array::<1>().and_then(|b| self.push(Value::Int(b[0].into()))),
            b'M' => self.array().and_then(|b| self.push(Value::Int(u16::from_le_bytes(b).into()))),
            0x8a => self.long(),
            b'G' => self.take(8).map(drop).and_then(|()| self.push(Value::Float)),
            b'X' => self.array().and_then(|b| self.string(u32::from_le_bytes(b) as usize)),
            0x8c => self.byte().and_then(|len| self.string(len.into())),
            b'(' => {
                self.room()?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84)),
            b't' => self.since_mark().and_then(|items| self.push_tuple(items)),
            b']' => self.push(Value::List(Vec::new())),
            b'a' => self.pop().and_then(|item| self.append(vec![item])),
            b'e' => self.since_mark().and_then(|items| self.append(items)),
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => self.top(2).and_then(|pair| self.set(pair)),
            b'u' => self.since_mark().and_then(|items| self.set(items)),
            b'q' => self.byte().and_then(|key| self.put(key.into())),
            b'r' => self.array().and_then(|b| self.put(u32::from_le_bytes(b))),
            0x94 => self.put(self.memo.len() as u32),
            b'h' => self.byte().and_then(|key| self.recall(key.into())),
            b'j' => self.array().and_then(|b| self.recall(u32::from_le_bytes(b))),
            b'c' => self.global(),
            0x93 => self.stack_global(),
            b'Q' => self.storage(),
            b'R' => self.reduce(),
            0x81 => self.new_object(),
            b'b' => self.build(),
            _ => Err(Error::ForbiddenOpcode { opcode, offset: self.start }),
        }
    }

    fn error<T>(&self, problem: &'static str) -> Result<T> {
        Err(Error::Pickle { problem, offset: self.start })
    }

    // Reading.

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        match self.code.get(self.at..).and_then(|rest| rest.get(..n)) {
            Some(bytes) => {
                self.at += n;
                Ok(bytes)
            }
            None => self.error("it ends inside an instruction"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("`take` gives as many bytes as it was asked for"))
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn text(&mut self, n: usize) -> Result<String> {
        match std::str::from_utf8(self.take(n)?) {
            Ok(text) => Ok(text.into()),
            Err(_) => self.error("a string is not UTF-8"),
        }
    }

    fn line(&mut self) -> Result<String> {
        match self.code[self.at..].iter().position(|&byte| byte == b'\n') {
            Some(n) => {
                let line = self.text(n)?;
                self.at += 1;
                Ok(line)
            }
            None => self.error("a line has no end"),
        }
    }

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            _ => self.error("the protocol is none of 2 to 5"),
        }
    }

    // The stack.

    /// Each instruction is a byte or a few, and what it leaves takes up to a hundred.
    fn room(&self) -> Result<()> {
        if self.arena.len() + self.stack.len() + self.marks.len() + self.memo.len() + self.items < MOST_VALUES {
            return Ok(());
        }
        self.error("there are more values than any state dict has")
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.room()?;
        self.arena.push(value);
        self.stack.push(self.arena.len() - 1);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        Ok(self.top(1)?[0])
    }

    /// Takes the upper `n` values, down to the last mark.
    fn top(&mut self, n: usize) -> Result<Vec<Id>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(height) if height >= floor => Ok(self.stack.split_off(height)),
            _ => self.error("the stack is empty"),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => self.error("there is no mark"),
        }
    }

    /// The value on top, which stays there.
    fn last(&mut self) -> Result<Id> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    fn put(&mut self, key: u32) -> Result<()> {
        self.room()?;
        let id = self.last()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        match self.memo.get(&key) {
            Some(&id) => {
                self.room()?;
                self.stack.push(id);
                Ok(())
            }
            None => self.error("the memo has no such entry"),
        }
    }

    // Values.

    fn long(&mut self) -> Result<()> {
        let n = usize::from(self.byte()?);
        if n > 8 {
            return self.error("an integer has more than 64 bits");
        }
        let bytes = self.take(n)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut full = [if negative { 0xff } else { 0 }; 8];
        full[..n].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(full)))
    }

    fn string(&mut self, n: usize) -> Result<()> {
        let text = self.text(n)?;
        self.push(Value::Str(text))
    }

    fn tuple(&mut self, n: usize) -> Result<()> {
        let items = self.top(n)?;
        self.push_tuple(items)
    }

    fn push_tuple(&mut self, items: Vec<Id>) -> Result<()> {
        self.items += items.len();
        self.push(Value::Tuple(items))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let list = self.last()?;
        self.items += items.len();
        self.room()?;
        match &mut self.arena[list] {
            Value::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => self.error("it appends to something that is no list"),
        }
    }

    fn set(&mut self, items: Vec<Id>) -> Result<()> {
        let dict = self.last()?;
        if !items.len().is_multiple_of(2) {
            return self.error("a key has no value");
        }
        self.items += items.len();
        self.room()?;
        match &mut self.arena[dict] {
            Value::Dict(pairs) => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => self.error("it sets items of something that is no dict"),
        }
    }

    fn global(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.look_up(&format!("{module}.{name}"))
    }

    fn stack_global(&mut self) -> Result<()> {
        let pair = self.top(2)?;
        match (&self.arena[pair[0]], &self.arena[pair[1]]) {
            (Value::Str(module), Value::Str(name)) => {
                let name = format!("{module}.{name}");
                self.look_up(&name)
            }
            _ => self.error("a name is no string"),
        }
    }

    fn look_up(&mut self, name: &str) -> Result<()> {
        match Global::named(name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(Error::ForbiddenGlobal { name: name.chars().take(200).collect(), offset: self.start }),
        }
    }

    /// `("storage", type, key, device, length)`: what PyTorch's pickles call persistent.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let Value::Tuple(parts) = &self.arena[id] else { return self.error("a persistent id is no tuple") };
        let parts: Vec<&Value> = parts.iter().map(|&part| &self.arena[part]).collect();
        match parts[..] {
            [Value::Str(kind), Value::Global(Global::Storage(dtype)), Value::Str(key), Value::Str(_), Value::Int(len)]
                // PyTorch numbers its keys; the bound keeps copies of a long one from adding up.
                if kind == "storage" && key.len() <= 64 && *len >= 0 =>
            {
                let storage = Storage { dtype: *dtype, key: key.clone(), len: *len as usize };
                self.push(Value::Storage(storage))
            }
            _ => self.error("a persistent id is no storage"),
        }
    }

    /// The calls that we know, done without Python.
    fn reduce(&mut self) -> Result<()> {
        let pair = self.top(2)?;
        let (Value::Global(callable), Value::Tuple(args)) = (&self.arena[pair[0]], &self.arena[pair[1]]) else {
            return self.error("it calls something that is no function");
        };
        match (callable, &args[..]) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Global::RebuildParameter, &[data, ..]) if matches!(self.arena[data], Value::Tensor(_)) => {
                self.stack.push(data);
                Ok(())
            }
            (Global::RebuildTensor, &[storage, offset, shape, stride, ..]) => {
                match self.tensor(storage, offset, shape, stride) {
                    Some(tensor) => self.push(Value::Tensor(tensor)),
                    None => self.error("a tensor has arguments of the wrong kinds"),
                }
            }
            _ => self.error("a call has arguments of the wrong kinds"),
        }
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, stride: Id) -> Option<TensorRef> {
        let Value::Storage(storage) = &self.arena[storage] else { return None };
        Some(TensorRef {
            storage: storage.clone(),
            offset: self.size(offset)?,
            shape: self.sizes(shape)?,
            stride: self.sizes(stride)?,
        })
    }

    fn size(&self, id: Id) -> Option<usize> {
        match self.arena[id] {
            Value::Int(n) => n.try_into().ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        match &self.arena[id] {
            // No layer has more dimensions; the bound keeps repeated references to one long tuple linear.
            Value::Tuple(items) if items.len() <= 8 => items.iter().map(|&item| self.size(item)).collect(),
            _ => None,
        }
    }

    /// Objects of a class; of the known ones nothing is needed.
    fn new_object(&mut self) -> Result<()> {
        let pair = self.top(2)?;
        match self.arena[pair[0]] {
            Value::Global(Global::FastcoreList) => self.push(Value::Opaque),
            _ => self.error("it makes an object of something that is no class"),
        }
    }

    /// Attributes set on a dict (PyTorch's `_metadata`) are dropped; no tensor may have a state.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let object = self.last()?;
        match self.arena[object] {
            Value::Dict(_) | Value::Opaque => Ok(()),
            _ => self.error("it sets the state of something that has none"),
        }
    }
}

#[cfg(test)]
#[path = "pickle/tests.rs"]
mod tests;
