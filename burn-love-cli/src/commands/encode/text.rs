//! `encode text`: token ids and the hidden state of RoBERTa or of CLIP's text tower.

use std::path::Path;

use burn::prelude::*;
use burn_love::{
    encoders::{TextConfig, TextEncoder},
    preprocess::{Tokenizer, Tokens},
    weights::{EncoderFile, State, keys},
};
use burn_love_train::samples::{nano_tokenizer, token_batch};

use super::{Origin, finish, prepare, read, values};
use crate::{
    args::{EncodeArgs, Global},
    device::with_backend,
    error::CliError,
    printer,
};

/// Runs `encode text`.
pub fn run(args: &EncodeArgs, global: &Global) -> Result<(), CliError> {
    let origin = Origin::of(args)?;
    let config = config(args, &origin);
    let tokens = tokens(args, &config)?;
    if tokens.truncated() {
        printer::note(format_args!(
            "cut to {} of {} tokens",
            tokens.length, tokens.full_length
        ));
    }
    prepare(args, global)?;
    let device = global.probe()?;
    let state = with_backend!(device, |B, at| {
        encode(&*encoder::<B>(&config, &origin, &at)?, &tokens, &at)
    });
    finish(args, state)
}

fn tokens(args: &EncodeArgs, config: &TextConfig) -> Result<Tokens, CliError> {
    let nano = ["nano", "clip-nano"].contains(&args.model.as_str());
    let (name, content) = match &args.tokenizer {
        Some(path) => (path.display().to_string(), read(path)?),
        None if nano => (
            "the embedded tokenizer".into(),
            nano_tokenizer(config.kind).to_vec(),
        ),
        None => {
            return Err(
                CliError::input(format!("{}: expected --tokenizer, found none", args.model))
                    .hint("give the tokenizer.json that is published with the weights"),
            );
        }
    };
    let tokenizer = Tokenizer::from_json(&content)
        .and_then(|tokenizer| tokenizer.check_fit(config).map(|()| tokenizer))
        .map_err(|error| CliError::input(format!("{name}: {error}")).hint(error.hint()))?;
    let path = Path::new(&args.input);
    let text = if path.is_file() {
        String::from_utf8(read(path)?)
            .map_err(|_| CliError::input(format!("{}: expected UTF-8, found other bytes", path.display())))?
    } else {
        args.input.clone()
    };
    tokenizer
        .encode(text.trim_end_matches(['\r', '\n']), config.max_tokens)
        .map_err(|error| {
            CliError::input(format!("--input \"{}\": {error}", args.input))
                .hint("give a sentence, or a file that holds one")
        })
}

/// The preset's sizes, or the graph's.
fn config(args: &EncodeArgs, origin: &Origin<'_>) -> TextConfig {
    match origin {
        Origin::File(_) => TextConfig::preset(&args.model).expect("the name was checked when it was parsed"),
        #[cfg(feature = "onnx")]
        Origin::Graph => TextConfig {
            vocabulary: burn_love_onnx::TEXT_VOCABULARY,
            max_tokens: burn_love_onnx::TEXT_TOKENS,
            ..TextConfig::distilroberta()
        },
    }
}

fn encoder<B: Backend>(
    config: &TextConfig,
    origin: &Origin<'_>,
    device: &B::Device,
) -> Result<Box<dyn TextEncoder<B>>, CliError> {
    match origin {
        Origin::File(path) => {
            let file = EncoderFile::open(path, config.kind.into())?;
            let (model, _) = file.load_into(config.init::<B>(device), keys::text)?;
            Ok(Box::new(model))
        }
        #[cfg(feature = "onnx")]
        Origin::Graph => Ok(Box::new(burn_love_onnx::OnnxText::new(device))),
    }
}

fn encode<B: Backend>(model: &dyn TextEncoder<B>, tokens: &Tokens, device: &B::Device) -> State {
    let l = tokens.ids.len();
    let ids: Vec<i64> = tokens.ids.iter().map(|id| i64::from(*id)).collect();
    let mask: Vec<i64> = (0..l).map(|i| i64::from(i < tokens.length)).collect();
    let hidden = model.encode_text(token_batch(&[tokens], device));
    let [_, _, d] = hidden.dims();
    State::from([
        ("input_ids".into(), TensorData::new(ids, [l])),
        ("attention_mask".into(), TensorData::new(mask, [l])),
        ("last_hidden_state".into(), values(hidden, [l, d])),
    ])
}
