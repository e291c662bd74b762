//! Trains the embedded tokenizer: byte-level BPE of at most 512 ids on a data set's expressions.
//!
//! `cargo run --release -p burn-love-train --example nano_tokenizer -- DATA assets/nano-tokenizer.json`

use std::{collections::BTreeSet, path::Path};

use burn_love_train::data::{RefAvs, Split};
use tokenizers::{
    AddedToken, TokenizerBuilder,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainerBuilder},
    },
    pre_tokenizers::byte_level::ByteLevel,
    processors::roberta::RobertaProcessing,
};

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, out] = arguments.as_slice() else {
        return Err("expected DATA and OUT".into());
    };
    let data = RefAvs::open(Path::new(data))?;
    let expressions: BTreeSet<&str> = data
        .split(Split::Train)
        .into_iter()
        .map(|row| row.expression.as_str())
        .collect();
    // RoBERTa's order: `<pad>` is 1.
    let special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"].map(|token| AddedToken::from(token, true));
    let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
        .vocab_size(512)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.to_vec())
        .build()
        .into();
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(tokenizers::ModelWrapper::BPE(BPE::default()))
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(tokenizers::PreTokenizerWrapper::from(
            ByteLevel::default().add_prefix_space(true),
        )))
        .with_post_processor(Some(tokenizers::PostProcessorWrapper::from(
            RobertaProcessing::new(("</s>".into(), 2), ("<s>".into(), 0)),
        )))
        .with_decoder(Some(tokenizers::DecoderWrapper::from(ByteLevel::default())))
        .build()?;
    tokenizer.train(&mut trainer, expressions.into_iter().map(str::to_owned))?;
    tokenizer.save(out, false)?;
    Ok(())
}
