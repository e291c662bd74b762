//! A model, an image and a video of other sizes than in the other cases of whole models, against `SAM2ImagePredictor`
//! and `SAM2VideoPredictor` with all post-processing.

use burn::prelude::*;
use burn_love::{
    preprocess::sam2_pixels,
    sam2::{
        Direction, ImagePrompt, MemoryConfig, PointLabel, PointPrompt, Sam2Config, VideoConfig,
        hiera::HieraConfig, mask_decoder::MaskDecoderConfig, memory_attention::MemoryAttentionConfig,
        memory_encoder::MemoryEncoderConfig,
    },
};
use burn_love_tests::Fixture;
use image::RgbImage;

use crate::{
    Cpu, IMAGE_MODEL, TRACKED, UNROUNDED, image_predictor,
    session::{self, Interaction},
};

/// Side of the model's input.
const SIDE: usize = 128;

/// The model of this case.
fn config() -> Sam2Config {
    Sam2Config::new()
        .with_image_size(SIDE)
        .with_model_width(48)
        .with_memory_width(12)
        .with_hiera(
            HieraConfig::new()
                .with_width(6)
                .with_heads(2)
                .with_stages([2, 1, 3, 1])
                .with_windows([4, 8, 6, 3])
                .with_global_blocks(vec![1, 5])
                .with_position_background([7, 7]),
        )
        .with_memory_attention(
            MemoryAttentionConfig::new()
                .with_layers(1)
                .with_heads(2)
                .with_feedforward(40),
        )
        .with_memory_encoder(
            MemoryEncoderConfig::new()
                .with_mask_kernel(3)
                .with_mask_stride(4)
                .with_mask_padding(1)
                .with_fuser_layers(1)
                .with_fuser_kernel(5),
        )
        .with_mask_decoder(
            MaskDecoderConfig::new()
                .with_heads(6)
                .with_mlp_width(40)
                .with_iou_head_width(20),
        )
        .with_memory(MemoryConfig::new().with_frames(3).with_max_object_pointers(3))
}

#[test]
fn answers_about_an_image_agree() {
    check_image::<Cpu>(&Default::default(), IMAGE_MODEL);
}

#[test]
fn answers_about_a_video_agree() {
    check_video::<Cpu>(video(), &Default::default(), TRACKED);
}

#[test]
fn unrounded_memories_agree() {
    check_video::<Cpu>(video().with_round_memory(false), &Default::default(), UNROUNDED);
}

/// Compares candidates for a click, single masks for it with an earlier mask and for two boxes; the candidates only
/// where the bound leaves open which masks are stable.
pub fn check_image<B: Backend>(device: &B::Device, bound: f64) {
    let case = image_predictor::Case {
        name: "other_geometry",
        config: config(),
        prompts: if bound <= IMAGE_MODEL {
            all_prompts
        } else {
            |_, _| vec![("image.click", true, click())]
        },
        cleaned: None,
    };
    image_predictor::check_case::<B>(case, device, bound);
}

fn all_prompts<B: Backend>(fixture: &Fixture, device: &B::Device) -> image_predictor::Asked<B> {
    let earlier: Tensor<B, 4> = fixture.tensor("image.click.low", device);
    let earlier = earlier.narrow(1, 0, 1);
    let boxes = ImagePrompt::new()
        .with_box([3.0, 12.5, 28.0, 80.0])
        .with_box([10.0, 40.0, 21.0, 99.0]);
    vec![
        ("image.click", true, click()),
        ("image.click.mask", false, click().with_mask(earlier)),
        ("image.boxes", false, boxes),
    ]
}

fn click<B: Backend>() -> ImagePrompt<B> {
    ImagePrompt::new().with_point([20.0, 61.5], true)
}

/// What `build_sam2_video_predictor` makes, and the clip's size and length.
pub fn video() -> VideoConfig {
    VideoConfig::new([45, 77]).with_frames(Some(6))
}

/// Compares two objects through the clip.
pub fn check_video<B: Backend>(video: VideoConfig, device: &B::Device, bound: f64) {
    let case = session::Case {
        name: "other_geometry",
        config: &config(),
        pixels: frames,
        steps: |run: &mut Interaction<'_, B>| {
            let click = PointPrompt::new().point([14.0, 12.0], PointLabel::Positive);
            run.points("click", 0, 1, click);
            let bounds = PointPrompt::new().bounds([45.5, 17.0, 70.0, 41.0]);
            run.points("box", 1, 2, bounds);
            run.track("forward", 0..6, Direction::Forward, &[1, 2]);
            let outside = PointPrompt::new().point([-6.0, 58.0], PointLabel::Positive);
            run.points("outside", 4, 1, outside);
        },
    };
    session::check_case::<B>(&case, video, device, bound);
}

/// The clip's bytes as the video loader prepares them.
fn frames<B: Backend>(fixture: &Fixture, device: &B::Device) -> Tensor<B, 4> {
    let data = fixture.data("frames");
    let (height, width) = (data.shape[1], data.shape[2]);
    let bytes: Vec<u8> = data.iter::<f32>().map(|byte| byte as u8).collect();
    let pixels: Vec<f32> = bytes
        .chunks_exact(3 * height * width)
        .flat_map(|frame| {
            let frame = RgbImage::from_raw(width as u32, height as u32, frame.to_vec());
            sam2_pixels(&frame.expect("bytes of a frame"), SIDE)
        })
        .collect();
    Tensor::from_data(TensorData::new(pixels, [data.shape[0], 3, SIDE, SIDE]), device)
}
