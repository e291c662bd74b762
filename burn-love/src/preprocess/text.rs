//! Sentences: token ids of a fixed count.

use tokenizers::{Encoding, Tokenizer as Inner};

use super::PreprocessError;
use crate::encoders::{TextConfig, TextKind};

/// What texts are padded with, in RoBERTa and in CLIP, whose closing token serves. Masks say where padding is, not ids.
const PADDING: [&str; 2] = ["<pad>", "<|endoftext|>"];

/// Rows of an embedding are rounded up to at most this; a tokenizer that leaves as many unused is another model's.
const SPARE_ROWS: usize = 128;

/// A tokenizer of the `tokenizers` library with RoBERTa's or CLIP's special tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Inner,
    padding_id: u32,
}

/// The ids of one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids, padded at the end.
    pub ids: Vec<u32>,
    /// How many of them are not padding.
    pub length: usize,
    /// Tokens of the whole sentence, more than `length` if it was cut.
    pub full_length: usize,
}

impl Tokens {
    /// Whether the sentence lost its end.
    pub fn truncated(&self) -> bool {
        self.full_length > self.length
    }
}

impl Tokenizer {
    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// If it cannot be parsed or has no token to pad with: neither `<pad>` nor `<|endoftext|>`.
    pub fn from_json(content: &[u8]) -> Result<Self, PreprocessError> {
        let mut inner =
            Inner::from_bytes(content).map_err(|error| PreprocessError::Tokenizer(error.to_string()))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| PreprocessError::Tokenizer(error.to_string()))?;
        let padding_id = PADDING
            .iter()
            .find_map(|token| inner.token_to_id(token))
            .ok_or_else(|| PreprocessError::Tokenizer("neither `<pad>` nor `<|endoftext|>`".into()))?;
        Ok(Self { inner, padding_id })
    }

    /// Ids in use: the largest one plus one.
    pub fn vocabulary(&self) -> usize {
        self.inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |id| *id as usize + 1)
    }

    /// The id that stands for a word to guess, `<mask>`, if there is one.
    pub fn mask_id(&self) -> Option<u32> {
        self.inner.token_to_id("<mask>")
    }

    /// Checks that the ids are those of a text encoder: their number, and where the special tokens are.
    ///
    /// # Errors
    /// If they are not.
    pub fn check_fit(&self, encoder: &TextConfig) -> Result<(), PreprocessError> {
        let (found, most) = (self.vocabulary(), encoder.vocabulary);
        let least = most.saturating_sub(SPARE_ROWS - 1);
        if !(least..=most).contains(&found) {
            return Err(PreprocessError::Vocabulary { least, most, found });
        }
        let special: &[(&str, usize)] = match encoder.kind {
            TextKind::Roberta => &[("<s>", 0), ("<pad>", 1), ("</s>", 2)],
            TextKind::Clip => &[
                ("<|startoftext|>", most.saturating_sub(2)),
                ("<|endoftext|>", most.saturating_sub(1)),
            ],
        };
        for &(token, expected) in special {
            let found = self.inner.token_to_id(token);
            if found.map(|id| id as usize) != Some(expected) {
                return Err(PreprocessError::SpecialToken {
                    token,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Tokenizes one sentence to exactly `max_tokens` ids, special tokens included.
    ///
    /// A longer sentence is cut in front of its closing token; [`Tokens::truncated`] says so.
    ///
    /// # Errors
    /// If the text is empty or white space.
    pub fn encode(&self, text: &str, max_tokens: usize) -> Result<Tokens, PreprocessError> {
        if text.trim().is_empty() {
            return Err(PreprocessError::EmptyText);
        }
        let encoding: Encoding = self
            .inner
            .encode(text, true)
            .map_err(|error| PreprocessError::Tokenizer(error.to_string()))?;
        let mut ids = encoding.get_ids().to_vec();
        let full_length = ids.len();
        if full_length > max_tokens
            && let Some(last) = ids.pop()
        {
            ids.truncate(max_tokens.saturating_sub(1));
            ids.push(last);
        }
        let length = ids.len();
        ids.resize(max_tokens.max(length), self.padding_id);
        Ok(Tokens {
            ids,
            length,
            full_length,
        })
    }
}
