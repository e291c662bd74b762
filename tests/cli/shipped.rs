//! The weights that come with the program: trainings that begin from them, and files of what learned on top.

use std::{fs, path::Path};

use burn_love::weights::{Dtype, TensorSource, WeightsFile};

use crate::{
    cli, refused,
    scenes::{SMALL, pristine, run},
    text,
};

#[test]
fn what_learned_on_shipped_parts_is_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let training = [
        "train",
        "--preset",
        "nano-pretrained",
        "--data",
        text(pristine()),
        "--out",
        text(&out),
    ];
    let more = ["--set", "train.overlays=0", "--set", "train.warmup_steps=0"];
    let ended = cli(&[&training[..], &SMALL, &more].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let last = fs::read_to_string(out.join("last")).unwrap();
    let whole = out.join("checkpoints").join(last).join("model.safetensors");

    let learned = folder.path().join("learned.safetensors");
    let convert = |input: &Path, output: &Path, more: &[&str]| {
        let arguments = ["weights", "convert", "--model", "love", text(input), text(output)];
        cli(&[&arguments, more].concat())
    };
    let ended = convert(&whole, &learned, &["--learned", "--f16"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let file = WeightsFile::open(&learned).unwrap();
    assert!(file.keys().iter().all(|key| {
        ["fusion.", "sam2.sam_mask_decoder.", "sam2.sam_prompt_encoder."]
            .iter()
            .any(|part| key.starts_with(part))
    }));
    assert_eq!(file.info("fusion.seg").unwrap().dtype, Dtype::F16);

    // Both are the same model, but for rounding.
    let scores = |weights: &Path, name: &str| {
        let scores = folder.path().join(name);
        let arguments = ["eval", "--weights", text(weights), "--data", text(pristine())];
        let ended = cli(&[&arguments[..], &["--out", text(&scores), "--device", "cpu"]].concat());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let metrics = fs::read_to_string(scores.join("metrics.json")).unwrap();
        let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
        metrics["splits"]["test_s"]["JF"].as_f64().unwrap()
    };
    let (one, other) = (scores(&whole, "whole"), scores(&learned, "learned"));
    assert!((one - other).abs() < 0.02, "{one} {other}");

    // All of it as f16 is larger; without the parts' files nothing can be left out.
    let all = folder.path().join("all.safetensors");
    assert_eq!(convert(&whole, &all, &["--f16"]).code, 0);
    assert!(fs::metadata(&all).unwrap().len() > 2 * fs::metadata(&learned).unwrap().len());
    let last = fs::read_to_string(run().join("last")).unwrap();
    let scratch = run().join("checkpoints").join(last).join("model.safetensors");
    let nothing_left_out = folder.path().join("scratch.safetensors");
    assert_eq!(convert(&scratch, &nothing_left_out, &["--learned"]).code, 0);
    let keys = |path: &Path| WeightsFile::open(path).unwrap().keys().len();
    assert_eq!(keys(&nothing_left_out), keys(&scratch));
}

#[test]
fn embedded_weights_are_described_and_unknown_ones_refused() {
    let inspected = cli(&["weights", "inspect", "embedded:sam2"]);
    assert_eq!(inspected.code, 0, "{}", inspected.stderr);
    assert!(inspected.stdout.contains("nano"), "{}", inspected.stdout);
    refused(
        &cli(&["weights", "inspect", "embedded:none"]),
        &["embedded:none", "audio, vision, text, sam2"],
    );
    let checked = cli(&["doctor", "--preset", "nano-pretrained", "--device", "cpu"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
}
