//! `predict`: what a sentence refers to in a clip with sound.

use burn_love_train::prediction::{Format, PredictRequest, predict, read_frames};

use super::model::Trained;
use crate::{
    args::{FormatArg, Global, PredictArgs},
    device::with_backend,
    error::CliError,
    output, printer,
};

/// What `predict` writes.
pub const OWN: &[&str] = &["masks", "overlays", "overlay.gif", "result.json"];

/// Runs `predict`.
pub fn run(args: &PredictArgs, global: &Global) -> Result<(), CliError> {
    let trained = Trained::find(&args.model)?;
    let mut request = PredictRequest::new(read_frames(&args.frames)?, args.text.clone());
    request.fps = args.fps;
    request.model = trained.weights.display().to_string();
    if let Some(path) = &args.audio {
        // Read when it is heard; a wrong path is told before the model is loaded.
        std::fs::metadata(path).map_err(|error| CliError::io(path, &error))?;
        request.audio = Some(path.clone());
    }
    let device = global.probe()?;
    output::check(&args.out, global.overwrite)?;
    let prediction = with_backend!(device, |B, at| {
        let model = trained.load::<B>(&at)?;
        predict(&model, &trained.config, request, &at)?
    });
    output::prepare(&args.out, global.overwrite, OWN)?;
    let formats: Vec<Format> = args
        .format
        .iter()
        .map(|format| match format {
            FormatArg::Png => Format::Png,
            FormatArg::Overlay => Format::Overlay,
            FormatArg::Gif => Format::Gif,
        })
        .collect();
    prediction.write(&args.out, &formats)?;
    if args.json {
        printer::data(serde_json::to_string_pretty(&prediction.to_json()).expect("plain values"));
    } else if prediction.is_found() {
        let frames = prediction.found.iter().filter(|frame| frame.area > 0.0).count();
        let all = prediction.found.len();
        printer::data(format_args!(
            "found in {frames} of {all} frames: {}",
            args.out.display()
        ));
    } else {
        printer::data(format_args!(
            "nothing found: no frame shows what \"{}\" refers to",
            args.text
        ));
    }
    Ok(())
}
