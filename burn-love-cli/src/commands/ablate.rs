//! `ablate`: presets trained with the same seeds and budget, and one table of what each changes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn_love_train::{
    config::{Config, Preset, Source, differing_keys, nano_scale, resolve},
    data::RefAvs,
    evaluation::{EvalOptions, ExpressionScore},
    report::{Ablation, AblationRun},
    samples::Preparer,
};
use serde_json::Value;

use super::{cache, eval, model::Trained, train};
use crate::{
    args::{AblateArgs, Global, ModelArgs},
    device::Device,
    error::CliError,
    output, printer,
};

/// A preset to be trained with a seed.
struct Planned {
    preset: &'static str,
    seed: u64,
    config: Config,
    folder: PathBuf,
}

/// Runs `ablate`.
pub fn run(args: &AblateArgs, global: &Global) -> Result<(), CliError> {
    let planned = plan(args)?;
    let data = RefAvs::open(&args.data)?;
    let skip = train::check(&data, args.skip_bad_samples)?;
    for one in &planned {
        // Before hours are spent on the others.
        Preparer::new(&one.config)?;
    }
    let names: Vec<&str> = args.presets.iter().map(String::as_str).collect();
    for preset in names.iter().filter_map(|name| Preset::find(name)) {
        if let Some(base) = preset.base
            && !names.contains(&base)
        {
            tracing::warn!(
                "{} is compared with {base}, which is not among --presets",
                preset.name
            );
        }
    }
    let device = global.probe()?;
    if !args.resume {
        let mut own: Vec<&str> = names.clone();
        own.extend(["ablation.md", "ablation.csv"]);
        output::prepare(&args.out, global.overwrite, &own)?;
    }
    let features = cache::open(&args.cache)?;
    let options = EvalOptions {
        workers: eval::workers(&device),
        features: features.clone(),
        ..EvalOptions::default()
    };
    let mut ablation = Ablation::default();
    let count = planned.len();
    for (i, one) in planned.into_iter().enumerate() {
        printer::note(format_args!(
            "{} of {count}: {}, seed {} → {}",
            i + 1,
            one.preset,
            one.seed,
            one.folder.display()
        ));
        let (metrics, expressions) = match one.finished()? {
            Some(finished) => finished,
            None => {
                let run = one.folder.join("run");
                let job = train::Job {
                    config: one.config.clone(),
                    data: data.clone(),
                    skip: skip.clone(),
                    resume: run.join("config.toml").is_file(),
                    out: run,
                    overwrite: global.overwrite,
                    features: features.clone(),
                    dashboard: false,
                };
                job.run(device.clone())
                    .map_err(|error| error.resumed_by("ablate", "the same arguments"))?;
                let metrics = one.judge(&data, &options, &device)?;
                (metrics, ExpressionScore::read(&one.folder.join("eval"))?)
            }
        };
        ablation.runs.push(AblationRun {
            preset: one.preset.to_owned(),
            seed: one.seed,
            metrics,
            expressions,
        });
        // After every run: a table of what is there.
        output::write(&args.out.join("ablation.md"), &ablation.to_markdown())?;
        output::write(&args.out.join("ablation.csv"), &ablation.to_csv())?;
    }
    printer::data(if args.csv {
        ablation.to_csv()
    } else {
        ablation.to_markdown()
    });
    Ok(())
}

/// Every preset with every seed: seed by seed, so that a table is complete as early as it can be.
fn plan(args: &AblateArgs) -> Result<Vec<Planned>, CliError> {
    let mut planned = Vec::new();
    for seed in &args.seeds {
        for name in &args.presets {
            let preset = Source::Preset(name.clone());
            let scale = match args.nano_scale {
                true => nano_scale(&resolve(std::slice::from_ref(&preset))?),
                false => Vec::new(),
            };
            let layers = std::iter::once(preset)
                .chain(scale)
                .chain(args.config.iter().cloned().map(Source::File))
                .chain(args.set.iter().cloned().map(Source::Set))
                .chain([Source::Set(format!("train.seed={seed}"))]);
            let config = resolve(&layers.collect::<Vec<_>>())?;
            let preset = Preset::find(name).expect("it was resolved").name;
            if planned
                .iter()
                .any(|one: &Planned| (one.preset, one.seed) == (preset, *seed))
            {
                let message = format!("{preset} with seed {seed}: expected it once, found it twice");
                return Err(CliError::input(message).hint("name each preset and each seed once"));
            }
            planned.push(Planned {
                preset,
                seed: *seed,
                config,
                folder: args.out.join(preset).join(format!("seed-{seed}")),
            });
        }
    }
    Ok(planned)
}

impl Planned {
    /// The scores, where training and evaluation were finished before with the same config. Where only what evaluation uses
    /// differs, older scores are removed.
    fn finished(&self) -> Result<Option<(Value, Vec<ExpressionScore>)>, CliError> {
        let config = self.folder.join("run/config.toml");
        if !config.is_file() {
            return Ok(None);
        }
        let before = resolve(&[Source::File(config.clone())])?;
        if before.as_trained() != self.config.as_trained() {
            let keys = differing_keys(&before, &self.config);
            let message = format!(
                "{}: expected the config of this ablation, found another: {} differ",
                config.display(),
                keys.join(", ")
            );
            return Err(
                CliError::input(message).hint("choose another --out, or the arguments of the first call")
            );
        }
        let scores = self.folder.join("eval");
        let path = scores.join("metrics.json");
        if before != self.config {
            if path.is_file() {
                printer::note(format_args!(
                    "{}: evaluated again, as {} changed",
                    scores.display(),
                    differing_keys(&before, &self.config).join(", ")
                ));
                output::prepare(&scores, true, eval::OWN)?;
            }
            return Ok(None);
        }
        let metrics = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CliError::io(&path, &error)),
        };
        // Scores that were cut off as they were written, or are of before nulls were counted, are made again.
        let expressions = ExpressionScore::read(&scores).unwrap_or_default();
        Ok((rows(&metrics) == Some(expressions.len())).then_some((metrics, expressions)))
    }

    /// Evaluates the run on the test splits.
    fn judge(&self, data: &RefAvs, options: &EvalOptions, device: &Device) -> Result<Value, CliError> {
        let trained = Trained::find(&ModelArgs {
            run: Some(self.folder.join("run")),
            weights: None,
            config: None,
        })?;
        let what = format!("{}, seed {}", self.preset, self.seed);
        let evaluation = eval::judge(&trained, data, options, device.clone(), &what, || Ok(()))?;
        let out: &Path = &self.folder.join("eval");
        eval::write(&evaluation, out)?;
        Ok(evaluation.to_json())
    }
}

/// How many rows the scores of a `metrics.json` are of; nothing where it does not tell all of them.
fn rows(metrics: &Value) -> Option<usize> {
    let splits = metrics["splits"].as_object()?;
    splits.get("test_n")?.get("null_empty")?;
    let own = splits.iter().filter(|(name, _)| *name != "mix");
    let count = own.map(|(_, score)| {
        let of = |key: &str| score[key].as_u64().unwrap_or(0) as usize;
        of("n") + of("n_null")
    });
    Some(count.sum())
}
