//! `sam2 image --everything`: masks of whatever there is in an image.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use burn::prelude::*;
use burn_love::sam2::{AutomaticMask, AutomaticMasks, AutomaticMasksConfig, Sam2Config};
use burn_love_train::prediction::overlay;
use image::{GrayImage, RgbImage};
use serde_json::json;

use super::{
    image::{OWN, mask_name, write_pictures},
    model,
    picture::COLOURS,
};
use crate::{
    args::{Global, Sam2ImageArgs, SearchArgs},
    device::with_backend,
    error::CliError,
    output, printer,
    printer::Progress,
};

/// Finds masks without a prompt.
pub fn run(
    args: &Sam2ImageArgs,
    config: &Sam2Config,
    image: &RgbImage,
    global: &Global,
) -> Result<(), CliError> {
    let device = global.probe()?;
    output::check(&args.out, global.overwrite)?;
    let name = device.to_string();
    let (found, seconds) = with_backend!(device, |B, at| find::<B>(args, config, image, &at))?;
    output::prepare(&args.out, global.overwrite, OWN)?;

    let masks: Vec<GrayImage> = found.iter().map(picture).collect();
    // Large masks first: what lies on them stays in sight.
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(found[*i].mask.area()));
    let drawn = order.into_iter().fold(image.clone(), |drawn, i| {
        overlay(&drawn, &masks[i], COLOURS[i % COLOURS.len()])
    });
    write_pictures(&args.out, &masks, &[drawn])?;
    let text =
        serde_json::to_string_pretty(&report(args, image, &found, seconds, &name)).expect("plain values");
    output::write(&args.out.join("result.json"), &(text.clone() + "\n"))?;
    if args.json {
        printer::data(text);
    } else if found.is_empty() {
        printer::data("nothing found: no mask is good enough");
    } else {
        let shown = args.out.join(Path::new("overlays").join("00000.png"));
        printer::data(format_args!("found {} masks: {}", found.len(), shown.display()));
    }
    Ok(())
}

fn find<B: Backend>(
    args: &Sam2ImageArgs,
    config: &Sam2Config,
    image: &RgbImage,
    device: &B::Device,
) -> Result<(Vec<AutomaticMask>, Duration), CliError> {
    let model = model::load_for_images::<B>(config, &args.weights, device)?;
    let began = Instant::now();
    let mut progress = Progress::new("clicks");
    let found = AutomaticMasks::new(model, search(&args.search))
        .generate(image, |done, all| progress.set(done, all))
        .map_err(|error| CliError::input(format!("{}: {error}", args.image.display())))?;
    progress.finish();
    Ok((found, began.elapsed()))
}

fn search(args: &SearchArgs) -> AutomaticMasksConfig {
    AutomaticMasksConfig::new()
        .with_points_per_side(args.points_per_side)
        .with_points_per_batch(args.points_per_batch)
        .with_crop_layers(args.crop_layers)
        .with_min_iou(args.min_iou)
        .with_min_stability(args.min_stability)
        .with_max_overlap(args.max_overlap)
        .with_min_region_area(args.min_region_area)
        .with_refine(args.refine)
}

fn picture(found: &AutomaticMask) -> GrayImage {
    let [h, w] = found.mask.size.map(|side| side as u32);
    let pixels = found
        .mask
        .decode()
        .into_iter()
        .map(|inside| u8::from(inside) * 255);
    GrayImage::from_raw(w, h, pixels.collect()).expect("a mask of the image's size")
}

fn report(
    args: &Sam2ImageArgs,
    image: &RgbImage,
    found: &[AutomaticMask],
    elapsed: Duration,
    device: &str,
) -> serde_json::Value {
    // COCO's boxes: corner and size.
    let sized = |[x0, y0, x1, y1]: [u32; 4]| [x0, y0, x1 - x0, y1 - y0];
    let masks = found.iter().enumerate().map(|(i, found)| {
        json!({
            "file": mask_name(i),
            "area": found.mask.area(),
            "box": sized(found.corners),
            "iou": found.iou,
            "stability": found.stability,
            "point": found.point,
            "crop": sized(found.crop),
            "segmentation": found.mask,
        })
    });
    json!({
        "image": args.image,
        "width": image.width(),
        "height": image.height(),
        "masks": masks.collect::<Vec<_>>(),
        "model": args.model,
        "weights": args.weights,
        "device": device,
        "timings": {"masks_seconds": elapsed.as_secs_f64()},
    })
}
