//! `encode --model onnx`: the graphs that the program was built with, against burn-love's own encoders with the same
//! weights, on the inputs that the program made.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use burn::{module::Module, prelude::*};
use burn_flex::Flex;
use burn_love::{
    encoders::{
        AudioEncoder, TextConfig, TextEncoder, TokenBatch, VggishConfig, VisionConfig, VisionEncoder,
    },
    weights::{TensorSource, WeightsFile, keys, load_state},
};

/// Largest difference, relative to the largest value.
const BOUND: f32 = 1e-4;

fn encode(what: &str, input: &str, more: &[&str]) -> Output {
    let arguments = [
        "encode", what, "--model", "onnx", "--device", "cpu", "--input", input,
    ];
    Command::new(env!("CARGO_BIN_EXE_burn-love-cli"))
        .args(arguments)
        .args(more)
        .output()
        .expect("the program starts")
}

/// What the program wrote.
fn encoded(what: &str, input: &Path, folder: &Path, more: &[&str]) -> WeightsFile {
    let tensors = folder.join(format!("{what}.safetensors"));
    let tensors_text = tensors.to_str().expect("temporary paths are UTF-8");
    let more = [&["--tensors", tensors_text], more].concat();
    let ended = encode(what, input.to_str().expect("temporary paths are UTF-8"), &more);
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    WeightsFile::open(&tensors).expect("safetensors")
}

fn tensor<const D: usize>(file: &WeightsFile, name: &str) -> Tensor<Flex, D> {
    Tensor::from_data(file.read(name).expect("a tensor"), &Default::default())
}

/// A native encoder with a graph's weights.
fn native<M: Module<Flex>>(graph: &str, module: M, key: fn(&str) -> String) -> M {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/fixtures");
    let path = folder.join(format!("{graph}.weights.safetensors"));
    let (module, report) = load_state(module, &WeightsFile::open(&path).unwrap(), key, &path).unwrap();
    report.complete(&path).unwrap();
    module
}

#[track_caller]
fn assert_close<const D: usize>(actual: Tensor<Flex, D>, expected: Tensor<Flex, D>) {
    assert_eq!(actual.dims(), expected.dims());
    let scale = expected.clone().abs().max().into_scalar();
    let error = (actual - expected).abs().max().into_scalar() / scale;
    assert!(error <= BOUND, "relative error {error:.1e}");
}

fn sound(folder: &Path) -> PathBuf {
    let path = folder.join("sound.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for i in 0..48_000i32 {
        writer.write_sample((i * i % 7919) as i16).unwrap();
    }
    writer.finalize().unwrap();
    path
}

#[test]
fn sounds_are_heard_as_by_the_native_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let file = encoded("audio", &sound(folder.path()), folder.path(), &[]);
    let config = VggishConfig {
        channels: [4, 6, 8, 12],
        hidden: 24,
        embedding: 16,
        last_relu: false,
        postprocess: false,
    };
    let own = native("vggish", config.init(&Default::default()), keys::vggish);
    assert_close(
        tensor::<2>(&file, "embedding"),
        own.encode_audio(tensor(&file, "log_mel")),
    );
}

#[test]
fn pictures_are_seen_as_by_the_native_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    image::RgbImage::from_fn(50, 40, |x, y| {
        image::Rgb([(5 * x) as u8, (6 * y) as u8, (x * y) as u8])
    })
    .save(&path)
    .unwrap();
    let file = encoded("image", &path, folder.path(), &[]);
    let config = VisionConfig {
        image_size: 32,
        patch_size: 8,
        width: 32,
        layers: 2,
        heads: 4,
        mlp_width: 64,
        ..VisionConfig::base_16()
    };
    let own = native("vit", config.init::<Flex>(&Default::default()), keys::vision);
    let pixels: Tensor<Flex, 3> = tensor(&file, "pixel_values");
    let expected = own.encode_image(pixels.unsqueeze()).hidden();
    assert_close(tensor::<2>(&file, "last_hidden_state").unsqueeze(), expected);
}

/// A tokenizer of so many words, within or beyond the graph's 64 ids.
fn tokenizer(folder: &Path, words: usize) -> PathBuf {
    let special = ["<s>", "<pad>", "</s>", "<unk>"].map(str::to_owned);
    let words = (0..words).map(|i| format!("w{i}"));
    let vocabulary: serde_json::Map<_, _> = special
        .into_iter()
        .chain(words)
        .enumerate()
        .map(|(id, word)| (word, id.into()))
        .collect();
    let json = serde_json::json!({
        "version": "1.0",
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
                           "trim_offsets": true, "add_prefix_space": false},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    });
    let path = folder.join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    path
}

#[test]
fn sentences_are_read_as_by_the_native_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokenizer(folder.path(), 40);
    let more = ["--tokenizer", tokens.to_str().unwrap()];
    let file = encoded("text", Path::new("w3 w0 w39 w7"), folder.path(), &more);
    let config = TextConfig {
        vocabulary: 64,
        positions: 27,
        width: 32,
        layers: 2,
        heads: 4,
        mlp_width: 64,
        ..TextConfig::distilroberta()
    };
    let own = native(
        "distilroberta",
        config.init::<Flex>(&Default::default()),
        keys::text,
    );
    let open = |name: &str| {
        let bytes = std::fs::read(folder.path().join("text.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor(name).unwrap();
        view.data()
            .chunks_exact(8)
            .map(|id| i64::from_le_bytes(id.try_into().unwrap()))
            .collect::<Vec<i64>>()
    };
    let (ids, mask) = (open("input_ids"), open("attention_mask"));
    assert_eq!((ids.len(), &ids[..6]), (25, [0, 7, 4, 43, 11, 2].as_slice()));
    let device = Default::default();
    let padding: Vec<bool> = mask.iter().map(|kept| *kept == 0).collect();
    let expected = own.encode_text(TokenBatch {
        input_ids: Tensor::from_data(TensorData::new(ids, [1, 25]), &device),
        padding: Tensor::from_data(TensorData::new(padding, [1, 25]), &device),
    });
    // Outputs at padding have no meaning.
    let found: Tensor<Flex, 3> = tensor::<2>(&file, "last_hidden_state").unsqueeze();
    assert_close(found.narrow(1, 0, 6), expected.narrow(1, 0, 6));
}

#[test]
fn what_does_not_fit_the_graph_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let out = ["--tensors", out.to_str().unwrap()];
    let tokens = tokenizer(folder.path(), 61);
    let more = [&out[..], &["--tokenizer", tokens.to_str().unwrap()]].concat();
    let cases = [
        (
            encode("text", "w3", &more),
            "expected a tokenizer of at most 64 ids, found 65",
        ),
        (encode("text", "w3", &out), "expected --tokenizer, found none"),
        (
            encode(
                "audio",
                "sound.wav",
                &[&out[..], &["--weights", "vggish.pth"]].concat(),
            ),
            "expected none, because a graph has its own",
        ),
    ];
    for (ended, words) in cases {
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{told}");
        assert!(told.contains(words) && told.contains("\nhint: "), "{told}");
    }
}
