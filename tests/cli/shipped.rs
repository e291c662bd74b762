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
    let judge = |weights: &Path, name: &str, more: &[&str]| {
        let scores = folder.path().join(name);
        let arguments = ["eval", "--weights", text(weights), "--data", text(pristine())];
        let ended = cli(&[&arguments[..], &["--out", text(&scores), "--device", "cpu"], more].concat());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let metrics = fs::read_to_string(scores.join("metrics.json")).unwrap();
        (
            scores,
            serde_json::from_str::<serde_json::Value>(&metrics).unwrap(),
        )
    };
    let (before, one) = judge(&whole, "whole", &[]);
    assert_eq!(one["differences"], serde_json::Value::Null);
    let (_, other) = judge(&learned, "learned", &["--against", text(&before)]);
    let differences = &other["differences"];
    let rows = fs::read_to_string(before.join("per_expression.csv")).unwrap();
    assert_eq!(differences["rows"], rows.lines().count() - 1);
    let differences = differences["intervals"].as_array().unwrap();
    assert_eq!(differences.len(), 4, "{differences:?}");
    for difference in differences {
        let value = |name: &str| difference[name].as_f64().unwrap();
        assert!(value("mean").abs() < 0.02, "{difference}");
        assert!(value("low") <= value("mean") && value("mean") <= value("high"));
    }
    assert!(one["intervals"][0]["low"].as_f64() <= one["intervals"][0]["mean"].as_f64());
    let nowhere = [
        "eval",
        "--weights",
        text(&learned),
        "--data",
        text(pristine()),
        "--against",
        "none",
    ];
    refused(
        &cli(&[
            &nowhere[..],
            &["--out", text(&folder.path().join("x")), "--device", "cpu"],
        ]
        .concat()),
        &["none/per_expression.csv", "--out of an `eval`"],
    );

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
fn predict_needs_no_weights() {
    let folder = tempfile::tempdir().unwrap();
    let clip = fs::read_dir(pristine().join("media"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let (frames, audio, out) = (
        clip.join("frames"),
        clip.join("audio.wav"),
        folder.path().join("out"),
    );
    let arguments = [
        "predict",
        "--frames",
        text(&frames),
        "--audio",
        text(&audio),
        "--text",
        "the loudest object",
    ];
    let ended = cli(&[&arguments[..], &["--out", text(&out), "--device", "cpu"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let result = fs::read_to_string(out.join("result.json")).unwrap();
    assert!(result.contains("embedded:nano"), "{result}");
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
