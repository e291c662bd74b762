//! Predictions of an untrained nano model, their files, and the pictures.

use std::path::{Path, PathBuf};

use burn_flex::Flex;
use burn_love::love::Sam2Love;
use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};

use super::*;
use crate::{
    config::{Config, Source, resolve},
    samples::SampleError,
    synth,
};

fn model() -> (Config, Sam2Love<Flex>) {
    let sources = ["sam2.model.image_size=64", "sam2.object_gate=false"];
    let sources = sources.map(|set| Source::Set(set.into()));
    let config = resolve(&[&[Source::Preset("nano".into())], &sources[..]].concat()).unwrap();
    let model = config.model.init(&Default::default());
    (config, model)
}

fn frames(count: u32) -> Vec<RgbImage> {
    (0..count)
        .map(|t| {
            RgbImage::from_fn(72, 40, |x, y| {
                Rgb([(x * 3) as u8, (y * 5) as u8, if x / 8 == t { 255 } else { 40 }])
            })
        })
        .collect()
}

/// Background noise in a file of `folder`.
fn wav(folder: &Path, seconds: usize) -> PathBuf {
    use rand::SeedableRng;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let length = seconds * synth::SAMPLE_RATE as usize;
    let mut bytes = std::io::Cursor::new(Vec::new());
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: synth::SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for sample in synth::background(length, &mut rng) {
        writer.write_sample((sample * 32768.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    let path = folder.join("audio.wav");
    std::fs::write(&path, bytes.into_inner()).unwrap();
    path
}

#[test]
fn a_clip_of_any_length_gives_files_of_its_own_size() {
    let (config, model) = model();
    let sounds = tempfile::tempdir().unwrap();
    for (count, audio) in [(3, None), (12, Some(wav(sounds.path(), 12)))] {
        let request = PredictRequest {
            audio,
            ..PredictRequest::new(frames(count), "the loudest object")
        };
        let prediction = predict(&model, &config, request.clone(), &Default::default()).unwrap();
        assert_eq!(prediction.found.len(), count as usize);
        let out = tempfile::tempdir().unwrap();
        let out = out.path().join("out");
        prediction.write(&out, &Format::ALL).unwrap();
        for t in 0..count {
            for folder in ["masks", "overlays"] {
                let image = image::open(out.join(folder).join(format!("{t:05}.png"))).unwrap();
                assert_eq!((image.width(), image.height()), (72, 40));
            }
        }
        let mask = image::open(out.join("masks/00000.png")).unwrap();
        let mask = mask.as_luma8().expect("one channel");
        assert!(mask.iter().all(|value| [0, 255].contains(value)));
        let covered = mask.iter().filter(|value| **value == 255).count() as f64 / f64::from(72 * 40);
        assert!((covered - prediction.found[0].area).abs() < 1e-9);

        let gif = std::fs::File::open(out.join("overlay.gif")).unwrap();
        let gif = image::codecs::gif::GifDecoder::new(std::io::BufReader::new(gif)).unwrap();
        let pictures = image::AnimationDecoder::into_frames(gif)
            .collect_frames()
            .unwrap();
        assert_eq!(pictures.len(), count as usize);

        let json = std::fs::read_to_string(out.join("result.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["text"], "the loudest object");
        assert_eq!(json["frames"].as_array().unwrap().len(), count as usize);
        assert_eq!(json["audio"].is_null(), request.audio.is_none());
        for frame in json["frames"].as_array().unwrap() {
            for field in ["presence", "area"] {
                assert!((0.0..=1.0).contains(&frame[field].as_f64().unwrap()), "{frame}");
            }
        }
    }
}

#[test]
fn bad_requests_are_errors_that_name_what_is_wrong() {
    let (config, model) = model();
    let sounds = tempfile::tempdir().unwrap();
    let error = |request: PredictRequest| {
        let error = predict(&model, &config, request, &Default::default()).unwrap_err();
        error.to_string()
    };
    let short = PredictRequest {
        audio: Some(wav(sounds.path(), 2)),
        ..PredictRequest::new(frames(4), "the object")
    };
    assert!(error(short).contains("audio.wav: expected at least 4.00 s"));
    assert!(error(PredictRequest::new(frames(2), " ")).contains("empty"));
    assert!(error(PredictRequest::new(Vec::new(), "the star")).contains("at least one frame"));
    let mut uneven = frames(2);
    uneven[1] = RgbImage::new(8, 8);
    assert!(error(PredictRequest::new(uneven, "the star")).contains("72×40"));
}

#[test]
fn frames_are_read_in_natural_order() {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, red: u8| {
        RgbImage::from_pixel(4, 4, Rgb([red, 0, 0]))
            .save_with_format(folder.path().join(name), ImageFormat::Png)
            .unwrap();
    };
    for (name, red) in [
        ("10.png", 3),
        ("9.png", 1),
        ("frame.PNG", 4),
        ("009b.jpeg", 2),
        ("1.jpg", 0),
    ] {
        save(name, red);
    }
    std::fs::write(folder.path().join("notes.txt"), "no frame").unwrap();
    let reds: Vec<u8> = read_frames(folder.path())
        .unwrap()
        .iter()
        .map(|frame| frame.get_pixel(0, 0).0[0])
        .collect();
    assert_eq!(reds, [0, 1, 2, 3, 4]);
}

#[test]
fn unusable_frames_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| {
        let error = read_frames(path).unwrap_err();
        assert!(
            matches!(error, SampleError::Frames { .. }) && error.hint().is_some(),
            "{error}"
        );
        error.to_string()
    };
    assert!(
        message(&folder.path().join("nowhere"))
            .contains("nowhere: expected a folder of frames, found nothing")
    );
    assert!(message(folder.path()).contains("expected .jpg or .png frames, found none"));
    RgbImage::new(4, 4).save(folder.path().join("0.png")).unwrap();
    RgbImage::new(5, 4).save(folder.path().join("1.png")).unwrap();
    let size = message(folder.path());
    assert!(
        size.contains("1.png: expected 4×4") && size.contains("found 5×4"),
        "{size}"
    );
    std::fs::write(folder.path().join("1.png"), "not a picture").unwrap();
    assert!(message(folder.path()).contains("1.png: expected a decodable frame"));
}

#[test]
fn an_overlay_tints_the_mask_and_draws_its_rim() {
    let frame = RgbImage::from_pixel(9, 9, Rgb([100; 3]));
    let mask = GrayImage::from_fn(9, 9, |x, y| {
        Luma([255 * u8::from((2..7).contains(&x) && (2..7).contains(&y))])
    });
    let picture = overlay(&frame, &mask, OBJECT_COLOUR);
    let at = |x, y| picture.get_pixel(x, y).0;
    assert_eq!(at(0, 0), [100; 3], "outside");
    assert_eq!(at(2, 4), OBJECT_COLOUR, "rim");
    assert!(at(1, 4)[0] < 50, "dark line around");
    assert!(at(4, 4)[0] > 150 && at(4, 4)[1] < 100, "tinted inside");
    assert_eq!(overlay(&frame, &GrayImage::new(9, 9), OBJECT_COLOUR), frame);

    let mut outlined = frame.clone();
    outline(&mut outlined, &mask, TRUTH_COLOUR);
    assert_eq!(
        (outlined.get_pixel(2, 2).0, outlined.get_pixel(4, 4).0),
        (TRUTH_COLOUR, [100; 3])
    );
}

#[test]
fn a_contact_sheet_holds_every_frame() {
    let frames: Vec<RgbImage> = (0..5)
        .map(|i| RgbImage::from_pixel(6, 4, Rgb([i * 10; 3])))
        .collect();
    let sheet = contact_sheet(&frames, 3);
    assert_eq!(sheet.dimensions(), (3 * 6 + 2 * 4, 2 * 4 + 4));
    assert_eq!(sheet.get_pixel(10, 0).0, [10; 3]);
    assert_eq!(sheet.get_pixel(10, 8).0, [40; 3]);
    assert_eq!(sheet.get_pixel(7, 0).0, [255; 3]);
    assert_eq!(contact_sheet(&[], 3).dimensions(), (0, 0));
    assert_eq!(contact_sheet(&frames[..1], 9).dimensions(), (6, 4));
}
