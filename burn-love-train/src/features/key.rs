//! Names of what is kept: whose weights, and of what content.

use std::fmt;

use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
};
use burn_love::ops::product_precision;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Changes whenever the same files and weights give other features than before.
const VERSION: &str = "burn-love features 1";

/// A part of the model whose features can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The audio encoder.
    Audio,
    /// The vision encoder.
    Vision,
    /// The text encoder.
    Text,
    /// SAM 2's image encoder.
    Sam2,
}

impl Part {
    /// What its folders are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Vision => "vision",
            Self::Text => "text",
            Self::Sam2 => "sam2",
        }
    }

    /// Names and ranks of its tensors, in the order of their types' fields.
    pub(super) fn tensors(self) -> &'static [(&'static str, usize)] {
        match self {
            Self::Audio => &[("embedding", 3)],
            Self::Vision => &[("patches", 4), ("cls", 3)],
            Self::Text => &[("last_hidden_state", 3)],
            Self::Sam2 => &[("stride4", 4), ("stride8", 4), ("stride16", 4)],
        }
    }
}

/// SHA-256 of a part's weights and config and of the backend that runs it.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl Fingerprint {
    /// Reads all parameters of a module once.
    pub fn of<B: Backend, M: Module<B>>(module: &M, config: &impl Serialize, device: &B::Device) -> Self {
        struct Values(Content);
        impl<B: Backend> ModuleVisitor<B> for Values {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
                let data = param.val().into_data();
                for size in data.shape.iter() {
                    self.0.number(*size);
                }
                self.0.bytes(data.as_bytes());
            }
        }
        let mut values = Values(Content::new());
        let name = B::name(device);
        values.0.bytes(name.as_bytes());
        // CPUs multiply in f32 alone.
        if name != "flex" {
            values.0.bytes(format!("{:?}", product_precision()).as_bytes());
        }
        let config = serde_json::to_vec(config).expect("configs are plain values");
        values.0.bytes(&config);
        module.visit(&mut values);
        Self(values.0.finish())
    }

    /// Its first digits, as folders have them.
    pub fn short(&self) -> &str {
        &self.0[..16]
    }
}

/// SHA-256 of an input's content, piece by piece.
pub(super) struct Content(Sha256);

impl Content {
    pub fn new() -> Self {
        let mut content = Self(Sha256::new());
        content.bytes(VERSION.as_bytes());
        content
    }

    /// Adds bytes, and how many they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    pub fn number(&mut self, number: usize) {
        self.0.update((number as u64).to_le_bytes());
    }

    /// In hexadecimal.
    pub fn finish(self) -> String {
        self.0
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The name of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(super) part: Part,
    pub(super) weights: Fingerprint,
    pub(super) input: String,
}

impl Key {
    /// Where it lies below the cache's folder.
    pub(super) fn path(&self) -> String {
        let (part, weights, input) = (self.part.name(), self.weights.short(), &self.input);
        format!("{part}-{weights}/{}/{input}.safetensors", &input[..2])
    }

    /// The whole name, as the file itself has it.
    pub(super) fn whole(&self) -> String {
        format!("{}/{}/{}", self.part.name(), self.weights.0, self.input)
    }
}
