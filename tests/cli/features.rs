//! `--cache-features` of `train` and `eval`.

use std::{fs, path::Path};

use crate::{
    cli, refused,
    scenes::{SMALL, pristine, run},
    text,
};

const FROZEN: [&str; 8] = [
    "--set",
    "train.audio_encoder=false",
    "--set",
    "train.vision_encoder=false",
    "--set",
    "train.text_encoder=false",
    "--set",
    "train.image_encoder=false",
];

/// What the program says of the cache: features read, and computed.
#[track_caller]
fn counts(stderr: &str) -> (usize, usize) {
    let line = stderr.lines().rfind(|line| line.starts_with("features: "));
    let line = line.unwrap_or_else(|| panic!("no line about features: {stderr}"));
    let number = |behind: &str| {
        let before = line.split(behind).next().unwrap();
        before
            .rsplit([' ', ','])
            .find_map(|word| word.parse().ok())
            .unwrap()
    };
    (number(" read"), number(" computed"))
}

fn train(out: &Path, more: &[&str]) -> crate::Ended {
    let arguments = [
        &[
            "train",
            "--preset",
            "nano",
            "--data",
            text(pristine()),
            "--out",
            text(out),
        ],
        SMALL.as_slice(),
        more,
    ];
    cli(&arguments.concat())
}

#[test]
fn a_second_training_and_evaluation_read_what_the_first_kept() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let cache = at("cache");
    let more = [&FROZEN[..], &["--cache-features", text(&cache)]].concat();
    let weights = |run: &str| {
        let ended = train(&at(run), &more);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let path = at(run).join("checkpoints/step-00000002/model.safetensors");
        (counts(&ended.stderr), fs::read(path).unwrap())
    };
    let ((_, computed), first) = weights("first");
    assert!(computed > 0);
    let ((read, computed), second) = weights("second");
    assert!(read > 0 && computed == 0, "{read} read, {computed} computed");
    assert!(first == second, "the cache changed the weights");
    let log = fs::read_to_string(at("second").join("log.txt")).unwrap();
    assert!(log.contains("features: "), "{log}");

    let eval = |out: &str| {
        let (first, out) = (at("first"), at(out));
        let arguments = [
            "eval",
            "--run",
            text(&first),
            "--data",
            text(pristine()),
            "--out",
            text(&out),
        ];
        let ended = cli(&[
            &arguments[..],
            &["--device", "cpu", "--cache-features", text(&cache)],
        ]
        .concat());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        (
            counts(&ended.stderr),
            fs::read(out.join("per_expression.csv")).unwrap(),
        )
    };
    let ((_, computed), scores) = eval("scores");
    assert!(computed > 0, "test clips are new");
    let ((_, computed), again) = eval("again");
    assert_eq!(computed, 0);
    assert!(scores == again);
}

#[test]
fn a_limit_a_file_and_nonsense_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), b"").unwrap();
    let with = |more: &[&str]| train(&at("run"), &[&FROZEN[..], more].concat());
    refused(
        &with(&["--cache-features", text(&at("file"))]),
        &["file: expected a folder for cached features"],
    );
    refused(
        &with(&["--cache-features", text(&at("c")), "--cache-limit", "much"]),
        &["500MB, 64GB or 1TiB"],
    );
    assert!(
        !at("run").exists(),
        "nothing is written before the arguments are understood"
    );

    let ended = with(&["--cache-features", text(&at("c")), "--cache-limit", "1kB"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("the cache is full"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(" not kept; 0.0 KB of at most 1.0 KB"),
        "{}",
        ended.stderr
    );

    let (all, scores) = (at("all"), at("scores"));
    let ended = train(&all, &["--cache-features", text(&at("c"))]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("all encoders of this config learn"),
        "{}",
        ended.stderr
    );
    let arguments = [
        "eval",
        "--run",
        text(run()),
        "--data",
        text(pristine()),
        "--out",
        text(&scores),
    ];
    refused(
        &cli(&[&arguments[..], &["--cache-precision", "f16"]].concat()),
        &["--cache-features"],
    );
}
