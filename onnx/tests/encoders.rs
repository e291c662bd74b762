//! The generated encoders against burn-love's own with the same weights, and against onnxruntime.

use std::path::{Path, PathBuf};

use burn::{module::Module, prelude::*};
use burn_flex::Flex;
use burn_love::{
    encoders::{
        AudioEncoder, TextConfig, TextEncoder, TextKind, TokenBatch, VggishConfig, VisionConfig,
        VisionEncoder, VisionKind,
    },
    fusion::{FusionConfig, FusionInputWidths},
    love::{ClipInput, encode},
    weights::{WeightsFile, keys, load_state},
};
use burn_love_onnx::{OnnxAudio, OnnxText, OnnxVision, TEXT_TOKENS, TEXT_VOCABULARY, VISION_SIDE};
use safetensors::SafeTensors;

/// Largest difference, relative to the largest value.
const BOUND: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join("fixtures")
        .join(name)
}

/// A tensor that `export.py` recorded.
fn recorded<const D: usize>(graph: &str, name: &str) -> Tensor<Flex, D> {
    let bytes = std::fs::read(fixture(&format!("{graph}.recorded.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let words = view.data().chunks_exact(4);
    let values: Vec<f32> = words
        .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    Tensor::from_data(
        TensorData::new(values, view.shape().to_vec()),
        &Default::default(),
    )
}

/// A native encoder with the graph's weights.
fn native<M: Module<Flex>>(graph: &str, module: M, key: fn(&str) -> String) -> M {
    let path = fixture(&format!("{graph}.weights.safetensors"));
    let file = WeightsFile::open(&path).unwrap();
    let (module, report) = load_state(module, &file, key, &path).unwrap();
    report.complete(&path).unwrap();
    module
}

#[track_caller]
fn assert_close<const D: usize>(what: &str, actual: Tensor<Flex, D>, expected: Tensor<Flex, D>) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let scale = expected.clone().abs().max().into_scalar();
    let error = (actual - expected).abs().max().into_scalar() / scale;
    // Not a number is not within the bound either.
    assert!(error <= BOUND, "{what}: relative error {error:.1e}");
    use std::io::Write;
    // Lost output is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{what}: relative error {error:.1e}");
}

/// Sizes of the committed graph.
fn audio_config() -> VggishConfig {
    VggishConfig {
        channels: [4, 6, 8, 12],
        hidden: 24,
        embedding: 16,
        last_relu: false,
        postprocess: false,
    }
}

/// Sizes of the committed graph.
fn vision_config() -> VisionConfig {
    VisionConfig {
        kind: VisionKind::Vit,
        image_size: 32,
        patch_size: 8,
        width: 32,
        layers: 2,
        heads: 4,
        mlp_width: 64,
        epsilon: 1e-12,
    }
}

/// Sizes of the committed graph.
fn text_config() -> TextConfig {
    TextConfig {
        kind: TextKind::Roberta,
        vocabulary: 64,
        max_tokens: 25,
        positions: 27,
        width: 32,
        layers: 2,
        heads: 4,
        mlp_width: 64,
    }
}

#[test]
fn sizes_are_the_graphs_own() {
    assert_eq!((VISION_SIDE, TEXT_TOKENS, TEXT_VOCABULARY), (32, 25, 64));
}

#[test]
fn audio_agrees() {
    let device = Default::default();
    let log_mel = recorded("vggish", "log_mel");
    let found = OnnxAudio::<Flex>::new(&device).encode_audio(log_mel.clone());
    let own = native("vggish", audio_config().init(&device), keys::vggish).encode_audio(log_mel.clone());
    assert_close(
        "audio, onnxruntime",
        found.clone(),
        recorded("vggish", "embedding"),
    );
    assert_close("audio, native", found.clone(), own);
    let one = OnnxAudio::<Flex>::new(&device).encode_audio(log_mel.clone().narrow(0, 2, 1));
    assert_close("audio, another batch size", one, found.clone().narrow(0, 2, 1));
    // More than are embedded at a time.
    let many = OnnxAudio::<Flex>::new(&device).encode_audio(log_mel.repeat_dim(0, 30));
    assert_close("audio, 90 examples", many, found.repeat_dim(0, 30));
}

#[test]
fn vision_agrees() {
    let device = Default::default();
    let pixels = recorded("vit", "pixel_values");
    let found = OnnxVision::<Flex>::new(&device).encode_image(pixels.clone());
    let own = native("vit", vision_config().init(&device), keys::vision).encode_image(pixels);
    let hidden = Tensor::cat(vec![found.cls.clone().unsqueeze_dim(1), found.patches.clone()], 1);
    assert_close(
        "vision, onnxruntime",
        hidden,
        recorded::<3>("vit", "last_hidden_state"),
    );
    assert_close("vision, native patches", found.patches, own.patches);
    assert_close("vision, native [cls]", found.cls, own.cls);
}

/// Outputs at padding have no meaning.
#[test]
fn text_agrees() {
    let device = Default::default();
    let padding = recorded::<2>("distilroberta", "attention_mask").equal_elem(0.0);
    let tokens = TokenBatch {
        input_ids: recorded::<2>("distilroberta", "input_ids").int(),
        padding: padding.clone(),
    };
    let found = OnnxText::<Flex>::new(&device).encode_text(tokens.clone());
    let own = native("distilroberta", text_config().init(&device), keys::text).encode_text(tokens);
    let text = |x: Tensor<Flex, 3>| {
        let mask = padding.clone().unsqueeze_dim::<3>(2).expand(x.dims());
        x.mask_fill(mask, 0.0)
    };
    let expected = recorded("distilroberta", "last_hidden_state");
    assert_close("text, onnxruntime", text(found.clone()), text(expected));
    assert_close("text, native", text(found), text(own));
}

/// What a program of one's own does: encoders of graphs, and burn-love's fusion behind them.
#[test]
fn a_clip_becomes_the_same_prompt() {
    let device = Default::default();
    let (frames, tokens) = (3, recorded::<2>("distilroberta", "input_ids").narrow(0, 1, 1));
    let padding = recorded::<2>("distilroberta", "attention_mask")
        .narrow(0, 1, 1)
        .equal_elem(0.0);
    let clip = ClipInput {
        log_mel: recorded::<3>("vggish", "log_mel").unsqueeze(),
        vit_pixels: recorded::<4>("vit", "pixel_values").unsqueeze(),
        tokens: TokenBatch {
            input_ids: tokens.int(),
            padding,
        },
    };
    let own = (
        native("vggish", audio_config().init::<Flex>(&device), keys::vggish),
        native("vit", vision_config().init::<Flex>(&device), keys::vision),
        native("distilroberta", text_config().init::<Flex>(&device), keys::text),
    );
    let expected = encode(&own.0, &own.1, &own.2, clip.clone());
    let (audio, vision, text) = (
        OnnxAudio::new(&device),
        OnnxVision::new(&device),
        OnnxText::new(&device),
    );
    let found = encode(&audio, &vision, &text, clip);
    assert_eq!(found.patches.dims(), [1, frames, 16, 32]);
    let config = FusionConfig {
        width: 32,
        projection_width: 24,
        ..FusionConfig::nano()
    };
    let widths = FusionInputWidths {
        audio: 16,
        text: 32,
        vision: 32,
        prompt: 24,
    };
    let fusion = config.init::<Flex>(&widths, &device);
    let prompt = fusion.forward(found);
    assert_eq!(prompt.dims(), [1, 1, 24]);
    assert_close("prompt", prompt, fusion.forward(expected));
}
