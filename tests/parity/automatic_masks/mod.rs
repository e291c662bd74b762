//! Masks of everything against `automatic_mask_generator.py`: an image with its crops, and masks
//! that are asked for again.

use burn::prelude::*;
use burn_love::sam2::{AutomaticMasks, AutomaticMasksConfig, Sam2, run_length::RunLengths, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};
use image::RgbImage;

use crate::{Cpu, IMAGE_MODEL, image_path, report};

/// Pixels of a mask whose logits are too close to the threshold to be told apart, as a share of the image.
const UNDECIDED: f64 = 1e-3;

#[test]
fn every_mask_agrees() {
    let device = Default::default();
    let fixture = Fixture::load("automatic_masks");
    let data = fixture.data("image");
    let size = [data.shape[0], data.shape[1]];
    let bytes = data.iter::<f32>().map(|byte| byte as u8).collect();
    let image = RgbImage::from_raw(size[1] as u32, size[0] as u32, bytes).expect("bytes of an image");
    let model: Sam2<Cpu> = fixture.load_into(image_path::config().init(&device), to_checkpoint);

    let mut errors = Vec::new();
    for (name, config) in cases() {
        let thresholds: Vec<f32> = fixture.data(&format!("{name}.thresholds")).iter().collect();
        let config = config
            .with_min_iou(thresholds[0])
            .with_min_stability(thresholds[1])
            .with_mask_threshold(thresholds[2]);
        let mut clicks = (0, 0);
        let found = AutomaticMasks::new(model.clone(), config)
            .generate(&image, |done, all| clicks = (done, all))
            .expect("an image");
        assert_eq!(clicks.0, clicks.1, "{name}: all clicks are made");

        let expected = |key: &str| fixture.tensor::<Cpu, 2>(&format!("{name}.{key}"), &device);
        let [count, _] = expected("bbox").dims();
        assert_eq!(found.len(), count, "{name}: masks");
        let mut compare = |key: &str, rows: Vec<Vec<f32>>, bound: f64| {
            let expected = expected(key);
            let rows = TensorData::new(rows.concat(), expected.dims());
            let found = Tensor::<Cpu, 2>::from_data(rows, &device);
            errors.push(assert_close(&format!("{name}.{key}"), found, expected, bound));
        };
        // Upstream writes boxes as corner and size.
        let sized = |[x0, y0, x1, y1]: [u32; 4]| [x0, y0, x1 - x0, y1 - y0].map(|side| side as f32).to_vec();
        let rows = |row: fn(&burn_love::sam2::AutomaticMask) -> Vec<f32>| found.iter().map(row).collect();
        compare(
            "bbox",
            found.iter().map(|mask| sized(mask.corners)).collect(),
            0.0,
        );
        compare(
            "crop_box",
            found.iter().map(|mask| sized(mask.crop)).collect(),
            0.0,
        );
        compare("point_coords", rows(|mask| mask.point.to_vec()), IMAGE_MODEL);
        compare("predicted_iou", rows(|mask| vec![mask.iou]), IMAGE_MODEL);
        // A ratio of pixel counts: one undecided pixel is worth more than the bound of values.
        compare("stability_score", rows(|mask| vec![mask.stability]), 1e-2);

        for (i, mask) in found.iter().enumerate() {
            let counts = fixture.data(&format!("{name}.{i}.counts")).iter::<f32>();
            let expected = RunLengths {
                size,
                counts: counts.map(|run| run as usize).collect(),
            };
            assert_eq!(mask.mask.size, size);
            let pixels = mask.mask.decode().into_iter().zip(expected.decode());
            let different = pixels.filter(|(a, b)| a != b).count();
            let most = (UNDECIDED * (size[0] * size[1]) as f64) as usize;
            assert!(different <= most, "{name}, mask {i}: {different} pixels differ");
        }
    }
    report("automatic_masks", &errors);
}

/// The generator's cases, but for the thresholds, which the fixture holds.
fn cases() -> [(&'static str, AutomaticMasksConfig); 2] {
    [
        (
            "crops",
            AutomaticMasksConfig::new()
                .with_points_per_side(4)
                .with_points_per_batch(7)
                .with_max_overlap(0.8)
                .with_crop_layers(1)
                .with_crop_points_divisor(2)
                .with_max_crop_overlap(0.6)
                .with_min_region_area(4),
        ),
        (
            "refined",
            AutomaticMasksConfig::new()
                .with_points_per_side(5)
                .with_max_overlap(0.8)
                .with_refine(true)
                .with_multimask(false)
                .with_stable_single(false),
        ),
    ]
}
