//! `sam2 image`: what it writes is what the library computes, and bad input is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use burn::tensor::backend::Backend;
use burn_flex::Flex;
use burn_love::{
    sam2::{
        ImagePredictor, ImagePredictorConfig, ImagePrompt, Sam2, Sam2Config, run_length::RunLengths,
        to_checkpoint,
    },
    weights::{State, TensorSource, WeightsFile, load_state, state_of, write_safetensors},
};
use image::{GrayImage, Luma, Rgb, RgbImage};
use tempfile::TempDir;

use crate::{Ended, cli, refused, text};

const WIDTH: u32 = 90;
const HEIGHT: u32 = 60;

/// Nano weights and a picture.
struct Inputs {
    folder: TempDir,
}

impl Inputs {
    fn weights(&self) -> PathBuf {
        self.folder.path().join("nano.safetensors")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image.png")
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
        Flex::seed(&device, 3);
        let model: Sam2<Flex> = Sam2Config::nano().init(&device);
        write_safetensors(&inputs.weights(), &state_of(&model, to_checkpoint), None)
            .expect("a writable folder");
        let wave = |x: u32, y: u32| ((x as f32 * 0.3).sin() * (y as f32 * 0.2).cos() * 100.0 + 120.0) as u8;
        let picture = RgbImage::from_fn(WIDTH, HEIGHT, |x, y| Rgb([wave(x, y), wave(y, x), (x + y) as u8]));
        picture.save(inputs.image()).expect("a writable folder");
        inputs
    })
}

/// Runs `sam2 image` on the inputs.
fn segment(out: &Path, more: &[&str]) -> Ended {
    let (weights, image) = (inputs().weights(), inputs().image());
    let arguments = [
        "sam2",
        "image",
        "--model",
        "nano",
        "--weights",
        text(&weights),
        "--image",
        text(&image),
        "--device",
        "cpu",
        "--out",
        text(out),
    ];
    cli(&[arguments.as_slice(), more].concat())
}

fn tensors(path: &Path) -> State {
    let file = WeightsFile::open(path).expect("a safetensors file");
    let read = |key: &str| (key.to_owned(), file.read(key).expect("a tensor of the file"));
    file.keys().into_iter().map(read).collect()
}

fn values(state: &State, key: &str) -> Vec<f32> {
    state[key].to_vec().expect("f32")
}

/// What the library says to two points and a box.
fn expected(multimask: bool) -> (Vec<f32>, Vec<f32>) {
    let device = Default::default();
    let path = inputs().weights();
    let model = Sam2Config::nano().init::<Flex>(&device);
    let (model, _) = load_state(model, &tensors(&path), to_checkpoint, &path).expect("nano weights");
    let predictor = ImagePredictor::new(model, ImagePredictorConfig::new());
    let image = image::open(inputs().image()).expect("a picture").to_rgb8();
    let prompt = ImagePrompt::new()
        .with_point([30.0, 20.5], true)
        .with_point([-5.0, 50.0], false)
        .with_box([10.0, 5.0, 70.0, 40.0]);
    let answer = predictor
        .predict(&predictor.embed(&image).unwrap(), &prompt, multimask)
        .unwrap();
    let logits = answer.low_res_logits.into_data().to_vec().unwrap();
    (logits, answer.iou.into_data().to_vec().unwrap())
}

const PROMPT: [&str; 6] = [
    "--point",
    "30,20.5,1",
    "--point",
    "-5,50,0",
    "--box",
    "10,5,70,40",
];

#[test]
fn files_hold_what_the_library_computes() {
    let folder = tempfile::tempdir().unwrap();
    for (multimask, count) in [(false, 1), (true, 3)] {
        let out = folder.path().join(count.to_string());
        let file = folder.path().join(format!("{count}.safetensors"));
        let mut more = [PROMPT.as_slice(), &["--tensors", text(&file), "--json"]].concat();
        if multimask {
            more.push("--multimask");
        }
        let ended = segment(&out, &more);
        assert_eq!(ended.code, 0, "{}", ended.stderr);

        let written = tensors(&file);
        assert_eq!(written["low_res_logits"].shape.to_vec(), [count, 32, 32]);
        assert_eq!(written["object_score"].shape.to_vec(), [1]);
        let (logits, iou) = expected(multimask);
        for (key, expected) in [("low_res_logits", logits), ("iou", iou)] {
            let found = values(&written, key);
            assert_eq!(found.len(), expected.len(), "{key}");
            let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            assert!(difference.fold(0.0, f32::max) < 1e-5, "{key}");
        }

        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let file = fs::read_to_string(out.join("result.json")).unwrap();
        assert_eq!(report, serde_json::from_str::<serde_json::Value>(&file).unwrap());
        assert_eq!(report["model"], "nano");
        assert!(report["device"].as_str().unwrap().starts_with("cpu"));
        assert!(report["timings"]["encode_seconds"].as_f64().unwrap() > 0.0);
        let masks = report["masks"].as_array().unwrap();
        assert_eq!(masks.len(), count);
        for mask in masks {
            let path = out.join(mask["file"].as_str().unwrap());
            let picture = image::open(path).unwrap().to_luma8();
            assert_eq!(picture.dimensions(), (WIDTH, HEIGHT));
            assert!(picture.as_raw().iter().all(|pixel| *pixel == 0 || *pixel == 255));
            let area = picture.as_raw().iter().filter(|pixel| **pixel == 255).count();
            assert_eq!(mask["area"], area);
        }
        assert_eq!(fs::read_dir(out.join("overlays")).unwrap().count(), count);
    }
}

#[test]
fn a_mask_may_be_an_earlier_answer_or_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let run = |name: &str, more: &[&str]| {
        let file = path(&format!("{name}.safetensors"));
        let ended = segment(&path(name), &[more, &["--tensors", text(&file)]].concat());
        assert_eq!(ended.code, 0, "{name}: {}", ended.stderr);
        values(&tensors(&file), "low_res_logits")
    };
    let picture = path("mask.png");
    let left = GrayImage::from_fn(WIDTH, HEIGHT, |x, _| Luma([if x < 45 { 255 } else { 0 }]));
    left.save(&picture).unwrap();

    let first = run("first", &PROMPT);
    let earlier = path("first.safetensors");
    let refined = run(
        "refined",
        &[PROMPT.as_slice(), &["--mask", text(&earlier)]].concat(),
    );
    let pictured = run("pictured", &["--mask", text(&picture)]);
    assert!(first != refined && refined != pictured, "masks change the answer");
}

#[test]
fn everything_is_found_without_a_prompt() {
    let folder = tempfile::tempdir().unwrap();
    // Random weights think little of their masks: raise the predicted IoU, and make logits steep.
    let mut state = tensors(&inputs().weights());
    for (key, data) in &mut state {
        let values = data.as_mut_slice::<f32>().expect("f32");
        if key.ends_with("iou_prediction_head.layers.2.bias") {
            values.fill(6.0);
        }
        if key.contains("output_hypernetworks_mlps") && key.contains("layers.2") {
            values.iter_mut().for_each(|x| *x *= 1000.0);
        }
    }
    let weights = folder.path().join("sure.safetensors");
    write_safetensors(&weights, &state, None).unwrap();
    let run = |weights: &Path, out: &Path, more: &[&str]| {
        let image = inputs().image();
        let files = [
            "--weights",
            text(weights),
            "--image",
            text(&image),
            "--out",
            text(out),
        ];
        let rest = ["--model", "nano", "--device", "cpu", "--everything", "--json"];
        let ended = cli(&[&["sam2", "image"], files.as_slice(), &rest, more].concat());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        report["masks"].as_array().unwrap().clone()
    };
    let out = folder.path().join("out");
    let masks = run(&weights, &out, &[]);
    assert!(!masks.is_empty());
    for mask in &masks {
        let runs: RunLengths = serde_json::from_value(mask["segmentation"].clone()).unwrap();
        assert_eq!(runs.size, [HEIGHT as usize, WIDTH as usize]);
        assert_eq!(mask["area"], runs.area());
        let picture = image::open(out.join(mask["file"].as_str().unwrap()))
            .unwrap()
            .to_luma8();
        let pixels: Vec<bool> = picture.as_raw().iter().map(|pixel| *pixel == 255).collect();
        assert_eq!(runs.decode(), pixels);
        assert!(mask["iou"].as_f64().unwrap() > 0.8 && mask["stability"].as_f64().unwrap() >= 0.95);
    }
    assert!(out.join("overlays/00000.png").is_file());
    let nothing = run(&inputs().weights(), &folder.path().join("nothing"), &[]);
    assert!(nothing.is_empty(), "random weights are not sure of anything");
    // Few clicks find less, and whatever is good enough by laxer rules is more.
    let few = run(&weights, &folder.path().join("few"), &["--points-per-side", "2"]);
    assert!(
        few.len() <= 4 * 3 && few.len() <= masks.len(),
        "{} of {}",
        few.len(),
        masks.len()
    );
    let lax = [
        "--points-per-side",
        "2",
        "--min-iou",
        "0",
        "--min-stability",
        "0",
        "--max-overlap",
        "1",
    ];
    let lax = run(&inputs().weights(), &folder.path().join("lax"), &lax);
    assert!(!lax.is_empty(), "nothing is too bad");
    refused(
        &segment(&folder.path().join("alone"), &["--points-per-side", "2"]),
        &["--everything"],
    );
    let both = ["--everything", "--point", "1,2,1"];
    refused(
        &segment(&folder.path().join("both"), &both),
        &["--everything", "--point"],
    );
}

#[test]
fn bad_input_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let path = |name: &str| folder.path().join(name);
    refused(&segment(&out, &[]), &["--point", "--box", "--mask"]);
    for (flag, bad) in [
        ("--point", "1,2"),
        ("--point", "1,2,3"),
        ("--point", "a,2,1"),
        ("--box", "1,2,3"),
        ("--box", "9,2,3,4"),
        ("--box", "nan,2,3,4"),
    ] {
        refused(&segment(&out, &[flag, bad]), &[flag, bad]);
    }

    let note = path("note.png");
    fs::write(&note, "not a picture").unwrap();
    let small = path("small.png");
    GrayImage::new(7, 8).save(&small).unwrap();
    let point = ["--point", "1,2,1"];
    for (file, words) in [
        ("/no/mask.png", ["/no/mask.png", ""]),
        (text(&note), ["note.png", "picture"]),
        (text(&small), ["small.png", "7×8"]),
    ] {
        refused(&segment(&out, &["--mask", file]), &words);
    }
    let other = path("other.safetensors");
    let logits = burn::tensor::TensorData::new(vec![0f32; 64], [1, 8, 8]);
    let state = State::from([("low_res_logits".to_owned(), logits)]);
    write_safetensors(&other, &state, None).unwrap();
    refused(
        &segment(&out, &["--mask", text(&other)]),
        &["other.safetensors", "[1, 8, 8]"],
    );
    refused(
        &segment(&out, &[point.as_slice(), &["--tensors", text(&other)]].concat()),
        &["other.safetensors", "--overwrite"],
    );
    assert!(
        !out.exists(),
        "nothing is written before the input is known to be good"
    );

    let (weights, image) = (inputs().weights(), inputs().image());
    let cut = path("cut.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let run = |model: &str, weights: &Path, image: &Path| {
        let files = ["--weights", text(weights), "--image", text(image)];
        let rest = ["--device", "cpu", "--overwrite", "--out", text(&out)];
        cli(&[
            &["sam2", "image", "--model", model],
            point.as_slice(),
            &files,
            &rest,
        ]
        .concat())
    };
    refused(&run("sam3", &weights, &image), &["sam3", "sam2.1-hiera-tiny"]);
    refused(
        &run("nano", &weights, Path::new("/no/image.jpg")),
        &["/no/image.jpg"],
    );
    refused(&run("nano", &weights, &note), &["note.png", "picture"]);
    refused(&run("nano", &cut, &image), &["cut.safetensors"]);
    refused(
        &run("sam2.1-hiera-tiny", &weights, &image),
        &["nano.safetensors", "they fit `nano`"],
    );
}
