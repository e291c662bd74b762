//! `pretrain`: what it writes, what it says, and what it refuses.

use std::fs;

use crate::{
    cli, refused,
    scenes::{copy, pristine},
    text,
};

#[test]
fn a_stage_writes_a_run_and_weights_that_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let arguments = [
        "pretrain",
        "text",
        "--data",
        text(pristine()),
        "--out",
        text(&out),
        "--device",
        "cpu",
        "--json",
    ];
    let steps = ["--set", "train.steps=2", "--set", "train.warmup_steps=0"];
    let ended = cli(&[arguments.as_slice(), &steps].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let written = fs::read_to_string(out.join("gates.json")).unwrap();
    assert_eq!(
        printed,
        serde_json::from_str::<serde_json::Value>(&written).unwrap()
    );
    assert_eq!(
        (printed["stage"].as_str(), printed["steps"].as_u64()),
        (Some("text"), Some(2))
    );
    for name in ["config.toml", "metrics.jsonl", "log.txt", "last", "best"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    for line in fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["step", "epoch", "split", "name", "value", "time"] {
            assert!(event.get(key).is_some(), "{key} in {line}");
        }
    }
    let weights = out.join("text.safetensors");
    let inspected = cli(&["weights", "inspect", text(&weights), "--json"]);
    assert!(inspected.stdout.contains("roberta"), "{}", inspected.stdout);

    // The run is not written over, and no other stage goes on with it.
    refused(&cli(&arguments), &["expected an empty directory"]);
    let other = [
        "pretrain",
        "audio",
        "--data",
        text(pristine()),
        "--out",
        text(&out),
        "--device",
        "cpu",
    ];
    refused(
        &cli(&[other.as_slice(), &["--resume"]].concat()),
        &["expected a record of this run's model", "pretrain text"],
    );
}

#[test]
fn a_missed_gate_is_told_and_ends_with_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let arguments = [
        "pretrain",
        "audio",
        "--data",
        text(pristine()),
        "--out",
        text(&out),
        "--device",
        "cpu",
    ];
    let steps = [
        "--set",
        "train.steps=1",
        "--set",
        "train.batch_size=1",
        "--set",
        "train.warmup_steps=0",
    ];
    let ended = cli(&[arguments.as_slice(), &steps].concat());
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("error: gates missed: "), "{}", ended.stderr);
    assert!(ended.stdout.contains("modulation ") && ended.stdout.contains("(gate 0.95: missed)"));
    assert!(
        out.join("audio.safetensors").is_file(),
        "weights are written all the same"
    );
}

#[test]
fn data_without_scene_graphs_or_clips_to_judge_by_are_refused() {
    let (folder, data) = copy();
    let out = folder.path().join("run");
    let run = |stage| {
        cli(&[
            "pretrain",
            stage,
            "--data",
            text(&data),
            "--out",
            text(&out),
            "--device",
            "cpu",
        ])
    };
    let table = fs::read_to_string(data.join("metadata.csv")).unwrap();
    let judged: Vec<&str> = table.lines().filter(|line| !line.contains(",val,")).collect();
    fs::write(data.join("metadata.csv"), judged.join("\n")).unwrap();
    refused(&run("vision"), &["expected rows of the split val"]);
    refused(&run("text"), &["expected rows of the split val"]);
    fs::write(data.join("metadata.csv"), table).unwrap();
    fs::write(data.join("lavs").join("lavs-train-00000.json"), "{}").unwrap();
    refused(&run("sam2"), &["lavs-train-00000.json", "a scene graph"]);
    assert!(!out.exists(), "nothing is written before everything was read");
}
