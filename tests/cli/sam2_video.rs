//! `sam2 video`: what it writes is what the library computes, and bad input is refused.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use burn::prelude::*;
use burn_flex::Flex;
use burn_love::{
    preprocess::sam2_pixels,
    sam2::{Direction, PointLabel, PointPrompt, Sam2, Sam2Config, VideoConfig, VideoSession, to_checkpoint},
    weights::{Allow, Sam2File, TensorSource, WeightsFile, state_of, write_safetensors},
};
use image::{Rgb, RgbImage};

use crate::{Ended, cli, cli_with, refused, text};

const FRAMES: usize = 4;
const WIDTH: u32 = 90;
const HEIGHT: u32 = 60;

const PROMPTS: &str = r#"[
    {"frame": 1, "object": 5, "points": [[30, 20.5]], "labels": [1]},
    {"frame": 2, "object": 3, "box": [40, 10, 80, 50]}
]"#;

/// Weights, a clip, and a place for answers.
struct Inputs {
    folder: tempfile::TempDir,
}

impl Inputs {
    fn new() -> Self {
        let inputs = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let model: Sam2<Flex> = Sam2Config::nano().with_image_size(64).init(&Default::default());
        write_safetensors(
            &inputs.path("nano.safetensors"),
            &state_of(&model, to_checkpoint),
            None,
        )
        .unwrap();
        fs::create_dir(inputs.path("clip")).unwrap();
        for index in 0..FRAMES {
            inputs.frame(index, WIDTH);
        }
        fs::write(inputs.path("prompts.json"), PROMPTS).unwrap();
        inputs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn frame(&self, index: usize, width: u32) {
        let t = index as u32;
        let wave = |x: u32, y: u32| ((x as f32 * 0.3).sin() * (y as f32 * 0.2).cos() * 100.0 + 120.0) as u8;
        let picture = RgbImage::from_fn(width, HEIGHT, |x, y| {
            Rgb([wave(x + t, y), wave(y, x + 2 * t), (x + y) as u8])
        });
        picture
            .save(self.path("clip").join(format!("{index}.png")))
            .unwrap();
    }

    fn track(&self, more: &[&str]) -> Ended {
        let (weights, clip) = (self.path("nano.safetensors"), self.path("clip"));
        let (prompts, out) = (self.path("prompts.json"), self.path("out"));
        let arguments = [
            "sam2",
            "video",
            "--model",
            "nano",
            "--image-size",
            "64",
            "--weights",
            text(&weights),
            "--frames",
            text(&clip),
            "--prompts",
            text(&prompts),
            "--device",
            "cpu",
            "--out",
            text(&out),
        ];
        cli(&[arguments.as_slice(), more].concat())
    }

    fn with_prompts(&self, prompts: &str) -> Ended {
        fs::write(self.path("prompts.json"), prompts).unwrap();
        self.track(&[])
    }
}

/// Makes a file of the arguments behind ffmpeg's options; false where there is no ffmpeg, unless it has to be there.
fn ffmpeg(arguments: &[&str]) -> bool {
    const REQUIRED: &str = "BURN_LOVE_REQUIRE_FFMPEG";
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments)
        .output();
    match run {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            true
        }
        Err(error) => {
            assert!(
                std::env::var_os(REQUIRED).is_none(),
                "ffmpeg: {error}, but {REQUIRED} is set"
            );
            false
        }
    }
}

/// Logits of every frame and object, by name, as the library computes them.
fn expected(weights: &Path, clip: &Path) -> BTreeMap<String, Vec<f32>> {
    let device = Default::default();
    let model = Sam2Config::nano().with_image_size(64).init::<Flex>(&device);
    let (model, _) = Sam2File::open(weights)
        .unwrap()
        .load_into(model, Allow::default())
        .unwrap();
    let features: Vec<_> = (0..FRAMES)
        .map(|index| {
            let frame = image::open(clip.join(format!("{index}.png"))).unwrap().to_rgb8();
            let pixels = TensorData::new(sam2_pixels(&frame, 64), [1, 3, 64, 64]);
            model.forward_image(Tensor::from_data(pixels, &device))
        })
        .collect();
    let config = VideoConfig::new([HEIGHT as usize, WIDTH as usize])
        .with_frames(Some(FRAMES))
        .without_postprocessing();
    let mut session = VideoSession::new(&model, config);
    let click = PointPrompt::new().point([30.0, 20.5], PointLabel::Positive);
    session.add_points(1, &features[1], 5, click).unwrap();
    let bounds = PointPrompt::new().bounds([40.0, 10.0, 80.0, 50.0]);
    session.add_points(2, &features[2], 3, bounds).unwrap();
    let order = (1..FRAMES)
        .map(|frame| (frame, Direction::Forward))
        .chain([(1, Direction::Backward), (0, Direction::Backward)]);
    let mut all = BTreeMap::new();
    for (frame, direction) in order {
        let masks = session.track(frame, &features[frame], direction).unwrap();
        for mask in masks.objects {
            let name = format!("logits/{frame:05}/{}", mask.object);
            all.insert(name, mask.low_res_logits.into_data().to_vec().unwrap());
        }
    }
    all
}

#[test]
fn every_frame_has_every_object_as_the_library_finds_it() {
    let inputs = Inputs::new();
    let tensors = inputs.path("tensors.safetensors");
    let ended = inputs.track(&["--no-postprocess", "--tensors", text(&tensors)]);
    assert_eq!(ended.code, 0, "stderr: {}", ended.stderr);
    assert!(ended.stdout.contains("4 frames"), "stdout: {}", ended.stdout);

    let written = WeightsFile::open(&tensors).unwrap();
    let expected = expected(&inputs.path("nano.safetensors"), &inputs.path("clip"));
    assert_eq!(written.keys().len(), 2 * expected.len());
    for (name, values) in &expected {
        assert_eq!(written.info(name).unwrap().shape, [16, 16], "{name}");
        let found: Vec<f32> = written.read(name).unwrap().to_vec().unwrap();
        assert!(&found == values, "{name}");
    }
    for frame in 0..FRAMES {
        assert!(
            inputs
                .path("out")
                .join(format!("overlays/{frame:05}.png"))
                .is_file()
        );
        for object in [3, 5] {
            let mask =
                image::open(inputs.path("out").join(format!("masks/{frame:05}/{object}.png"))).unwrap();
            assert_eq!((mask.width(), mask.height()), (WIDTH, HEIGHT));
        }
    }
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(inputs.path("out/result.json")).unwrap()).unwrap();
    assert_eq!(report["frames"].as_array().unwrap().len(), FRAMES);

    // What is there is not harmed, and can be replaced on request.
    refused(&inputs.track(&[]), &["out", "--overwrite"]);
    assert_eq!(inputs.track(&["--overwrite"]).code, 0);
}

#[test]
fn a_mask_is_a_prompt_and_one_frame_a_video() {
    let inputs = Inputs::new();
    for index in 1..FRAMES {
        fs::remove_file(inputs.path("clip").join(format!("{index}.png"))).unwrap();
    }
    let mask = image::GrayImage::from_fn(WIDTH, HEIGHT, |x, _| image::Luma([if x > 50 { 255 } else { 0 }]));
    mask.save(inputs.path("mask.png")).unwrap();
    let ended = inputs.with_prompts(r#"[{"frame": 0, "object": 1, "mask": "mask.png"}]"#);
    assert_eq!(ended.code, 0, "stderr: {}", ended.stderr);
    let found = image::open(inputs.path("out/masks/00000/1.png"))
        .unwrap()
        .to_luma8();
    let same = found.pixels().zip(mask.pixels()).filter(|(a, b)| a == b).count();
    assert!(same as u32 > WIDTH * HEIGHT * 95 / 100, "{same} pixels");
}

#[test]
fn bad_prompts_are_refused() {
    let inputs = Inputs::new();
    refused(
        &inputs.with_prompts("[]"),
        &["prompts.json", "at least one prompt"],
    );
    refused(&inputs.with_prompts("{"), &["prompts.json", "a list of prompts"]);
    let prompt = |body: &str| inputs.with_prompts(&format!(r#"[{{"object": 1, {body}}}]"#));
    refused(
        &prompt(r#""frame": 4, "box": [1, 2, 3, 4]"#),
        &["prompt 0", "below 4", "found 4"],
    );
    refused(&prompt(r#""frame": 0"#), &["prompt 0", "found none"]);
    refused(
        &prompt(r#""frame": 0, "points": [[1, 2]]"#),
        &["1 points and 0 labels"],
    );
    refused(
        &prompt(r#""frame": 0, "points": [[1, 2]], "labels": [7]"#),
        &["labels of 1", "found 7"],
    );
    refused(
        &prompt(r#""frame": 0, "box": [9, 2, 3, 4]"#),
        &["left, top, right, bottom"],
    );
    refused(&prompt(r#""frame": 0, "mask": "none.png""#), &["none.png"]);
    refused(&prompt(r#""frame": 0, "bx": [1]"#), &["bx"]);
    assert!(!inputs.path("out").exists());
}

#[test]
fn bad_videos_are_refused() {
    let inputs = Inputs::new();
    inputs.frame(3, WIDTH + 1);
    let ended = inputs.track(&[]);
    refused(&ended, &["3.png", "91×60", "90×60"]);
    fs::remove_dir_all(inputs.path("clip")).unwrap();
    fs::create_dir(inputs.path("clip")).unwrap();
    refused(&inputs.track(&["--overwrite"]), &["clip", "frames", "none"]);
}

#[test]
fn a_video_file_is_its_frames() {
    let inputs = Inputs::new();
    let track = |video: &str, out: &str, environment: &[(&str, &str)]| {
        let (weights, prompts) = (inputs.path("nano.safetensors"), inputs.path("prompts.json"));
        let (video, tensors, out) = (
            inputs.path(video),
            inputs.path(&format!("{out}.safetensors")),
            inputs.path(out),
        );
        let arguments = [
            "sam2",
            "video",
            "--model",
            "nano",
            "--image-size",
            "64",
            "--weights",
            text(&weights),
            "--video",
            text(&video),
            "--prompts",
            text(&prompts),
            "--device",
            "cpu",
            "--no-postprocess",
            "--out",
            text(&out),
            "--tensors",
            text(&tensors),
        ];
        cli_with(&arguments, environment)
    };
    refused(
        &track("video.mkv", "none", &[]),
        &["video.mkv", "a video file", "nothing"],
    );
    fs::write(inputs.path("text.mp4"), "no video").unwrap();
    refused(
        &track("text.mp4", "none", &[("PATH", "")]),
        &["ffmpeg", "on PATH"],
    );

    let (frames, video) = (inputs.path("clip").join("%d.png"), inputs.path("video.mkv"));
    // Without loss, and at a rate at which nothing has to be repeated.
    let made = [
        "-framerate",
        "7",
        "-i",
        text(&frames),
        "-c:v",
        "ffv1",
        "-pix_fmt",
        "gbrp",
        text(&video),
    ];
    if !ffmpeg(&made) {
        return;
    }
    let ended = track("video.mkv", "video", &[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let found = WeightsFile::open(&inputs.path("video.safetensors")).unwrap();
    let expected = expected(&inputs.path("nano.safetensors"), &inputs.path("clip"));
    for (name, expected) in expected {
        let found: Vec<f32> = found.read(&name).unwrap().to_vec().unwrap();
        assert_eq!(found, expected, "{name}");
    }

    refused(
        &track("text.mp4", "none", &[]),
        &["text.mp4", "that ffmpeg reads"],
    );
    for (index, options) in [["-c:v", "ffv1"], ["-c:v", "mjpeg"]].iter().enumerate() {
        let name = ["cut.mkv", "cut.avi"][index];
        let cut = inputs.path(name);
        ffmpeg(
            &[
                &["-framerate", "7", "-i", text(&frames)],
                &options[..],
                &[text(&cut)],
            ]
            .concat(),
        );
        let bytes = fs::read(&cut).unwrap();
        fs::write(&cut, &bytes[..bytes.len() * 6 / 10]).unwrap();
        refused(&track(name, "none", &[]), &[name, "whole video"]);
    }
    let sound = inputs.path("sound.mkv");
    ffmpeg(&["-f", "lavfi", "-i", "sine=duration=0.5", text(&sound)]);
    refused(&track("sound.mkv", "none", &[]), &["sound.mkv", "video"]);
    assert!(!inputs.path("none").exists());
}
