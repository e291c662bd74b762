//! `encode`: what it writes is what the library computes, and bad input is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use burn::prelude::*;
use burn_flex::Flex;
use burn_love::{
    encoders::{TextConfig, TextEncoder, TokenBatch, VggishConfig, VisionConfig, VisionEncoder},
    preprocess::vision_pixels,
    weights::{State, TensorSource, WeightsFile, keys, state_of, write_safetensors},
};
use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Ended, cli, refused, text};

/// Files of small encoders, a picture and a sound.
struct Inputs {
    folder: TempDir,
}

impl Inputs {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Made once; not to be changed.
fn inputs() -> &'static Inputs {
    static INPUTS: OnceLock<Inputs> = OnceLock::new();
    INPUTS.get_or_init(|| {
        let inputs = Inputs {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let device = Default::default();
        Flex::seed(&device, 5);
        let save = |name: &str, state: State| write_safetensors(&inputs.path(name), &state, None).unwrap();
        let vggish = VggishConfig::nano().init::<Flex>(&device);
        save("vggish.safetensors", state_of(&vggish, keys::vggish));
        let vit = VisionConfig::nano().init::<Flex>(&device);
        let mut state: State = state_of(&vit, keys::vision)
            .into_iter()
            .map(|(key, data)| (format!("vit.{key}"), data))
            .collect();
        state.insert("classifier.bias".into(), TensorData::from([1f32, 2.0]));
        save("vit.safetensors", state);
        let roberta = TextConfig::nano().init::<Flex>(&device);
        save("roberta.safetensors", state_of(&roberta, keys::text));
        let mut clip = state_of(&nano_clip_text().init::<Flex>(&device), keys::text);
        let vision = VisionConfig::nano().to_clip().init::<Flex>(&device);
        clip.extend(state_of(&vision, keys::vision));
        clip.insert("logit_scale".into(), TensorData::from([1f32]));
        save("clip.safetensors", clip);

        let wave = |x: u32, y: u32| ((x as f32 * 0.3).sin() * (y as f32 * 0.2).cos() * 100.0 + 120.0) as u8;
        let picture = RgbImage::from_fn(130, 70, |x, y| Rgb([wave(x, y), wave(y, x), (x + y) as u8]));
        picture.save(inputs.path("image.png")).unwrap();
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut sound = hound::WavWriter::create(inputs.path("sound.wav"), spec).unwrap();
        for i in 0..32_000 {
            let sample = (f64::from(i) * 0.17).sin() * 9000.0;
            sound.write_sample(sample as i16).unwrap();
        }
        sound.finalize().unwrap();
        inputs
    })
}

fn nano_clip_text() -> TextConfig {
    TextConfig::preset("clip-nano").unwrap()
}

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets").join(name)
}

fn encode(what: &str, model: &str, weights: &str, input: &str, out: &Path, more: &[&str]) -> Ended {
    let weights = inputs().path(weights);
    let arguments = [
        "encode",
        what,
        "--model",
        model,
        "--weights",
        text(&weights),
        "--input",
        input,
        "--tensors",
        text(out),
        "--device",
        "cpu",
    ];
    cli(&[arguments.as_slice(), more].concat())
}

/// Tensors of floats that were written.
fn floats(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let data = WeightsFile::open(path).unwrap().read(name).unwrap();
    (data.shape.to_vec(), data.iter::<f32>().collect())
}

/// A tensor of integers that was written.
fn integers(path: &Path, name: &str) -> Vec<i64> {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header[name]["dtype"], "I64");
    let offset = |i: usize| 8 + length + header[name]["data_offsets"][i].as_u64().unwrap() as usize;
    bytes[offset(0)..offset(1)]
        .chunks_exact(8)
        .map(|word| i64::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

/// The largest difference, relative to the largest value.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    // f32::max drops NaN, which must not pass for agreement.
    assert!(found.iter().all(|x| x.is_finite()));
    let scale = expected
        .iter()
        .fold(f32::MIN_POSITIVE, |scale, x| scale.max(x.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max) / scale
}

fn model<M: Module<Flex>>(module: M, key: fn(&str) -> String, weights: &str, prefix: &str) -> M {
    let path = inputs().path(weights);
    let file = WeightsFile::open(&path).unwrap();
    let state: State = file
        .keys()
        .into_iter()
        .map(|name| {
            (
                name.strip_prefix(prefix).unwrap_or(name).to_owned(),
                file.read(name).unwrap(),
            )
        })
        .collect();
    burn_love::weights::load_state(module, &state, key, &path)
        .unwrap()
        .0
}

#[test]
fn images_become_the_hidden_state() {
    let folder = tempfile::tempdir().unwrap();
    let picture = image::open(inputs().path("image.png")).unwrap().to_rgb8();
    for (name, weights, prefix) in [
        ("nano", "vit.safetensors", "vit."),
        ("clip-nano", "clip.safetensors", ""),
    ] {
        let out = folder.path().join(format!("{name}.safetensors"));
        let image = inputs().path("image.png");
        let ended = encode("image", name, weights, text(&image), &out, &[]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let config = VisionConfig::preset(name).unwrap();
        let (shape, pixels) = floats(&out, "pixel_values");
        assert_eq!(shape, [3, 96, 96]);
        assert_eq!(pixels, vision_pixels(&picture, &config));
        let tower = model(
            config.init::<Flex>(&Default::default()),
            keys::vision,
            weights,
            prefix,
        );
        let pixels = Tensor::from_data(TensorData::new(pixels, [1, 3, 96, 96]), &Default::default());
        let expected: Vec<f32> = tower.encode_image(pixels).hidden().into_data().to_vec().unwrap();
        let (shape, found) = floats(&out, "last_hidden_state");
        assert_eq!(shape, [1 + config.patches(), 96]);
        assert!(error(&found, &expected) < 1e-6);
    }
}

#[test]
fn sentences_become_ids_and_the_hidden_state() {
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("sentence.txt");
    fs::write(&written, "the sounding star\n").unwrap();
    let tokenizer = asset("nano-clip-tokenizer.json");
    let with = ["--tokenizer", text(&tokenizer)];
    // With the ids of `<s>`, `</s>` and `<pad>`, and of what stands for them in CLIP.
    for (name, weights, input, more, [first, last, rest]) in [
        (
            "nano",
            "roberta.safetensors",
            "the sounding star",
            [].as_slice(),
            [0, 2, 1],
        ),
        (
            "clip-nano",
            "clip.safetensors",
            text(&written),
            with.as_slice(),
            [510, 511, 511],
        ),
    ] {
        let out = folder.path().join(format!("{name}.safetensors"));
        let ended = encode("text", name, weights, input, &out, more);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let (ids, mask) = (integers(&out, "input_ids"), integers(&out, "attention_mask"));
        let length = mask.iter().sum::<i64>() as usize;
        assert!((3..25).contains(&length) && mask[..length].iter().all(|kept| *kept == 1));
        assert!(ids[0] == first && ids[length - 1] == last && ids[length..].iter().all(|id| *id == rest));
        let tower = model(
            TextConfig::preset(name)
                .unwrap()
                .init::<Flex>(&Default::default()),
            keys::text,
            weights,
            "",
        );
        let padding: Vec<bool> = mask.iter().map(|kept| *kept == 0).collect();
        let expected = tower.encode_text(TokenBatch {
            input_ids: Tensor::from_data(TensorData::new(ids, [1, 25]), &Default::default()),
            padding: Tensor::from_data(TensorData::new(padding, [1, 25]), &Default::default()),
        });
        let expected: Vec<f32> = expected.into_data().to_vec().unwrap();
        let (shape, found) = floats(&out, "last_hidden_state");
        assert_eq!(shape, [25, 96]);
        assert!(error(&found, &expected) < 1e-6);
    }
}

#[test]
fn sounds_become_log_mel_and_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let sound = inputs().path("sound.wav");
    let ended = encode(
        "audio",
        "nano",
        "vggish.safetensors",
        text(&sound),
        &out,
        &["--json"],
    );
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["shapes"]["embedding"], serde_json::json!([2, 128]));
    let (shape, mel) = floats(&out, "log_mel");
    assert_eq!(shape, [2, 96, 64]);
    let vggish = model(
        VggishConfig::nano().init::<Flex>(&Default::default()),
        keys::vggish,
        "vggish.safetensors",
        "",
    );
    let mel = Tensor::from_data(TensorData::new(mel, [2, 96, 64]), &Default::default());
    let expected: Vec<f32> = vggish.forward(mel).into_data().to_vec().unwrap();
    assert!(error(&floats(&out, "embedding").1, &expected) < 1e-6);
}

#[test]
fn sounds_end_as_torchvggish_s_where_asked() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let mut config = VggishConfig::nano();
    config.postprocess = true;
    let whole = folder.path().join("whole.safetensors");
    let state = state_of(&config.init::<Flex>(&device), keys::vggish);
    write_safetensors(&whole, &state, None).unwrap();
    let sound = inputs().path("sound.wav");
    let heard = |weights: &Path, more: &[&str]| {
        let out = folder.path().join("out.safetensors");
        let ended = encode("audio", "nano", text(weights), text(&sound), &out, more);
        let _ = (ended.code == 0).then(|| assert!(out.exists()));
        let values = (ended.code == 0).then(|| floats(&out, "embedding").1);
        fs::remove_file(&out).ok();
        (ended, values)
    };
    let before = heard(&whole, &[]).1.unwrap();
    assert!(before.iter().any(|x| *x < 0.0));
    let after = heard(&whole, &["--last-relu"]).1.unwrap();
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before.max(0.0) == *after)
    );
    // The fresh post-processor whitens nothing: clipped to ±2 and quantised.
    let quantised = heard(&whole, &["--last-relu", "--postprocess"]).1.unwrap();
    let expected = after.iter().map(|x| ((x.min(2.0) + 2.0) * 63.75).round());
    assert!(
        quantised
            .iter()
            .zip(expected)
            .all(|(found, expected)| (found - expected).abs() <= 1.0)
    );
    assert!(quantised.iter().all(|x| x.fract() == 0.0));

    let plain = inputs().path("vggish.safetensors");
    let (ended, _) = heard(&plain, &["--last-relu", "--postprocess"]);
    refused(&ended, &["missing (`pproc.pca_eigen_vectors`"]);
    assert_eq!(heard(&whole, &["--postprocess"]).0.code, 2);

    // What is converted keeps its post-processor.
    let converted = folder.path().join("converted.safetensors");
    let ended = cli(&[
        "weights",
        "convert",
        "--model",
        "nano",
        text(&whole),
        text(&converted),
    ]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(
        heard(&converted, &["--last-relu", "--postprocess"]).1.unwrap(),
        quantised
    );
}

#[test]
fn texts_and_sounds_of_any_length_and_kind_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let words = folder.path().join("words.txt");
    fs::write(&words, "star ".repeat(10_000)).unwrap();
    let ended = encode(
        "text",
        "nano",
        "roberta.safetensors",
        text(&words),
        &out,
        &["--overwrite"],
    );
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("cut to 25 of 1"), "{}", ended.stderr);
    let ended = encode(
        "text",
        "nano",
        "roberta.safetensors",
        "the 🎻 left of it",
        &out,
        &["--overwrite"],
    );
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(integers(&out, "attention_mask").iter().sum::<i64>() > 4);

    let short = folder.path().join("short.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut sound = hound::WavWriter::create(&short, spec).unwrap();
    (0..160).for_each(|_| sound.write_sample(1000i16).unwrap());
    sound.finalize().unwrap();
    refused(
        &encode(
            "audio",
            "nano",
            "vggish.safetensors",
            text(&short),
            &out,
            &["--overwrite"],
        ),
        &["short.wav: expected at least 0.9", "found 0.01 s"],
    );

    // Tokenizers of other encoders: too few ids, and special tokens elsewhere.
    let (nano, clip) = (asset("nano-tokenizer.json"), asset("nano-clip-tokenizer.json"));
    let tokenize = |model: &str, weights: &str, tokenizer: &Path| {
        let with = ["--tokenizer", text(tokenizer), "--overwrite"];
        encode("text", model, weights, "a star", &out, &with)
    };
    refused(
        &tokenize("distilroberta", "roberta.safetensors", &nano),
        &[
            "nano-tokenizer.json: expected a tokenizer of at least 50138 ids, found 388",
            "hint:",
        ],
    );
    refused(
        &tokenize("nano", "roberta.safetensors", &clip),
        &[
            "nano-clip-tokenizer.json: expected the token `<s>` with the id 0, found none",
            "hint:",
        ],
    );
    refused(
        &tokenize("clip-nano", "clip.safetensors", &nano),
        &["expected the token `<|startoftext|>` with the id 510", "hint:"],
    );
}

#[test]
fn bad_input_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let (image, sound) = (inputs().path("image.png"), inputs().path("sound.wav"));
    let (image, sound) = (text(&image), text(&sound));
    let refuse = |ended: Ended, words: &[&str]| {
        refused(&ended, words);
        assert!(!out.exists());
    };
    refuse(
        encode("image", "nano", "vit.safetensors", sound, &out, &[]),
        &["sound.wav: expected a picture"],
    );
    refuse(
        encode("audio", "nano", "vggish.safetensors", image, &out, &[]),
        &["image.png: expected a WAV file", "hint:"],
    );
    refuse(
        encode("image", "nano", "roberta.safetensors", image, &out, &[]),
        &[
            "roberta.safetensors: expected weights of ViT",
            "found weights of RoBERTa",
            "hint:",
        ],
    );
    refuse(
        encode("image", "vit-b-16", "vit.safetensors", image, &out, &[]),
        &[
            "expected `embeddings.cls_token` of shape [1, 1, 768], found [1, 1, 96]",
            "fit `nano`",
            "hint:",
        ],
    );
    refuse(
        encode("text", "clip-vit-b-16", "clip.safetensors", "a star", &out, &[]),
        &["expected --tokenizer", "hint:"],
    );
    refuse(
        encode("text", "nano", "roberta.safetensors", " ", &out, &[]),
        &["found an empty text", "hint:"],
    );
    refuse(
        encode("image", "nano", "none.safetensors", image, &out, &[]),
        &["none.safetensors"],
    );
    let ended = encode("image", "vggish", "vit.safetensors", image, &out, &[]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("clip-vit-b-16"), "{}", ended.stderr);
    fs::write(&out, "mine").unwrap();
    refused(
        &encode("image", "nano", "vit.safetensors", image, &out, &[]),
        &["--overwrite"],
    );
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
}

#[test]
fn encoders_files_are_described() {
    for (name, family, preset) in [
        ("vit.safetensors", "vit", "nano"),
        ("clip.safetensors", "clip", "clip-nano"),
        ("roberta.safetensors", "roberta", "nano"),
        ("vggish.safetensors", "vggish", "nano"),
    ] {
        let path = inputs().path(name);
        let ended = cli(&["weights", "inspect", text(&path), "--json"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(report["family"], family);
        assert_eq!(report["preset"], preset, "{name}");
    }
}

#[test]
fn the_clip_preset_s_files_have_their_sources() {
    let ended = cli(&["doctor", "--preset", "ablation-clip", "--json", "--device", "cpu"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    for file in report["weights"].as_array().unwrap() {
        assert_eq!(file["found"], false);
        let clip = file["source"]
            .as_str()
            .unwrap()
            .contains("openai/clip-vit-base-patch16");
        let expected = ["vision", "text", "tokenizer"].contains(&file["part"].as_str().unwrap());
        assert_eq!(clip, expected, "{file}");
    }
}

#[test]
fn weights_are_converted_without_what_is_no_part_of_the_encoder() {
    let out = tempfile::tempdir().unwrap();
    let convert = |model: &str, input: &str, name: &str| {
        let to = out.path().join(name);
        let from = inputs().path(input);
        cli(&["weights", "convert", "--model", model, text(&from), text(&to)])
    };
    let keys = |path: &Path| -> Vec<String> {
        let file = WeightsFile::open(path).unwrap();
        file.keys().into_iter().map(str::to_owned).collect()
    };
    let ended = convert("nano", "vit.safetensors", "vit.pt");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let (found, given) = (
        keys(&out.path().join("vit.pt")),
        keys(&inputs().path("vit.safetensors")),
    );
    let wanted: Vec<_> = given.iter().filter_map(|key| key.strip_prefix("vit.")).collect();
    assert_eq!(found, wanted);
    let values = |path: &Path, key: &str| WeightsFile::open(path).unwrap().read(key).unwrap();
    let key = "layernorm.weight";
    assert_eq!(
        values(&out.path().join("vit.pt"), key),
        values(&inputs().path("vit.safetensors"), &format!("vit.{key}"))
    );

    let ended = convert("clip-nano", "clip.safetensors", "clip.safetensors");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let found = keys(&out.path().join("clip.safetensors"));
    assert!(
        found.iter().any(|key| key.starts_with("text_model.")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|key| key.starts_with("vision_model.")),
        "{found:?}"
    );
    assert!(!found.contains(&"logit_scale".to_owned()));

    assert_eq!(
        convert("nano", "vggish.safetensors", "vggish.safetensors").code,
        0
    );
    refused(
        &convert("vit-b-16", "roberta.safetensors", "x.safetensors"),
        &["roberta.safetensors", "expected weights of vit-b-16", "RoBERTa"],
    );
    refused(
        &convert("vit-b-16", "vit.safetensors", "x.safetensors"),
        &["vit.safetensors", "768"],
    );
    assert!(!out.path().join("x.safetensors").exists());
}
