//! `sam2 video`: objects tracked through a video from prompts on any frames.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use burn::prelude::*;
use burn_love::{
    preprocess::sam2_pixels,
    sam2::{Direction, FrameMasks, ImageFeatures, ObjectId, Sam2, Sam2Config, VideoConfig, VideoSession},
    weights::{State, write_safetensors},
};
use burn_love_train::prediction::{FrameFolder, overlay};
use image::{GrayImage, RgbImage};
use serde_json::{Value, json};

use super::{
    model,
    picture::COLOURS,
    prompts::{self, FramePrompt, Prompt},
    video_file::VideoFile,
};
use crate::{
    args::{Global, Sam2VideoArgs},
    device::with_backend,
    error::CliError,
    output,
    printer::{self, Progress},
};

/// What `sam2 video` writes.
pub const OWN: &[&str] = &["masks", "overlays", "result.json"];

/// Runs `sam2 video`.
pub fn run(args: &Sam2VideoArgs, global: &Global) -> Result<(), CliError> {
    let mut config = model::config(&args.model);
    if let Some(size) = args.image_size {
        config = config.with_image_size(size);
    }
    // Holds the frames of a video file until the end.
    let unpacked = args.video.as_deref().map(VideoFile::unpack).transpose()?;
    let folder = match (&args.frames, &unpacked) {
        (Some(folder), _) => folder,
        (None, Some(video)) => video.frames(),
        (None, None) => return Err(CliError::input("no video: expected --frames or --video")),
    };
    let frames = FrameFolder::open(folder)?;
    frames.check_sizes()?;
    let prompts = prompts::read(&args.prompts, frames.len(), frames.size())?;
    if let Some(path) = &args.tensors {
        output::prepare_file(path, global.overwrite)?;
    }
    let device = global.probe()?;
    output::check(&args.out, global.overwrite)?;
    let name = device.to_string();
    let began = Instant::now();
    let mut work = Work {
        args,
        overwrite: global.overwrite,
        frames,
        report: BTreeMap::new(),
        tensors: State::new(),
        colours: prompts.iter().map(|prompt| prompt.object).collect(),
    };
    with_backend!(device, |B, at| work.track::<B>(&config, prompts, &at)?);
    work.finish(&name, began.elapsed())
}

/// One video on its way through the model.
struct Work<'a> {
    args: &'a Sam2VideoArgs,
    overwrite: bool,
    frames: FrameFolder,
    /// What was found, by frame.
    report: BTreeMap<usize, Value>,
    /// What `--tensors` asks for.
    tensors: State,
    /// Objects in the order of their first prompts (repetitions do no harm).
    colours: Vec<ObjectId>,
}

impl Work<'_> {
    fn track<B: Backend>(
        &mut self,
        config: &Sam2Config,
        prompts: Vec<FramePrompt>,
        device: &B::Device,
    ) -> Result<(), CliError> {
        let model = model::load::<B>(config, &self.args.weights, device)?.cache_constants();
        output::prepare(&self.args.out, self.overwrite, OWN)?;
        let count = self.frames.len();
        let (width, height) = self.frames.size();
        let mut video = VideoConfig::new([height as usize, width as usize]).with_frames(Some(count));
        if self.args.no_postprocess {
            video = video.without_postprocessing();
        }
        let mut session = VideoSession::new(&model, video);
        let refused = |error| CliError::input(format!("{}: {error}", self.args.prompts.display()));
        let mut last: Option<(usize, ImageFeatures<B>)> = None;
        for prompt in prompts {
            let features = match last {
                Some((frame, features)) if frame == prompt.frame => features,
                _ => features(&model, &self.frames.read(prompt.frame)?, device),
            };
            match prompt.prompt {
                Prompt::Points(points) => session.add_points(prompt.frame, &features, prompt.object, points),
                Prompt::Mask(mask) => {
                    session.add_mask(prompt.frame, &features, prompt.object, binary(&mask, device))
                }
            }
            .map_err(refused)?;
            last = Some((prompt.frame, features));
        }
        drop(last);

        let first = session
            .first_prompted_frame()
            .expect("a prompts file has prompts");
        let forward = (first..count).map(|frame| (frame, Direction::Forward));
        // The way back begins where the way forward began, as upstream: an object that has no prompt there is seen once more.
        let behind = if first > 0 { first + 1 } else { 0 };
        let backward = (0..behind).rev().map(|frame| (frame, Direction::Backward));
        let total = count - first + behind;
        let mut progress = Progress::new("tracking");
        for (done, (index, direction)) in forward.chain(backward).enumerate() {
            let frame = self.frames.read(index)?;
            let features = features(&model, &frame, device);
            let masks = session
                .track(index, &features, direction)
                .map_err(|error| CliError::input(format!("{}: {error}", self.args.prompts.display())))?;
            self.write(&frame, masks)?;
            progress.set(done + 1, total);
        }
        progress.finish();
        Ok(())
    }

    /// Writes a frame's masks and overlay, and notes what was found.
    fn write<B: Backend>(&mut self, frame: &RgbImage, masks: FrameMasks<B>) -> Result<(), CliError> {
        let index = masks.frame;
        let folder = self.args.out.join("masks").join(format!("{index:05}"));
        fs::create_dir_all(&folder).map_err(|error| CliError::io(&folder, &error))?;
        let (width, height) = frame.dimensions();
        let pixels = (width * height) as usize;
        let inside: Vec<u8> = masks
            .video_logits()
            .greater_elem(0.0)
            .into_data()
            .iter::<bool>()
            .map(|x| u8::from(x) * 255)
            .collect();
        let mut drawn = frame.clone();
        let mut found = Vec::new();
        for (object, mask) in masks.objects.iter().zip(inside.chunks_exact(pixels)) {
            let id = object.object;
            let mask = GrayImage::from_raw(width, height, mask.to_vec()).expect("a mask of the frame's size");
            save(&mask, &folder.join(format!("{id}.png")))?;
            let place = self.place(id);
            drawn = overlay(&drawn, &mask, COLOURS[place % COLOURS.len()]);
            let area = mask.pixels().filter(|pixel| pixel.0[0] > 0).count() as f64 / pixels as f64;
            let scalar = |value: Tensor<B, 2>| value.into_data().iter::<f32>().next().expect("one object");
            let score = scalar(object.object_score.clone());
            found.push(json!({
                "object": id, "present": area > 0.0, "area": area, "object_score": score, "iou": scalar(object.iou.clone()),
            }));
            if self.args.tensors.is_some() {
                let [_, _, h, w] = object.low_res_logits.dims();
                let logits = object
                    .low_res_logits
                    .clone()
                    .reshape([h, w])
                    .into_data()
                    .convert::<f32>();
                self.tensors.insert(format!("logits/{index:05}/{id}"), logits);
                let score = TensorData::new(vec![score], [1]);
                self.tensors
                    .insert(format!("object_score/{index:05}/{id}"), score);
            }
        }
        let overlays = self.args.out.join("overlays");
        fs::create_dir_all(&overlays).map_err(|error| CliError::io(&overlays, &error))?;
        drawn
            .save(overlays.join(format!("{index:05}.png")))
            .map_err(|error| CliError::machine(format!("{}: {error}", overlays.display())))?;
        self.report
            .insert(index, json!({ "frame": index, "objects": found }));
        Ok(())
    }

    fn place(&self, object: ObjectId) -> usize {
        let mut seen: Vec<ObjectId> = Vec::new();
        for id in &self.colours {
            if !seen.contains(id) {
                seen.push(*id);
            }
        }
        seen.iter().position(|id| *id == object).unwrap_or(0)
    }

    /// Writes `result.json` and the tensors, and says what was found.
    fn finish(mut self, device: &str, time: Duration) -> Result<(), CliError> {
        if let Some(path) = &self.args.tensors {
            write_safetensors(path, &std::mem::take(&mut self.tensors), None)?;
        }
        let frames: Vec<Value> = self.report.into_values().collect();
        let count = frames.len();
        let seconds = time.as_secs_f64();
        let report = json!({
            "model": self.args.model,
            "weights": self.args.weights.display().to_string(),
            "device": device,
            "seconds": seconds,
            "frames": frames,
        });
        let text = serde_json::to_string_pretty(&report).expect("plain values");
        output::write(&self.args.out.join("result.json"), &(text.clone() + "\n"))?;
        if self.args.json {
            printer::data(text);
        } else {
            let out = self.args.out.display();
            printer::data(format_args!(
                "{count} frames, {:.2} s a frame: {out}",
                seconds / count as f64
            ));
        }
        Ok(())
    }
}

fn features<B: Backend>(model: &Sam2<B>, frame: &RgbImage, device: &B::Device) -> ImageFeatures<B> {
    let side = model.config.image_size;
    let pixels = TensorData::new(sam2_pixels(frame, side), [1, 3, side, side]);
    model.forward_image(Tensor::from_data(pixels, device))
}

/// 1 inside and 0 outside, `[1, 1, H, W]`.
fn binary<B: Backend>(mask: &GrayImage, device: &B::Device) -> Tensor<B, 4> {
    let (width, height) = mask.dimensions();
    let values: Vec<f32> = mask
        .pixels()
        .map(|pixel| f32::from(u8::from(pixel.0[0] > 127)))
        .collect();
    Tensor::from_data(
        TensorData::new(values, [1, 1, height as usize, width as usize]),
        device,
    )
}

fn save(mask: &GrayImage, path: &Path) -> Result<(), CliError> {
    mask.save(path)
        .map_err(|error| CliError::machine(format!("{}: {error}", path.display())))
}
