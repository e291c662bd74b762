//! Overfitting: the whole model learns a few clips by heart, and listens to the sentence while it does.

use burn::prelude::*;
use burn_flex::Flex;
use burn_love::{love::Sam2Love, ops::resize_bilinear};
use burn_love_train::{
    data::{RefAvs, Row, Split},
    metrics::iou,
    samples::Preparer,
};

use crate::data::{alone, config, few_clips, run};

type Inference = Flex;
type Training = burn::backend::Autodiff<Flex>;

/// IoU of the first frame with `row`'s mask when `expression` is asked.
fn first_frame_iou(
    model: &Sam2Love<Inference>,
    data: &RefAvs,
    preparer: &Preparer,
    row: &Row,
    expression: &str,
) -> f64 {
    let device = Default::default();
    let frames = data.frames(row).unwrap();
    let asked = Row {
        expression: expression.to_owned(),
        ..row.clone()
    };
    let clip = preparer.clip(data, &asked, &frames).unwrap();
    let s = preparer.sam2_size;
    let prompt = model.prompt(preparer.clip_input(&[&clip], &device));
    let pixels = TensorData::new(preparer.sam2_pixels(&frames[0]), [1, 3, s, s]);
    let output = model
        .track(prompt, Some(frames.len()))
        .next_frame(Tensor::from_data(pixels, &device));
    let (w, h) = frames[0].dimensions();
    let logits = resize_bilinear(output.low_res_logits, [h as usize, w as usize]);
    let predicted: Vec<bool> = logits
        .into_data()
        .to_vec::<f32>()
        .unwrap()
        .into_iter()
        .map(|x| x > 0.0)
        .collect();
    let mask = data.mask(row, 0, (w, h)).unwrap();
    let label: Vec<bool> = mask.pixels().map(|pixel| pixel.0[0] > 0).collect();
    iou(&predicted, &label)
}

/// J of the first frame: with the right texts, and with those of the clip's other object.
fn judge(model: &Sam2Love<Inference>, data: &RefAvs, preparer: &Preparer) -> (f64, f64) {
    let rows: Vec<&Row> = data
        .split(Split::Train)
        .into_iter()
        .filter(|row| !row.is_null())
        .collect();
    let (mut right, mut shuffled) = (0.0, 0.0);
    for pair in rows.chunks(2) {
        for (row, other) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            right += first_frame_iou(model, data, preparer, row, &row.expression);
            shuffled += first_frame_iou(model, data, preparer, row, &other.expression);
        }
    }
    (right / rows.len() as f64, shuffled / rows.len() as f64)
}

#[allow(clippy::print_stdout, reason = "the figures that the test is about")]
fn learns(clips: usize, size: (u32, u32), settings: &[&str]) {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let data = few_clips(&root.path().join("data"), clips, size);
    let config = config(settings);
    let preparer = Preparer::new(&config).unwrap();
    let began = std::time::Instant::now();
    let model = run(&config, &data, &root.path().join("run"), false)
        .train::<Training>(&Default::default())
        .unwrap();
    let (right, shuffled) = judge(&model, &data, &preparer);
    println!(
        "{clips} clips, {:.0} s: J {right:.3}, with the texts shuffled {shuffled:.3}",
        began.elapsed().as_secs_f64()
    );
    assert!(
        right >= 0.85,
        "expected J ≥ 0.85 on the right object, found {right:.3}"
    );
    assert!(
        shuffled <= 0.5,
        "expected J ≤ 0.5 with the texts shuffled, found {shuffled:.3}"
    );
}

/// Three clips and a small image: minutes in CI.
#[test]
fn a_small_model_learns_three_clips_by_heart() {
    learns(
        3,
        (96, 64),
        &[
            "train.steps=220",
            "train.batch_size=9",
            "train.tracked_frames=0",
            "sam2.model.image_size=64",
            "encoders.vision.patch_size=16",
        ],
    );
}

/// The nano preset, by hand: `cargo test --release -p burn-love-tests --test learning -- --ignored nano`.
#[test]
#[ignore = "long: half an hour on two cores"]
fn nano_learns_eight_clips_by_heart() {
    learns(8, (224, 128), &["train.steps=700", "train.tracked_frames=0"]);
}
