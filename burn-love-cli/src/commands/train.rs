//! `train`: a run from config and data to its last checkpoint.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::backend::Autodiff;
use burn_love_train::{
    config::{Config, PRESETS, Source, resolve, write_config},
    data::{RefAvs, Split},
    features::FeatureCache,
    samples::Preparer,
    training::{RunError, TrainEvent, TrainPlan, TrainRun, fixed_keys},
};

use super::cache;
use crate::{
    args::{Global, TrainArgs},
    device::{Device, with_backend},
    error::{CliError, ROOM},
    interrupt, output, printer,
};

/// What `train` writes.
pub const OWN: &[&str] = &[
    "config.toml",
    "metrics.jsonl",
    "checkpoints",
    "overlays",
    "best",
    "last",
    "log.txt",
    "config.toml.partial",
    "metrics.jsonl.partial",
    ".best.partial",
    ".last.partial",
];

/// Runs `train`.
pub fn run(args: &TrainArgs, global: &Global) -> Result<(), CliError> {
    if args.list_presets {
        for preset in PRESETS {
            printer::data(format_args!("{:32} {}", preset.name, preset.summary()));
        }
        return Ok(());
    }
    let config = config_of(args)?;
    let data = args
        .data
        .as_deref()
        .ok_or_else(|| CliError::input("--data: expected a directory, found nothing"))?;
    let data = RefAvs::open(data)?;
    let ready = Preparer::new(&config).map(drop);
    let skip = check(&data, args.skip_bad_samples)?;
    if args.dry_run {
        if let Err(error) = ready {
            tracing::warn!("{error}");
        }
        return describe(&config, &data, &skip, &global.probe()?);
    }
    ready?;
    let out = args
        .out
        .as_deref()
        .ok_or_else(|| CliError::input("--out: expected a directory, found nothing"))?;
    let device = global.probe()?;
    if !args.resume {
        output::check(out, global.overwrite)?;
    }
    let job = Job {
        data,
        skip,
        out: out.into(),
        resume: args.resume,
        overwrite: global.overwrite,
        features: features(args, &config)?,
        config,
        dashboard: std::io::stdout().is_terminal(),
    };
    job.run(device)
}

/// The resolved config: from `base`, or from the run that is resumed; then `--set`.
pub fn config(base: Source, resumed: Option<&Path>, set: &[String]) -> Result<Config, CliError> {
    let base = match resumed {
        Some(run) => {
            let path = run.join("config.toml");
            if !path.is_file() {
                let message = format!("{}: expected a run to resume, found none", run.display());
                return Err(CliError::input(message).hint("train without --resume first"));
            }
            Source::File(path)
        }
        None => base,
    };
    let before = match resumed {
        Some(_) => Some(resolve(std::slice::from_ref(&base))?),
        None => None,
    };
    let sources: Vec<_> = std::iter::once(base)
        .chain(set.iter().cloned().map(Source::Set))
        .collect();
    let config = resolve(&sources)?;
    if let Some(before) = before {
        let keys = fixed_keys(&before, &config);
        if !keys.is_empty() {
            let message = format!(
                "--set: expected the model, the order of rows and the metric of the run that is resumed, found others: {} differ",
                keys.join(", ")
            );
            return Err(
                CliError::input(message).hint("train anew with another --out, and --init-from where it fits")
            );
        }
    }
    Ok(config)
}

/// The config that the arguments ask for.
fn config_of(args: &TrainArgs) -> Result<Config, CliError> {
    let resumed = args.out.as_deref().filter(|_| args.resume);
    if let Some(run) = resumed
        && (args.preset.is_some() || args.config.is_some())
    {
        let path = run.join("config.toml");
        tracing::warn!("--resume takes the config from {}", path.display());
    }
    let base = match &args.config {
        Some(path) => Source::File(path.clone()),
        None => Source::Preset(args.preset.clone().unwrap_or_else(|| "nano".into())),
    };
    let mut config = config(base, resumed, &args.set)?;
    if let Some(path) = &args.init_from {
        config.weights.love.clone_from(path);
    }
    Ok(config)
}

/// `--dry-run`: what would be done as comments, above the resolved config.
fn describe(config: &Config, data: &RefAvs, skip: &[usize], device: &Device) -> Result<(), CliError> {
    let all = data.rows().iter().enumerate();
    let learnt = all.filter(|(index, row)| row.split == Split::Train && !skip.contains(index));
    let rows: Vec<_> = learnt
        .flat_map(|(_, row)| std::iter::repeat_n(row, config.data.times(row)))
        .collect();
    let Some(first) = rows.first() else {
        let path = data.root().into();
        let split = Split::Train;
        return Err(RunError::NoRows { path, split }.into());
    };
    let frames = data.frame_count(first)?;
    let plan = with_backend!(device.clone(), |B, at| TrainPlan::new::<B>(
        config,
        rows.len(),
        frames,
        &at
    ));
    for line in plan.to_string().lines() {
        printer::data(format_args!("# {line}"));
    }
    printer::data(config.to_toml());
    Ok(())
}

/// The cache of features, with a word where nothing can be kept.
fn features(args: &TrainArgs, config: &Config) -> Result<Option<Arc<FeatureCache>>, CliError> {
    let cache = cache::open(&args.cache)?;
    let learns = config.train.trainable;
    if cache.is_some()
        && learns.audio_encoder
        && learns.vision_encoder
        && learns.text_encoder
        && learns.image_encoder
    {
        tracing::warn!(
            "--cache-features keeps nothing: all encoders of this config learn (train.audio_encoder, \
             train.vision_encoder, train.text_encoder, train.image_encoder)"
        );
    }
    Ok(cache)
}

/// Checks every sample that training reads before the first step; indices of the rows to skip.
pub fn check(data: &RefAvs, skip: bool) -> Result<Vec<usize>, CliError> {
    let validation = data.validate(&[Split::Train, Split::Val]);
    if validation.bad.is_empty() {
        return Ok(Vec::new());
    }
    if !skip {
        let bad = validation.bad.len();
        let error: CliError = match validation.into_result() {
            Err(error) => error.into(),
            Ok(()) => return Ok(Vec::new()),
        };
        let more = format!("{bad} samples cannot be used; --skip-bad-samples leaves them out");
        return Err(CliError {
            hint: Some(error.hint.unwrap_or(more)),
            ..error
        });
    }
    for bad in &validation.bad {
        tracing::warn!("skipped {}: {}", bad.uid, bad.error);
    }
    let (bad, checked) = (validation.bad.len(), validation.checked);
    tracing::warn!("skipped {bad} of {checked} samples");
    Ok(validation.bad.into_iter().map(|bad| bad.index).collect())
}

/// A training whose inputs were checked.
pub struct Job {
    /// The resolved config.
    pub config: Config,
    /// The data set.
    pub data: RefAvs,
    /// Rows to leave out.
    pub skip: Vec<usize>,
    /// Where to write.
    pub out: PathBuf,
    /// Whether to go on.
    pub resume: bool,
    /// Whether to replace a run that is there already.
    pub overwrite: bool,
    /// Where features of frozen parts are kept.
    pub features: Option<Arc<FeatureCache>>,
    /// Whether to show the dashboard: on a terminal, of a single training.
    pub dashboard: bool,
}

impl Job {
    /// Trains on a device, with a dashboard or lines.
    pub fn run(self, device: Device) -> Result<(), CliError> {
        let (config, out) = (self.config.clone(), self.out.clone());
        let ready = || {
            if !self.resume {
                output::prepare(&out, self.overwrite, OWN)?;
            }
            write(&config, &out)
        };
        let dashboard = self.dashboard;
        printer::note(format_args!("device {device}; run {}", self.out.display()));
        let run = TrainRun {
            config: self.config,
            data: self.data,
            skip: self.skip,
            out: self.out,
            resume: self.resume,
            features: self.features,
            interrupter: Default::default(),
            listener: Arc::new(move |event: &TrainEvent| {
                if !dashboard {
                    printer::note(event);
                }
            }),
            dashboard,
        };
        interrupt::stops(run.interrupter.clone());
        let trained = with_backend!(device, |B, at| run
            .train_when_ready::<Autodiff<B>, CliError>(&at, ready)
            .map(drop));
        interrupt::stops_nothing();
        trained
    }
}

/// Writes `config.toml` of a run.
pub fn write(config: &Config, out: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(out).map_err(|error| CliError::io(out, &error))?;
    let path = out.join("config.toml");
    write_config(config, &path)
        .map_err(|error| CliError::machine(format!("{}: {error}", path.display())).hint(ROOM))
}
