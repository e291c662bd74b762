//! What the encoders' cases share.

use std::path::{Path, PathBuf};

use burn::{prelude::*, tensor::DType};
use burn_love::{
    encoders::{TextConfig, TextEncoder, TextTower, TokenBatch, VisionConfig, VisionEncoder, VisionTower},
    weights::{EncoderFile, TensorSource, keys},
};
use burn_love_tests::{Fixture, assert_close};
use image::RgbImage;

/// A file beside the case's generator.
pub fn beside(case: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("parity")
        .join(case)
        .join(name)
}

/// A vision encoder with the weights of a file, all of whose tensors are used or among `ignored`.
pub fn load_vision<B: Backend>(
    config: &VisionConfig,
    path: &Path,
    ignored: usize,
    device: &B::Device,
) -> VisionTower<B> {
    let file = EncoderFile::open(path, config.kind.into()).unwrap();
    let (model, _) = file.load_into(config.init(device), keys::vision).unwrap();
    assert_eq!(file.ignored().len(), ignored, "{:?}", file.ignored());
    model
}

/// As [`load_vision`], for texts.
pub fn load_text<B: Backend>(
    config: &TextConfig,
    path: &Path,
    ignored: usize,
    device: &B::Device,
) -> TextTower<B> {
    let file = EncoderFile::open(path, config.kind.into()).unwrap();
    let (model, report) = file.load_into(config.init(device), keys::text).unwrap();
    assert_eq!(report.applied.len(), file.keys().len());
    assert_eq!(file.ignored().len(), ignored, "{:?}", file.ignored());
    model
}

/// Compares the hidden state of the fixture's `images` with `expected`, one image at a time: they may differ in scale.
pub fn check_images<B: Backend>(
    fixture: &Fixture,
    expected: &str,
    model: &VisionTower<B>,
    device: &B::Device,
    bound: f64,
) -> Vec<f64> {
    let images: Tensor<B, 4> = fixture.tensor("images", device);
    let expected: Tensor<B, 3> = fixture.tensor(expected, device);
    let hidden = model.encode_image(images).hidden();
    let pick = |x: &Tensor<B, 3>, i| x.clone().narrow(0, i, 1);
    (0..2)
        .map(|i| assert_close("hidden", pick(&hidden, i), pick(&expected, i), bound))
        .collect()
}

/// Compares the hidden state of the fixture's `ids` with `expected`, padding included.
pub fn check_texts<B: Backend>(
    fixture: &Fixture,
    expected: &str,
    model: &TextTower<B>,
    device: &B::Device,
    bound: f64,
) -> f64 {
    let ids: Tensor<B, 2> = fixture.tensor("ids", device);
    let mask: Tensor<B, 2> = fixture.tensor("mask", device);
    let tokens = TokenBatch {
        input_ids: ids.int(),
        padding: mask.equal_elem(0.0),
    };
    assert_ne!(tokens.input_ids.dtype(), DType::F32);
    let expected: Tensor<B, 3> = fixture.tensor(expected, device);
    assert_close("hidden", model.encode_text(tokens), expected, bound)
}

/// Compares pixels made of the fixture's pictures: the same bytes, so that only the normalisation rounds.
pub fn check_pixels(fixture: &Fixture, prepare: impl Fn(&RgbImage) -> Vec<f32>) {
    let pictures: Vec<_> = fixture.names("picture.").collect();
    assert!(!pictures.is_empty());
    for name in pictures {
        let data = fixture.data(name);
        let bytes = data.iter::<f32>().map(|value| value as u8).collect();
        let (height, width) = (data.shape[0] as u32, data.shape[1] as u32);
        let picture = RgbImage::from_raw(width, height, bytes).unwrap();
        let expected = fixture.data(&name.replace("picture", "pixels"));
        let found = prepare(&picture);
        assert_eq!(found.len(), expected.num_elements(), "{name}");
        assert!(found.iter().all(|x| x.is_finite()), "{name}");
        let error = found
            .iter()
            .zip(expected.iter::<f32>())
            .map(|(found, expected)| (found - expected).abs())
            .fold(0.0, f32::max);
        assert!(error <= 1e-6, "{name}: {error:.2e}");
    }
}
