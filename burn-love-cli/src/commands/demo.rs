//! `demo`: from nothing to masks, in one command.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use burn::backend::Autodiff;
use burn_love_train::{
    config::{Config, Source, resolve},
    data::{RefAvs, Row, Split},
    evaluation::{EvalOptions, Modality},
    features::{CachePrecision, FeatureCache},
    metrics::iou,
    prediction::{Format, PredictRequest, predict},
    report::{DemoReport, Picture, TitledEvaluation, TrainingSummary, demo_report, split_counts},
    synth::SynthConfig,
    training::parameter_counts,
};

use super::{data, eval, model::Trained, train::Job};
use crate::{
    args::{DemoArgs, Global, ModelArgs},
    device::{Device, with_backend},
    error::CliError,
    output, printer,
};

/// What `demo` writes.
const OWN: &[&str] = &["data", "features", "train", "eval", "overlays", "report.md"];

/// Most bytes of features that are kept.
const FEATURES: u64 = 2_000_000_000;

/// Frames in a row of a contact sheet.
const COLUMNS: usize = 5;

/// Runs `demo`.
pub fn run(args: &DemoArgs, global: &Global) -> Result<(), CliError> {
    let began = Instant::now();
    let device = global.probe()?;
    output::prepare(&args.out, global.overwrite, OWN)?;
    let folder = |name: &str| args.out.join(name);

    printer::note(format_args!(
        "1/4 scenes with sound and sentences → {}",
        folder("data").display()
    ));
    let scenes = if args.quick {
        quick_scenes(args.seed)
    } else {
        scenes(args.seed)
    };
    let (_, ceilings) = data::make(&scenes, &folder("data"))?;
    let data = RefAvs::open(&folder("data"))?;

    printer::note(format_args!("2/4 training → {}", folder("train").display()));
    let config = config(args)?;
    let run = folder("train");
    let features = FeatureCache::open(&folder("features"), CachePrecision::F16, FEATURES)?;
    let job = Job {
        config: config.clone(),
        data: data.clone(),
        skip: Vec::new(),
        out: run.clone(),
        resume: false,
        overwrite: global.overwrite,
        features: Some(Arc::new(features)),
        dashboard: std::io::stdout().is_terminal(),
    };
    job.run(device.clone())?;

    printer::note(format_args!("3/4 evaluation → {}", folder("eval").display()));
    let model = ModelArgs {
        run: Some(run.clone()),
        weights: None,
        config: None,
    };
    let trained = Trained::find(&model)?;
    let mut evaluations = evaluations(&trained, &data, &device, &folder("eval"), args.quick)?;
    evaluations.push(shipped(&data, &device, &folder("eval"))?);

    printer::note(format_args!(
        "4/4 masks over the clips → {}",
        folder("overlays").display()
    ));
    let pictures = pictures(
        &trained,
        &data,
        &device,
        &folder("overlays"),
        if args.quick { 1 } else { 3 },
    )?;

    let training = TrainingSummary::read(&run).map_err(|error| CliError::io(&run, &error))?;
    let report = demo_report(&DemoReport {
        command: format!("burn-love-cli demo{}", if args.quick { " --quick" } else { "" }),
        device: device.to_string(),
        seed: args.seed,
        quick: args.quick,
        data: split_counts(&data),
        ceilings,
        parameters: with_backend!(device.clone(), |B, at| parameter_counts::<Autodiff<B>>(
            &config, &at
        )),
        training,
        evaluations,
        pictures,
        time: began.elapsed(),
    });
    let path = folder("report.md");
    output::write(&path, &report)?;
    printer::data(format_args!("{}", path.display()));
    Ok(())
}

/// The shipped weights on the same data.
fn shipped(data: &RefAvs, device: &Device, out: &Path) -> Result<TitledEvaluation, CliError> {
    let shipped = Trained::find(&ModelArgs {
        run: None,
        weights: None,
        config: None,
    })?;
    let options = EvalOptions {
        workers: eval::workers(device),
        ..EvalOptions::default()
    };
    let title = "the shipped weights";
    let evaluation = eval::judge(&shipped, data, &options, device.clone(), title, || Ok(()))?;
    eval::write(&evaluation, &out.join("shipped"))?;
    Ok(TitledEvaluation {
        title: title.into(),
        evaluation,
    })
}

/// Scenes for minutes on two cores.
fn scenes(seed: u64) -> SynthConfig {
    SynthConfig {
        seed,
        train: 1000,
        val: 12,
        test_seen: 40,
        test_unseen: 40,
        test_null: 12,
        ..SynthConfig::default()
    }
}

/// A few small scenes.
fn quick_scenes(seed: u64) -> SynthConfig {
    SynthConfig {
        seed,
        train: 16,
        val: 2,
        test_seen: 2,
        test_unseen: 2,
        test_null: 2,
        width: 96,
        height: 64,
        ..SynthConfig::default()
    }
}

fn config(args: &DemoArgs) -> Result<Config, CliError> {
    let seed = format!("train.seed={}", args.seed);
    let settings: &[&str] = if args.quick {
        &[
            "sam2.model.image_size=64",
            "train.steps=6",
            "train.glance_steps=3",
            "train.warmup_steps=2",
            "train.log_every=2",
            "train.batch_size=4",
        ]
    } else {
        &[
            "train.steps=2850",
            "train.glance_steps=2700",
            "train.warmup_steps=100",
            "train.validate_every=2850",
            // Behind the glances, the fusion has to learn what to make of everything.
            "train.min_lr=2e-4",
            "train.fusion_frames=0",
            "train.fusion_patches=0",
            "train.log_every=20",
        ]
    };
    let settings = settings
        .iter()
        .copied()
        .chain([seed.as_str()])
        .map(|set| Source::Set(set.into()));
    let sources: Vec<_> = std::iter::once(Source::Preset("nano-pretrained".into()))
        .chain(settings)
        .collect();
    Ok(resolve(&sources)?)
}

/// The plain evaluation, and each modality taken away on the splits with an object.
fn evaluations(
    trained: &Trained,
    data: &RefAvs,
    device: &Device,
    out: &Path,
    quick: bool,
) -> Result<Vec<TitledEvaluation>, CliError> {
    let everything = EvalOptions {
        workers: eval::workers(device),
        ..EvalOptions::default()
    };
    let plain = eval::judge(
        trained,
        data,
        &everything,
        device.clone(),
        "evaluation",
        || Ok(()),
    )?;
    eval::write(&plain, out)?;
    let mut all = vec![TitledEvaluation {
        title: "everything".into(),
        evaluation: plain,
    }];
    let dropped = [
        (Modality::Audio, "without-sound"),
        (Modality::Text, "without-text"),
    ];
    for (modality, name) in dropped.into_iter().take(if quick { 1 } else { 2 }) {
        let options = EvalOptions {
            splits: vec![Split::TestS, Split::TestU],
            drop: Some(modality),
            ..everything.clone()
        };
        let mut evaluation = eval::judge(trained, data, &options, device.clone(), name, || Ok(()))?;
        evaluation.compare(out)?;
        eval::write(&evaluation, &out.join(name))?;
        all.push(TitledEvaluation {
            title: name.replace('-', " "),
            evaluation,
        });
    }
    Ok(all)
}

/// Predictions on a few rows of each test split, evenly spaced, as overlays and as one picture each.
fn pictures(
    trained: &Trained,
    data: &RefAvs,
    device: &Device,
    out: &Path,
    each: usize,
) -> Result<Vec<Picture>, CliError> {
    let rows: Vec<&Row> = [Split::TestS, Split::TestU, Split::TestN]
        .into_iter()
        .flat_map(|split| {
            let rows = data.split(split);
            let count = each.min(rows.len());
            (0..count).map(move |i| rows[i * rows.len() / count])
        })
        .collect();
    let mut progress = printer::Progress::new("masks");
    let mut pictures = Vec::with_capacity(rows.len());
    for row in &rows {
        pictures.push(picture(trained, data, row, device.clone(), out)?);
        progress.set(pictures.len(), rows.len());
    }
    progress.finish();
    Ok(pictures)
}

fn picture(
    trained: &Trained,
    data: &RefAvs,
    row: &Row,
    device: Device,
    out: &Path,
) -> Result<Picture, CliError> {
    let frames = data.frames(row)?;
    let size = frames[0].dimensions();
    let labels = data.masks(row, frames.len(), size)?;
    let mut request = PredictRequest::new(frames, row.expression.clone());
    request.model = trained.weights.display().to_string();
    request.audio = Some(data.audio_path(row));
    let prediction = with_backend!(device, |B, at| {
        let model = trained.load::<B>(&at)?;
        predict(&model, &trained.config, request, &at)?
    });
    let folder = out.join(&row.uid);
    prediction.write(&folder, &Format::ALL)?;
    let sheet: PathBuf = folder.join("sheet.png");
    prediction
        .contact_sheet(COLUMNS, (!row.is_null()).then_some(labels.as_slice()))
        .save(&sheet)
        .map_err(|error| CliError::machine(format!("{}: {error}", sheet.display())))?;
    let bits = |mask: &image::GrayImage| -> Vec<bool> { mask.pixels().map(|pixel| pixel.0[0] > 0).collect() };
    let ious: Vec<f64> = prediction
        .found
        .iter()
        .zip(&labels)
        .map(|(frame, label)| iou(&bits(&frame.mask), &bits(label)))
        .collect();
    Ok(Picture {
        path: format!("overlays/{}/sheet.png", row.uid),
        text: row.expression.clone(),
        j: (!row.is_null()).then(|| ious.iter().sum::<f64>() / ious.len() as f64),
    })
}
