//! `sam2 image`: masks in a still image.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use burn::prelude::*;
use burn_love::{
    sam2::{ImagePredictor, ImagePredictorConfig, ImagePrompt, Sam2Config, image_predictor::PromptError},
    weights::{State, TensorSource, WeightsFile, write_safetensors},
};
use burn_love_train::prediction::{OBJECT_COLOUR, overlay};
use image::{GrayImage, ImageBuffer, Luma, RgbImage, imageops};
use serde_json::json;

use super::{everything, model, picture};
use crate::{
    args::{Global, Sam2ImageArgs},
    device::{Device, with_backend},
    error::CliError,
    output, printer,
};

/// What `sam2 image` writes.
pub const OWN: &[&str] = &["masks", "overlays", "result.json"];

/// Name of the logits in a `--tensors` file.
const LOGITS: &str = "low_res_logits";

/// Logit of a pixel of a mask that comes as a picture.
const PICTURE_LOGIT: f32 = 10.0;

/// What the model answers, on the host.
struct Answer {
    /// `[M, h, w]`, within ±32.
    low_res_logits: TensorData,
    /// Predicted IoU of each mask.
    iou: Vec<f32>,
    object_score: f32,
    /// 0 and 255, at the image's resolution.
    masks: Vec<GrayImage>,
    load: Duration,
    encode: Duration,
    decode: Duration,
}

/// Runs `sam2 image`.
pub fn run(args: &Sam2ImageArgs, global: &Global) -> Result<(), CliError> {
    let config = model::config(&args.model);
    let prompted = !args.point.is_empty() || args.corners.is_some() || args.mask.is_some();
    if !prompted && !args.everything {
        return Err(
            CliError::input("no prompt: expected --point, --box, --mask or --everything")
                .hint("--point 120,80,1 is a click at x = 120, y = 80"),
        );
    }
    let image = picture::read(&args.image)?.to_rgb8();
    if args.everything {
        return everything::run(args, &config, &image, global);
    }
    let mask = match &args.mask {
        Some(path) => Some(read_mask(path, config.mask_size(), image.dimensions())?),
        None => None,
    };
    if let Some(path) = &args.tensors {
        output::prepare_file(path, global.overwrite)?;
    }
    let device = global.probe()?;
    output::check(&args.out, global.overwrite)?;
    let name = device.to_string();
    let answer = answer(args, &config, &image, mask, device)?;
    output::prepare(&args.out, global.overwrite, OWN)?;

    let draw = |mask: &GrayImage| overlay(&image, mask, OBJECT_COLOUR);
    write_pictures(
        &args.out,
        &answer.masks,
        &answer.masks.iter().map(draw).collect::<Vec<_>>(),
    )?;
    if let Some(path) = &args.tensors {
        write_tensors(path, &answer)?;
    }
    let report = report(args, &image, &answer, &name);
    let text = serde_json::to_string_pretty(&report).expect("plain values");
    output::write(&args.out.join("result.json"), &(text.clone() + "\n"))?;
    if args.json {
        printer::data(text);
        return Ok(());
    }
    for (i, (mask, iou)) in answer.masks.iter().zip(&answer.iou).enumerate() {
        let share = 100.0 * area(mask) as f64 / f64::from(image.width() * image.height());
        let path = args.out.join(mask_name(i));
        printer::data(format_args!(
            "mask {i}: {share:.1} % of the image, predicted IoU {iou:.3}: {}",
            path.display()
        ));
    }
    Ok(())
}

fn answer(
    args: &Sam2ImageArgs,
    config: &Sam2Config,
    image: &RgbImage,
    mask: Option<TensorData>,
    device: Device,
) -> Result<Answer, CliError> {
    with_backend!(device, |B, at| answer_on::<B>(args, config, image, mask, &at))
}

fn answer_on<B: Backend>(
    args: &Sam2ImageArgs,
    config: &Sam2Config,
    image: &RgbImage,
    mask: Option<TensorData>,
    device: &B::Device,
) -> Result<Answer, CliError> {
    let began = Instant::now();
    let model = model::load_for_images::<B>(config, &args.weights, device)?;
    let predictor = ImagePredictor::new(model, ImagePredictorConfig::new());
    let load = began.elapsed();

    let mut prompt = ImagePrompt::new();
    for (position, inside) in &args.point {
        prompt = prompt.with_point(*position, *inside);
    }
    if let Some(corners) = args.corners {
        prompt = prompt.with_box(corners);
    }
    if let Some(mask) = mask {
        prompt = prompt.with_mask(Tensor::from_data(mask, device));
    }

    let refused = |error: PromptError| CliError::input(format!("{}: {error}", args.image.display()));
    let began = Instant::now();
    let embedded = predictor.embed(image).map_err(refused)?;
    // Devices work asynchronously: what is read back is done.
    drop(embedded.features.neck.stride16.clone().into_data());
    let encode = began.elapsed();

    let began = Instant::now();
    let prediction = predictor
        .predict(&embedded, &prompt, args.multimask)
        .map_err(refused)?;
    let [_, m, h, w] = prediction.low_res_logits.dims();
    let masks = prediction.masks().into_data();
    let pixels: Vec<u8> = masks
        .iter::<bool>()
        .map(|inside| u8::from(inside) * 255)
        .collect();
    let (width, height) = image.dimensions();
    let masks = pixels
        .chunks_exact((width * height) as usize)
        .map(|mask| GrayImage::from_raw(width, height, mask.to_vec()).expect("a mask of the image's size"))
        .collect();
    let floats = |data: TensorData| data.iter::<f32>().collect::<Vec<_>>();
    Ok(Answer {
        low_res_logits: prediction.low_res_logits.reshape([m, h, w]).into_data(),
        iou: floats(prediction.iou.into_data()),
        object_score: floats(prediction.object_score.into_data())[0],
        masks,
        load,
        encode,
        decode: began.elapsed(),
    })
}

/// Reads a mask prompt, `[1, 1, side, side]` logits.
fn read_mask(path: &Path, side: usize, (width, height): (u32, u32)) -> Result<TensorData, CliError> {
    let shape = [1, 1, side, side];
    if path
        .extension()
        .is_some_and(|extension| extension == "safetensors")
    {
        let file = WeightsFile::open(path)?;
        let missing = || CliError::input(format!("{}: expected `{LOGITS}`, found none", path.display()));
        let found = file.info(LOGITS).ok_or_else(missing)?.shape;
        if found.len() != 3 || found[0] == 0 || found[1..] != shape[2..] {
            let message = format!(
                "{}: expected `{LOGITS}` of shape [M, {side}, {side}], found {found:?}",
                path.display()
            );
            return Err(CliError::input(message).hint("masks of another --model have another size"));
        }
        let logits = file.read(LOGITS)?;
        let iou: Vec<f32> = match file.info("iou") {
            Some(_) => file.read("iou")?.iter().collect(),
            None => Vec::new(),
        };
        let best = (0..found[0].min(iou.len())).max_by(|a, b| iou[*a].total_cmp(&iou[*b]));
        let start = best.unwrap_or(0) * side * side;
        let values: Vec<f32> = logits.iter().skip(start).take(side * side).collect();
        return Ok(TensorData::new(values, shape));
    }
    let picture = picture::read(path)?.to_luma8();
    if picture.dimensions() != (width, height) {
        let (w, h) = picture.dimensions();
        let message = format!(
            "{}: expected a mask of the image's size, {width}×{height}, found {w}×{h}",
            path.display()
        );
        return Err(CliError::input(message));
    }
    // As the video predictor takes masks: 0 and 1, made smaller with antialiasing, to logits of ±10.
    let binary = ImageBuffer::<Luma<f32>, _>::from_fn(width, height, |x, y| {
        Luma([f32::from(u8::from(picture.get_pixel(x, y).0[0] > 127))])
    });
    let small = imageops::resize(&binary, side as u32, side as u32, imageops::FilterType::Triangle);
    let logits = small
        .into_raw()
        .into_iter()
        .map(|share| (2.0 * share - 1.0) * PICTURE_LOGIT);
    Ok(TensorData::new(logits.collect::<Vec<f32>>(), shape))
}

/// Where mask `i` is written.
pub(super) fn mask_name(i: usize) -> PathBuf {
    Path::new("masks").join(format!("{i:05}.png"))
}

/// Writes masks and overlays.
pub(super) fn write_pictures(out: &Path, masks: &[GrayImage], overlays: &[RgbImage]) -> Result<(), CliError> {
    for folder in ["masks", "overlays"].map(|name| out.join(name)) {
        fs::create_dir_all(&folder).map_err(|error| CliError::io(&folder, &error))?;
    }
    let saved = |path: PathBuf, result: image::ImageResult<()>| {
        result.map_err(|error| CliError::machine(format!("{}: {error}", path.display())))
    };
    for (i, mask) in masks.iter().enumerate() {
        let path = out.join(mask_name(i));
        saved(path.clone(), mask.save(&path))?;
    }
    for (i, drawn) in overlays.iter().enumerate() {
        let path = out.join("overlays").join(format!("{i:05}.png"));
        saved(path.clone(), drawn.save(&path))?;
    }
    Ok(())
}

fn write_tensors(path: &Path, answer: &Answer) -> Result<(), CliError> {
    let row = |values: &[f32]| TensorData::new(values.to_vec(), [values.len()]);
    let state = State::from([
        (LOGITS.to_owned(), answer.low_res_logits.clone().convert::<f32>()),
        ("iou".to_owned(), row(&answer.iou)),
        ("object_score".to_owned(), row(&[answer.object_score])),
    ]);
    write_safetensors(path, &state, None).map_err(|error| CliError::machine(error.to_string()))
}

/// Pixels of a mask.
fn area(mask: &GrayImage) -> usize {
    mask.as_raw().iter().filter(|pixel| **pixel > 0).count()
}

fn report(args: &Sam2ImageArgs, image: &RgbImage, answer: &Answer, device: &str) -> serde_json::Value {
    let masks = answer.masks.iter().zip(&answer.iou).enumerate();
    let masks = masks.map(|(i, (mask, iou))| json!({"file": mask_name(i), "area": area(mask), "iou": iou}));
    json!({
        "image": args.image,
        "width": image.width(),
        "height": image.height(),
        "masks": masks.collect::<Vec<_>>(),
        "object_score": answer.object_score,
        "model": args.model,
        "weights": args.weights,
        "device": device,
        "timings": {
            "load_seconds": answer.load.as_secs_f64(),
            "encode_seconds": answer.encode.as_secs_f64(),
            "decode_seconds": answer.decode.as_secs_f64(),
        },
    })
}
