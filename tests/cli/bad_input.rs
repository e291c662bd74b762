//! Bad input: exit code 2, one line that names the file and what was expected, a hint; nothing on disk is harmed.

use std::fs;

use crate::{
    cli, cli_with, refused,
    scenes::{copy, first_row, pristine, run},
    text,
};

/// `train --dry-run` on a data set: the checks before the first step.
fn check(data: &std::path::Path) -> crate::Ended {
    cli(&["train", "--data", text(data), "--dry-run", "--device", "cpu"])
}

#[test]
fn a_missing_data_directory() {
    refused(
        &cli(&["train", "--data", "/no/such/folder", "--dry-run"]),
        &["/no/such/folder"],
    );
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("out");
    let ended = cli(&[
        "eval",
        "--run",
        text(run()),
        "--data",
        "/no/such/folder",
        "--out",
        text(&out),
    ]);
    refused(&ended, &["/no/such/folder"]);
    assert!(
        !out.exists(),
        "nothing is written before the input is known to be good"
    );
}

#[test]
fn missing_columns() {
    let (_folder, data) = copy();
    fs::write(data.join("metadata.csv"), "vid,uid,exp\na,a_b_1,x\n").unwrap();
    refused(&check(&data), &["metadata.csv", "split", "fid"]);
}

#[test]
fn frames_missing_truncated_or_of_another_size() {
    let (_folder, data) = copy();
    let (media, _) = first_row(&data);
    let frame = media.join("frames/3.jpg");
    let good = fs::read(&frame).unwrap();
    fs::remove_file(&frame).unwrap();
    refused(&check(&data), &["frames", "3"]);
    fs::write(&frame, &good[..good.len() / 2]).unwrap();
    refused(&check(&data), &["3.jpg"]);
    image::RgbImage::new(32, 32).save(&frame).unwrap();
    refused(&check(&data), &["3.jpg", "64", "48", "32"]);
    fs::write(&frame, good).unwrap();
    assert_eq!(check(&data).code, 0);
}

#[test]
fn sounds_truncated_empty_or_too_short() {
    let (_folder, data) = copy();
    let (media, _) = first_row(&data);
    let sound = media.join("audio.wav");
    let good = fs::read(&sound).unwrap();
    fs::write(&sound, &good[..good.len() / 2]).unwrap();
    refused(&check(&data), &["audio.wav"]);
    fs::write(&sound, []).unwrap();
    refused(&check(&data), &["audio.wav"]);
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&sound, spec).unwrap();
    (0..48_000).for_each(|_| writer.write_sample(0i16).unwrap());
    writer.finalize().unwrap();
    refused(&check(&data), &["audio.wav", "3"]);
}

#[test]
fn a_mask_of_the_wrong_size() {
    let (_folder, data) = copy();
    let (_, masks) = first_row(&data);
    image::GrayImage::new(10, 10)
        .save(masks.join("00000.png"))
        .unwrap();
    refused(&check(&data), &["00000.png", "64", "48", "10"]);
}

#[test]
fn bad_samples_can_be_left_out() {
    let (_folder, data) = copy();
    let (media, _) = first_row(&data);
    fs::remove_file(media.join("frames/3.jpg")).unwrap();
    let ended = cli(&["train", "--data", text(&data), "--dry-run", "--skip-bad-samples"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("3.jpg"), "{}", ended.stderr);
    let lines = ended.stderr.lines().filter(|line| line.contains("3.jpg")).count();
    assert!(
        ended.stderr.contains(&format!("skipped {lines} of ")),
        "{}",
        ended.stderr
    );
}

#[test]
fn damage_behind_the_headers_shows_before_training() {
    let (_folder, data) = copy();
    let (media, masks) = first_row(&data);
    let mask = masks.join("00000.png");
    let good = fs::read(&mask).unwrap();
    let at = good.windows(4).position(|name| name == b"IDAT").unwrap() + 6;
    let mut damaged = good.clone();
    damaged[at] ^= 1;
    fs::write(&mask, damaged).unwrap();
    refused(&check(&data), &["00000.png", "damaged"]);
    fs::write(&mask, good).unwrap();

    let frame = media.join("frames/3.jpg");
    let good = fs::read(&frame).unwrap();
    // Tables and headers stay, and so does the end: what lies between is gone.
    let scan = good.windows(2).position(|mark| mark == [0xff, 0xda]).unwrap();
    fs::write(&frame, [&good[..scan], &[0xff, 0xd9]].concat()).unwrap();
    refused(&check(&data), &["3.jpg"]);
    fs::write(&frame, good).unwrap();

    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(media.join("audio.wav"), spec).unwrap();
    (0..160_000).for_each(|i| {
        writer
            .write_sample(if i == 70_000 { f32::NAN } else { 0.0 })
            .unwrap()
    });
    writer.finalize().unwrap();
    refused(&check(&data), &["audio.wav"]);
}

#[test]
fn an_empty_expression() {
    let (_folder, data) = copy();
    let table = fs::read_to_string(data.join("metadata.csv")).unwrap();
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    let row = lines[1].rsplit_once(',').unwrap().0.to_owned();
    lines[1] = format!("{row},");
    fs::write(data.join("metadata.csv"), lines.join("\n")).unwrap();
    refused(&check(&data), &["metadata.csv", "expression"]);
    let (media, _) = first_row(pristine());
    let out = tempfile::tempdir().unwrap();
    let frames = media.join("frames");
    let arguments = [
        "predict",
        "--run",
        text(run()),
        "--frames",
        text(&frames),
        "--text",
        " ",
        "--out",
        text(out.path()),
        "--device",
        "cpu",
    ];
    refused(&cli(&arguments), &["expression"]);
}

#[test]
fn unknown_names_come_with_the_nearest_known_one() {
    let data = text(pristine());
    refused(
        &cli(&["train", "--preset", "papr", "--data", data, "--dry-run"]),
        &["papr", "`paper`"],
    );
    refused(
        &cli(&["train", "--set", "train.batchsize=2", "--data", data, "--dry-run"]),
        &["train.batchsize", "`train.batch_size`"],
    );
    let out = tempfile::tempdir().unwrap();
    let eval = [
        "eval",
        "--run",
        text(run()),
        "--data",
        data,
        "--out",
        text(out.path()),
        "--splits",
        "test_x",
    ];
    refused(&cli(&eval), &["test_x", "test_"]);
}

#[test]
fn weights_of_another_config() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("other.toml");
    let toml = fs::read_to_string(run().join("config.toml")).unwrap();
    fs::write(
        &config,
        toml.replace("projection_width = 256", "projection_width = 128"),
    )
    .unwrap();
    let last = fs::read_to_string(run().join("last")).unwrap();
    let weights = run().join("checkpoints").join(last).join("model.safetensors");
    let out = folder.path().join("out");
    let eval = |weights: &std::path::Path, config: &std::path::Path| {
        let data = text(pristine());
        let files = [
            "--weights",
            text(weights),
            "--config",
            text(config),
            "--out",
            text(&out),
        ];
        cli(&[&["eval", "--data", data, "--device", "cpu"], files.as_slice()].concat())
    };
    refused(
        &eval(&weights, &config),
        &["model.safetensors", "128", "256", "--config"],
    );
    let cut = folder.path().join("cut.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    refused(&eval(&cut, &run().join("config.toml")), &["cut.safetensors"]);
}

#[test]
fn a_directory_that_is_not_empty_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious.txt");
    fs::write(&precious, "mine").unwrap();
    let out = text(folder.path());
    for arguments in [
        vec!["data", "synth", "--out", out],
        vec![
            "train",
            "--data",
            text(pristine()),
            "--out",
            out,
            "--device",
            "cpu",
        ],
        vec![
            "eval",
            "--run",
            text(run()),
            "--data",
            text(pristine()),
            "--out",
            out,
            "--device",
            "cpu",
        ],
        vec!["demo", "--out", out, "--device", "cpu"],
    ] {
        refused(&cli(&arguments), &[out, "--overwrite"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    }
}

#[test]
fn overwriting_waits_until_all_inputs_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    crate::scenes::copy_folder(run(), &out);
    let last = fs::read_to_string(out.join("last")).unwrap();
    let ended = cli(&[
        "train",
        "--data",
        text(pristine()),
        "--out",
        text(&out),
        "--device",
        "cpu",
        "--overwrite",
        "--init-from",
        "/no/such/weights.safetensors",
    ]);
    refused(&ended, &["/no/such/weights.safetensors"]);
    assert_eq!(fs::read_to_string(out.join("last")).unwrap(), last);
    assert!(
        out.join("checkpoints")
            .join(last)
            .join("model.safetensors")
            .is_file()
    );

    let config = fs::read(out.join("config.toml")).unwrap();
    for (set, key) in [
        ("fusion.width=64", "fusion.width"),
        ("train.batch_size=3", "train.batch_size"),
        ("train.seed=9", "train.seed"),
        ("data.include_null=false", "data.include_null"),
        ("data.null_repeats=2", "data.null_repeats"),
        ("train.best=loss", "train.best"),
    ] {
        let ended = cli(&[
            "train",
            "--resume",
            "--data",
            text(pristine()),
            "--out",
            text(&out),
            "--device",
            "cpu",
            "--set",
            set,
        ]);
        refused(&ended, &["--set", "others", key]);
    }
    // Other data: a row less.
    let (_folder, fewer) = copy();
    let table = fs::read_to_string(fewer.join("metadata.csv")).unwrap();
    let gone = table.lines().position(|line| line.contains(",train,")).unwrap();
    let kept: Vec<&str> = table
        .lines()
        .enumerate()
        .filter(|(i, _)| *i != gone)
        .map(|(_, line)| line)
        .collect();
    fs::write(fewer.join("metadata.csv"), kept.join("\n")).unwrap();
    let ended = cli(&[
        "train",
        "--resume",
        "--data",
        text(&fewer),
        "--out",
        text(&out),
        "--device",
        "cpu",
    ]);
    refused(&ended, &["rows to learn from", "found"]);
    assert_eq!(fs::read(out.join("config.toml")).unwrap(), config);
}

#[test]
fn wgpu_without_an_adapter_is_no_panic() {
    let environment = [
        ("VK_DRIVER_FILES", "/nonexistent.json"),
        ("VK_ICD_FILENAMES", "/nonexistent.json"),
    ];
    let ended = cli_with(&["doctor", "--device", "wgpu"], &environment);
    refused(&ended, &["wgpu", "found 0", "--device cpu"]);
    let auto = cli_with(&["doctor", "--json"], &environment);
    assert_eq!(auto.code, 0, "{}", auto.stderr);
}

#[test]
fn numbers_that_a_device_does_not_multiply_in() {
    let out = tempfile::tempdir().unwrap();
    for precision in ["tf32", "bf16", "f16"] {
        let cases = ["--cases", "mask_decoder", "--device", "cpu"];
        let bench = cli(&[&["bench", "--precision", precision], cases.as_slice()].concat());
        refused(&bench, &["--precision", "expected f32 on", precision]);
        let out = out.path().join("run");
        let arguments = [
            "train",
            "--data",
            text(pristine()),
            "--out",
            text(&out),
            "--device",
            "cpu",
        ];
        let train = cli(&[arguments.as_slice(), &["--precision", precision]].concat());
        refused(&train, &["--precision", "expected f32 on", precision]);
        assert!(!out.exists());
    }
}

#[test]
fn a_run_that_is_not_there() {
    refused(
        &cli(&[
            "train",
            "--data",
            text(pristine()),
            "--out",
            "/no/run",
            "--resume",
        ]),
        &["/no/run", "--resume"],
    );
    let out = tempfile::tempdir().unwrap();
    let arguments = [
        "eval",
        "--run",
        "/no/run",
        "--data",
        text(pristine()),
        "--out",
        text(out.path()),
    ];
    refused(&cli(&arguments), &["/no/run"]);
}
