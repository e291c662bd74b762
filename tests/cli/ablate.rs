//! `ablate`: every preset trains and is evaluated, and one table compares them.

use std::{fs, path::Path};

use burn_love_train::config::{PRESETS, Preset};

use crate::{Ended, cli, refused, scenes::pristine, text};

fn ablate(out: &Path, presets: &str, more: &[&str]) -> Ended {
    let arguments = [
        "ablate",
        "--presets",
        presets,
        "--nano-scale",
        "--data",
        text(pristine()),
        "--out",
        text(out),
        "--set",
        "sam2.model.image_size=64",
        "--set",
        "train.warmup_steps=2",
        "--set",
        "train.log_every=1",
        "--device",
        "cpu",
    ];
    cli(&[arguments.as_slice(), more].concat())
}

/// Losses of a run, step by step.
fn losses(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["split"] == "train" && line["name"] == "loss")
        .map(|line| line["value"].as_f64().unwrap())
        .collect()
}

/// Trains presets at nano's scale, and looks at losses, scores and the table.
fn learn(presets: &[&Preset], steps: usize, rows: usize) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let names: Vec<&str> = presets.iter().map(|preset| preset.name).collect();
    let (length, batch) = (format!("train.steps={steps}"), format!("train.batch_size={rows}"));
    let ended = ablate(&out, &names.join(","), &["--set", &length, "--set", &batch]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for preset in &names {
        let losses = losses(&out.join(preset).join("seed-0/run"));
        assert_eq!(losses.len(), steps, "{preset}");
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (before, after) = (mean(&losses[..steps / 4]), mean(&losses[steps - steps / 4..]));
        assert!(after < before, "{preset}: the loss went from {before} to {after}");
        let metrics = out.join(preset).join("seed-0/eval/metrics.json");
        let metrics: serde_json::Value = serde_json::from_str(&fs::read_to_string(metrics).unwrap()).unwrap();
        assert!(metrics["splits"]["mix"]["JF"].is_f64(), "{preset}: {metrics}");
    }
    let table = fs::read_to_string(out.join("ablation.md")).unwrap();
    assert_eq!(table, ended.stdout.trim_end().to_owned() + "\n");
    for preset in presets {
        let row = format!("| {} | 1 |", preset.name);
        let row = table.lines().find(|line| line.starts_with(&row)).unwrap();
        assert!(
            row.contains(&format!("| {} |", preset.base.unwrap_or("–"))),
            "{row}"
        );
    }
}

/// One preset of each kind: another encoder, another strategy, frozen parts.
#[test]
fn presets_learn_and_are_evaluated() {
    let kinds = ["ablation-clip", "ablation-mean", "ablation-frozen-sam2"];
    let presets: Vec<_> = kinds.iter().map(|name| Preset::find(name).unwrap()).collect();
    learn(&presets, 12, 2);
}

/// All presets, in about 20 minutes: `cargo test --release --workspace --test cli -- --ignored every_preset`.
#[test]
#[ignore = "takes long"]
fn every_preset_learns_and_is_evaluated() {
    learn(&PRESETS.iter().collect::<Vec<_>>(), 20, 4);
}

#[test]
fn what_is_finished_is_not_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let few = [
        "--set",
        "train.steps=2",
        "--set",
        "train.batch_size=2",
        "--seeds",
        "3",
    ];
    let ended = ablate(&out, "ablation-no-accumulation", &few);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("compared with paper"), "{}", ended.stderr);
    let run = out.join("ablation-no-accumulation/seed-3/run/metrics.jsonl");
    let before = fs::read(&run).unwrap();

    let more = [&few[..], &["--resume"]].concat();
    let ended = ablate(&out, "paper,ablation-no-accumulation", &more);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(fs::read(&run).unwrap(), before);
    let csv = fs::read_to_string(out.join("ablation.csv")).unwrap();
    let row = csv
        .lines()
        .find(|line| line.starts_with("ablation-no-accumulation,paper,1,Seen J&F"))
        .unwrap();
    let cells: Vec<&str> = row.split(',').collect();
    // The difference, and the ends of its interval.
    for cell in [cells[6], cells[8], cells[9]] {
        assert!(cell.parse::<f64>().is_ok(), "{row}");
    }
    assert_eq!(cells[10], "-0.010000");

    // What evaluation alone uses may change: then it is made again, and the training is not.
    let scores = out.join("ablation-no-accumulation/seed-3/eval/metrics.json");
    let read = || {
        let metrics: serde_json::Value = serde_json::from_slice(&fs::read(&scores).unwrap()).unwrap();
        metrics["splits"].clone()
    };
    let earlier = read();
    let all = [&more[..], &["--set", "sam2.object_gate=false"]].concat();
    let ended = ablate(&out, "ablation-no-accumulation", &all);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("as sam2.object_gate changed"),
        "{}",
        ended.stderr
    );
    assert_eq!(fs::read(&run).unwrap(), before);
    assert_ne!(read(), earlier);
    let ended = ablate(&out, "ablation-no-accumulation", &more);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(read(), earlier);

    let other = [
        "--set",
        "train.steps=3",
        "--set",
        "train.batch_size=2",
        "--seeds",
        "3",
        "--resume",
    ];
    refused(
        &ablate(&out, "ablation-no-accumulation", &other),
        &["train.steps differ"],
    );
    refused(&ablate(&out, "paper", &few), &["expected an empty directory"]);
    refused(&ablate(&out, "papr", &["--resume"]), &["did you mean `paper`"]);
    let twice = ["--seeds", "1,1", "--resume"];
    refused(
        &ablate(&out, "paper", &twice),
        &["expected it once, found it twice"],
    );
}
