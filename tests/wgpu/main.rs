//! The whole model on WGPU: the same masks as on the CPU, frame by frame.

use std::{path::Path, time::Instant};

use burn::{backend::Autodiff, prelude::*, tensor::backend::AutodiffBackend};
use burn_flex::Flex;
use burn_love::{
    encoders::{TokenBatch, VggishConfig},
    love::{ClipInput, LoveConfig, Sam2Love},
    ops::attention,
    weights::{State, keys, load_state, state_of},
};
use burn_love_tests::wgpu::{Gpu, claim};
use burn_love_train::{
    config::{Config, Source, resolve},
    metrics::iou,
    samples::Preparer,
};

/// Frames of the clip: one prompted, the others tracked.
const FRAMES: usize = 3;

/// The smallest agreement of a frame's masks.
const IOU: f64 = 0.98;

/// The largest difference of a frame's logits, of the largest of them.
const DIFFERENCE: f32 = 1e-4;

/// Side of SAM 2's frames.
const SIZE: usize = 64;

/// The nano model with most widths made equal: a software adapter compiles a kernel for every shape of product.
fn config() -> Config {
    let settings = [
        "sam2.object_gate=false",
        "sam2.model.image_size=64",
        "sam2.model.model_width=32",
        "sam2.model.memory_width=32",
        "sam2.model.hiera.width=8",
        "sam2.model.hiera.stages=[1, 1, 1, 1]",
        "sam2.model.hiera.global_blocks=[2]",
        "sam2.model.hiera.mlp_ratio=2.0",
        "sam2.model.memory_attention.layers=1",
        "sam2.model.memory_attention.feedforward=32",
        "sam2.model.mask_decoder.depth=1",
        "sam2.model.mask_decoder.mlp_width=32",
        "sam2.model.mask_decoder.iou_head_width=32",
        "encoders.audio.hidden=32",
        "encoders.audio.embedding=32",
        "encoders.vision.image_size=32",
        "encoders.vision.layers=1",
        "encoders.vision.width=32",
        "encoders.vision.heads=1",
        "encoders.vision.mlp_width=32",
        "encoders.text.layers=1",
        "encoders.text.width=32",
        "encoders.text.heads=1",
        "encoders.text.mlp_width=32",
        "fusion.layers=1",
        "fusion.width=32",
        "fusion.projection_width=32",
        "fusion.heads=1",
    ];
    let sources: Vec<_> = std::iter::once(Source::Preset("nano".into()))
        .chain(settings.iter().map(|set| Source::Set((*set).into())))
        .collect();
    resolve(&sources).expect("a valid config")
}

/// `n` frames of waves that drift, `[n, 3, side, side]`.
fn waves(n: usize, side: usize) -> TensorData {
    let mut values = Vec::with_capacity(n * 3 * side * side);
    for frame in 0..n {
        for channel in 0..3 {
            for i in 0..side * side {
                let (x, y) = ((i % side) as f32 / side as f32, (i / side) as f32 / side as f32);
                let (t, c) = (frame as f32 * 0.2, channel as f32);
                values.push((7.0 * x + c + t).sin() + (5.0 * y - 2.0 * c * x + t).cos());
            }
        }
    }
    TensorData::new(values, [n, 3, side, side])
}

/// What both backends see and hear.
fn clip<B: Backend>(config: &Config, device: &B::Device) -> ClipInput<B> {
    let preparer = Preparer::new(config).expect("an embedded tokenizer");
    let tokens = preparer
        .tokens("the loudest object on the left")
        .expect("a sentence");
    let ids: Vec<i32> = tokens.ids.iter().map(|id| *id as i32).collect();
    let padding: Vec<bool> = (0..ids.len()).map(|i| i >= tokens.length).collect();
    let mel = [1, 1, VggishConfig::FRAMES, VggishConfig::BANDS];
    let loudness = (0..mel.iter().product::<usize>()).map(|i| (i as f32 * 0.37).sin() - 2.0);
    let side = config.model.encoders.vision.image_size;
    ClipInput {
        log_mel: Tensor::from_data(TensorData::new(loudness.collect::<Vec<f32>>(), mel), device),
        vit_pixels: Tensor::<B, 4>::from_data(waves(FRAMES, side), device).unsqueeze(),
        tokens: TokenBatch {
            input_ids: Tensor::from_data(TensorData::new(ids, [1, tokens.ids.len()]), device),
            padding: Tensor::from_data(TensorData::new(padding, [1, tokens.ids.len()]), device),
        },
    }
}

/// Mask logits of every frame.
fn masks<B: Backend>(config: &Config, state: &State, device: &B::Device) -> Vec<Vec<f32>> {
    let love: &LoveConfig = &config.model;
    let (model, report) = load_state(
        love.init::<B>(device),
        state,
        keys::love,
        Path::new("the CPU's model"),
    )
    .expect("the same shapes");
    report
        .complete(Path::new("the CPU's model"))
        .expect("the same parameters");
    let prompt = model.prompt(clip(config, device));
    let mut session = model.track(prompt, Some(FRAMES));
    let pixels = Tensor::<B, 4>::from_data(waves(FRAMES, SIZE), device);
    (0..FRAMES)
        .map(|i| session.next_frame(pixels.clone().narrow(0, i, 1)).low_res_logits)
        .map(|logits| logits.into_data().to_vec().expect("f32 logits"))
        .collect()
}

/// Attention of 576 queries to 7 keys, its gradients by the queries, keys and values among the outputs.
fn attended<B: AutodiffBackend>(width: usize, device: &B::Device) -> Vec<f32> {
    let waves = |seed: usize, rows: usize| {
        let shape = [1, 2, rows, width];
        let n = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7 + seed as f32).sin()).collect();
        Tensor::<B, 4>::from_data(TensorData::new(values, shape), device).require_grad()
    };
    let inputs = [waves(1, 576), waves(2, 7), waves(3, 7)];
    let [q, k, v] = inputs.clone();
    let output = attention(q, k, v, None);
    let gradients = (output.clone() * waves(4, 576)).sum().backward();
    let mut values: Vec<f32> = output.into_data().to_vec().expect("f32");
    for input in &inputs {
        let gradient = input.grad(&gradients).expect("every input has a say");
        values.extend(gradient.into_data().to_vec::<f32>().expect("f32"));
    }
    values
}

/// Widths of heads at odd multiples of 8, base-plus's 56 and large's 72 among them: CubeCL 0.10's double-buffered products
/// read beyond their ends there (book, Devices).
#[test]
fn heads_of_every_width_attend_as_on_the_cpu() {
    let Some((_alone, gpu)) = claim() else { return };
    for width in [8, 12, 16, 24, 56, 72] {
        let expected = attended::<Autodiff<Flex>>(width, &Default::default());
        let actual = attended::<Autodiff<Gpu>>(width, &gpu);
        assert_eq!(actual.len(), expected.len());
        assert!(
            actual.iter().all(|x| x.is_finite()),
            "width {width} is not finite"
        );
        let size = expected.iter().fold(0.0f32, |size, x| size.max(x.abs()));
        let differences = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let difference = differences.fold(0.0, f32::max);
        assert!(
            difference < 1e-5 * size,
            "width {width}: off by {difference:.1e} of {size:.1e}"
        );
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "the figures that the test is about")]
fn every_frame_has_the_mask_of_the_cpu() {
    let Some((_alone, gpu)) = claim() else { return };
    let config = config();
    let cpu = Default::default();
    Flex::seed(&cpu, 7);
    let model: Sam2Love<Flex> = config.model.init(&cpu);
    let state = state_of(&model, keys::love);

    let expected = masks::<Flex>(&config, &state, &cpu);
    let began = Instant::now();
    let actual = masks::<Gpu>(&config, &state, &gpu);
    eprintln!("wgpu: {FRAMES} frames in {:.0} s", began.elapsed().as_secs_f32());

    let mut shaped = 0;
    for (i, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        let binary = |logits: &[f32]| logits.iter().map(|x| *x > 0.0).collect::<Vec<bool>>();
        let (mask, label) = (binary(actual), binary(expected));
        let inside = label.iter().filter(|x| **x).count();
        let agreement = iou(&mask, &label);
        let difference = actual.iter().zip(expected).map(|(a, b)| (a - b).abs());
        let difference = difference.fold(0.0, f32::max);
        let size = expected.iter().fold(0.0f32, |size, x| size.max(x.abs()));
        eprintln!(
            "frame {i}: {inside} of {} pixels, IoU {agreement:.4}, max |Δlogit| {difference:.1e} of {size:.1e}",
            label.len()
        );
        assert!(actual.iter().all(|x| x.is_finite()), "frame {i} is not finite");
        assert!(
            difference <= DIFFERENCE * size,
            "frame {i}: logits off by {difference:.1e} of {size:.1e}"
        );
        if inside > 0 {
            assert!(agreement >= IOU, "frame {i}: IoU {agreement:.4}");
        }
        let margin = label.len() / 20;
        shaped += usize::from((margin..label.len() - margin).contains(&inside));
    }
    assert!(shaped > 0, "no frame has a mask that is neither empty nor full");
}
