//! CLIP's towers, image processor and tokenizer against Hugging Face's.

use burn::prelude::*;
use burn_love::{
    encoders::{TextConfig, TextKind, VisionConfig},
    preprocess::{Tokenizer, vision_pixels},
};
use burn_love_tests::Fixture;
use serde_json::Value;

use crate::{
    Cpu, MODULE,
    encoders::{beside, check_images, check_pixels, check_texts, load_text, load_vision},
    report, vit,
};

fn vision() -> VisionConfig {
    vit::config().to_clip()
}

/// Tensors of the small model that are in no tower: two projections and the scale.
const OUTSIDE: usize = 3;

/// Tensors of three blocks.
const BLOCKS: usize = 3 * 16;

#[test]
fn the_vision_tower_agrees() {
    check_vision::<Cpu>(&Default::default(), MODULE);
}

/// Compares the vision tower's hidden states of the weights in both kinds of files.
pub fn check_vision<B: Backend>(device: &B::Device, bound: f64) {
    let fixture = Fixture::load("clip");
    // `post_layernorm`, and the text tower with its embeddings and last norm; then both buffers.
    let ignored = OUTSIDE + 2 + BLOCKS + 4;
    for (name, ignored) in [("weights.safetensors", ignored), ("weights.pt", ignored + 2)] {
        let model = load_vision::<B>(&vision(), &beside("clip", name), ignored, device);
        let errors = check_images(&fixture, "vision", &model, device, bound);
        report(&format!("clip's vision, {name}"), &errors);
    }
}

#[test]
fn the_text_tower_agrees() {
    check_text::<Cpu>(&Default::default(), MODULE);
}

/// Compares the text tower's hidden states of the weights in both kinds of files.
pub fn check_text<B: Backend>(device: &B::Device, bound: f64) {
    let config = TextConfig {
        kind: TextKind::Clip,
        vocabulary: 60,
        max_tokens: 12,
        positions: 16,
        width: 32,
        layers: 3,
        heads: 4,
        mlp_width: 48,
    };
    let fixture = Fixture::load("clip");
    // The vision tower with its embeddings and two norms; then both buffers.
    let ignored = OUTSIDE + BLOCKS + 7;
    for (name, ignored) in [("weights.safetensors", ignored), ("weights.pt", ignored + 2)] {
        let model = load_text::<B>(&config, &beside("clip", name), ignored, device);
        let error = check_texts(&fixture, "text", &model, device, bound);
        report(&format!("clip's text, {name}"), &[error]);
    }
}

#[test]
fn pixels_are_those_of_the_processor() {
    check_pixels(&Fixture::load("clip"), |picture| {
        vision_pixels(picture, &vision())
    });
}

#[test]
fn token_ids_are_those_of_the_fast_tokenizer() {
    let tokenizer = Tokenizer::from_json(include_bytes!("tokenizer.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(include_str!("tokens.json")).unwrap();
    for row in rows {
        let numbers = |key: &str| -> Vec<u32> { serde_json::from_value(row[key].clone()).unwrap() };
        let tokens = tokenizer.encode(row["text"].as_str().unwrap(), 20).unwrap();
        assert_eq!(tokens.ids, numbers("ids"), "{}", row["text"]);
        assert_eq!(tokens.length as u32, numbers("mask").iter().sum::<u32>());
    }
}
