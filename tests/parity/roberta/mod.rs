//! RoBERTa against Hugging Face's: texts of different lengths in one batch.

use burn::prelude::*;
use burn_love::encoders::{TextConfig, TextKind};
use burn_love_tests::Fixture;

use crate::{
    Cpu, MODULE,
    encoders::{beside, check_texts, load_text},
    report,
};

#[test]
fn both_kinds_of_files_agree() {
    check::<Cpu>(&Default::default(), MODULE);
}

/// Compares the hidden states of the weights in both kinds of files.
pub fn check<B: Backend>(device: &B::Device, bound: f64) {
    let config = TextConfig {
        kind: TextKind::Roberta,
        vocabulary: 60,
        max_tokens: 12,
        positions: 20,
        width: 32,
        layers: 3,
        heads: 4,
        mlp_width: 48,
    };
    let fixture = Fixture::load("roberta");
    // The head of the language model; the pooler and the numbers of positions.
    for (name, ignored) in [("weights.safetensors", 5), ("weights.pt", 3)] {
        let model = load_text::<B>(&config, &beside("roberta", name), ignored, device);
        let error = check_texts(&fixture, "hidden", &model, device, bound);
        report(&format!("roberta, {name}"), &[error]);
    }
}
