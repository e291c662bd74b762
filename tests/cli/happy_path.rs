//! What the commands write, and what they say.

use std::fs;

use crate::{
    cli,
    scenes::{copy, first_row, pristine, run},
    text,
};

#[test]
fn a_run_holds_what_the_contract_names() {
    for name in ["config.toml", "metrics.jsonl", "log.txt", "last", "best"] {
        assert!(run().join(name).is_file(), "{name}");
    }
    let last = fs::read_to_string(run().join("last")).unwrap();
    assert_eq!(last, "step-00000002");
    assert!(
        run()
            .join("checkpoints")
            .join(last)
            .join("model.safetensors")
            .is_file()
    );
    // One validation clip, and as many pictures of the size of its frames.
    let overlays: Vec<_> = fs::read_dir(run().join("overlays/step-00000002"))
        .unwrap()
        .map(|entry| image::open(entry.unwrap().path()).unwrap().to_rgb8().dimensions())
        .collect();
    assert_eq!(overlays, [(64, 48)]);
    for line in fs::read_to_string(run().join("metrics.jsonl")).unwrap().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["step", "epoch", "split", "name", "value", "time"] {
            assert!(event.get(key).is_some(), "{key} in {line}");
        }
    }
}

#[test]
fn eval_writes_its_tables_and_dumps() {
    let out = tempfile::tempdir().unwrap();
    let scores = out.path().join("scores");
    let dump = scores.join("dump");
    let arguments = [
        "eval",
        "--run",
        text(run()),
        "--data",
        text(pristine()),
        "--out",
        text(&scores),
        "--device",
        "cpu",
        "--dump",
        text(&dump),
        "--json",
    ];
    let ended = cli(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let written: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(scores.join("metrics.json")).unwrap()).unwrap();
    assert_eq!(printed, written);
    for (split, key) in [
        ("test_s", "J"),
        ("test_s", "F"),
        ("test_u", "JF"),
        ("mix", "J"),
        ("test_n", "S"),
    ] {
        let value = written["splits"][split][key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&value), "{split}.{key} = {value}");
    }
    for name in ["metrics.md", "metrics.csv", "per_expression.csv"] {
        assert!(scores.join(name).is_file(), "{name}");
    }
    assert!(fs::read_dir(dump).unwrap().count() > 0);
}

#[test]
fn predict_works_without_sound_and_says_so() {
    let (_folder, data) = copy();
    let (media, _) = first_row(&data);
    // Seven frames: clips need not have ten.
    for i in 7..10 {
        fs::remove_file(media.join(format!("frames/{i}.jpg"))).unwrap();
    }
    let out = tempfile::tempdir().unwrap();
    let long = "the object ".repeat(40);
    let frames = media.join("frames");
    let arguments = [
        "predict",
        "--run",
        text(run()),
        "--frames",
        text(&frames),
        "--text",
        &long,
        "--out",
        text(out.path()),
        "--device",
        "cpu",
    ];
    let ended = cli(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("noise"), "{}", ended.stderr);
    assert!(ended.stderr.contains("cut to 25"), "{}", ended.stderr);
    assert_eq!(fs::read_dir(out.path().join("masks")).unwrap().count(), 7);
    let mask = image::open(out.path().join("masks/00000.png")).unwrap();
    assert_eq!((mask.width(), mask.height()), (64, 48));
    let result: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.path().join("result.json")).unwrap()).unwrap();
    assert_eq!(result["text"], long);
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let out = tempfile::tempdir().unwrap();
    let tables: Vec<Vec<u8>> = ["1", "2"]
        .iter()
        .map(|threads| {
            let data = out.path().join(threads);
            let sizes = [
                "--train",
                "2",
                "--val",
                "0",
                "--test-seen",
                "1",
                "--test-unseen",
                "0",
                "--test-null",
                "0",
            ];
            let arguments = [
                "data",
                "synth",
                "--out",
                text(&data),
                "--size",
                "64x48",
                "--threads",
                threads,
            ];
            let ended = cli(&[arguments.as_slice(), sizes.as_slice()].concat());
            assert_eq!(ended.code, 0, "{}", ended.stderr);
            fs::read(data.join("metadata.csv")).unwrap()
        })
        .collect();
    assert!(tables[0] == tables[1]);
}

#[test]
fn presets_are_listed_and_resolved() {
    let listed = cli(&["train", "--list-presets"]);
    assert_eq!(listed.code, 0);
    assert!(
        listed.stdout.contains("nano") && listed.stdout.contains("ablation-seg-4"),
        "{}",
        listed.stdout
    );
    let resolved = cli(&[
        "train",
        "--data",
        text(pristine()),
        "--set",
        "train.lr=0.5",
        "--dry-run",
    ]);
    assert_eq!(resolved.code, 0, "{}", resolved.stderr);
    assert!(resolved.stdout.contains("lr = 0.5"), "{}", resolved.stdout);
    for told in ["# mask_decoder", "# memory: ", "optimizer steps on", "▁"] {
        assert!(resolved.stdout.contains(told), "no `{told}`: {}", resolved.stdout);
    }
    // The description is a comment: what is printed is a config.
    let again = tempfile::tempdir().unwrap().path().with_extension("toml");
    fs::write(&again, &resolved.stdout).unwrap();
    let same = cli(&[
        "train",
        "--data",
        text(pristine()),
        "--config",
        text(&again),
        "--dry-run",
    ]);
    fs::remove_file(&again).unwrap();
    assert_eq!(same.stdout, resolved.stdout, "{}", same.stderr);
    let paper = cli(&[
        "train",
        "--preset",
        "paper",
        "--data",
        text(pristine()),
        "--dry-run",
    ]);
    assert_eq!(paper.code, 0, "{}", paper.stderr);
    assert!(paper.stdout.contains("sam2_hiera_large"), "{}", paper.stdout);
}

#[test]
fn overwriting_replaces_only_what_the_command_writes() {
    let out = tempfile::tempdir().unwrap();
    let data = out.path().join("data");
    let synth = |more: &[&str]| {
        let sizes = [
            "--train",
            "2",
            "--val",
            "0",
            "--test-seen",
            "0",
            "--test-unseen",
            "0",
            "--test-null",
            "0",
        ];
        cli(&[
            &["data", "synth", "--out", text(&data), "--size", "64x48"],
            sizes.as_slice(),
            more,
        ]
        .concat())
    };
    assert_eq!(synth(&[]).code, 0);
    fs::write(data.join("thesis.tex"), "mine").unwrap();
    fs::write(data.join("media/stale.txt"), "old").unwrap();
    let again = synth(&["--overwrite", "--seed", "1"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(fs::read_to_string(data.join("thesis.tex")).unwrap(), "mine");
    assert!(!data.join("media/stale.txt").exists());
}

#[test]
fn devices_that_do_not_exist_are_named() {
    for device in ["gpu", "cpu:1", "wgpu:x"] {
        let ended = cli(&["doctor", "--device", device]);
        assert_eq!(ended.code, 2);
        assert!(ended.stderr.contains(device), "{}", ended.stderr);
    }
}
