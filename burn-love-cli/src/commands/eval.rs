//! `eval`: the splits of a data set, judged.

use std::path::Path;

use burn_love_train::{
    config::Config,
    data::{RefAvs, Split},
    evaluation::{EvalOptions, Evaluation, Modality, Protocol, evaluate},
};

use super::{cache, model::Trained};
use crate::{
    args::{DropArg, EvalArgs, Global, ProtocolArg},
    device::{Device, with_backend},
    error::CliError,
    output, printer,
    printer::Progress,
};

/// What `eval` writes.
pub const OWN: &[&str] = &["metrics.json", "metrics.md", "metrics.csv", "per_expression.csv"];

/// Runs `eval`.
pub fn run(args: &EvalArgs, global: &Global) -> Result<(), CliError> {
    let splits = args
        .splits
        .iter()
        .map(|name| name.parse::<Split>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CliError::input(format!("--splits: {error}")).hint(error.hint()))?;
    if let Some(earlier) = args
        .against
        .as_ref()
        .map(|earlier| earlier.join("per_expression.csv"))
        && !earlier.is_file()
    {
        let message = format!(
            "{}: expected the scores of an earlier evaluation, found none",
            earlier.display()
        );
        return Err(CliError::input(message).hint("--against takes the --out of an `eval`"));
    }
    let trained = Trained::find(&args.model)?;
    let data = RefAvs::open(&args.data)?;
    let device = global.probe()?;
    output::check(&args.out, global.overwrite)?;
    if let Some(dump) = &args.dump {
        if OWN.iter().any(|name| args.out.join(name) == *dump) {
            let message = format!("--dump: expected a folder of its own, found {}", dump.display());
            return Err(CliError::input(message).hint("a table of --out has that name"));
        }
        output::check(dump, global.overwrite)?;
    }
    let options = EvalOptions {
        splits,
        protocol: match args.protocol {
            ProtocolArg::Official => Protocol::Official,
            ProtocolArg::PerExpression => Protocol::PerExpression,
        },
        drop: args.drop.map(|drop| match drop {
            DropArg::Audio => Modality::Audio,
            DropArg::Text => Modality::Text,
            DropArg::Vision => Modality::Vision,
        }),
        swap_audio: args.swap.is_some(),
        dump: args.dump.clone(),
        workers: workers(&device),
        features: cache::open(&args.cache)?,
    };
    let ready = || match &args.dump {
        Some(dump) => output::prepare(dump, global.overwrite, &[]),
        None => Ok(()),
    };
    let mut evaluation = judge(&trained, &data, &options, device, "evaluation", ready)?;
    if let Some(features) = &options.features {
        printer::note(features.report());
    }
    let compared = match &args.against {
        Some(earlier) => evaluation.compare(earlier),
        None => Ok(()),
    };
    // Scores that took minutes are kept, whatever the earlier ones are like. The dump may lie beside them.
    if OWN.iter().any(|name| args.out.join(name).exists()) {
        output::check(&args.out, global.overwrite)?;
    }
    output::prepare(&args.out, true, OWN)?;
    write(&evaluation, &args.out)?;
    compared?;
    if args.json {
        printer::data(serde_json::to_string_pretty(&evaluation.to_json()).expect("plain values"));
    } else {
        printer::data(evaluation.to_markdown());
    }
    Ok(())
}

/// Clips predicted at a time: a GPU is busy with one, small operations leave a CPU's cores idle.
pub fn workers(device: &Device) -> usize {
    match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => rayon::current_num_threads(),
        #[allow(unreachable_patterns, reason = "depends on the features")]
        _ => 1,
    }
}

/// Evaluates with progress; `ready` is called once the model is loaded.
pub fn judge(
    trained: &Trained,
    data: &RefAvs,
    options: &EvalOptions,
    device: Device,
    what: &str,
    ready: impl FnOnce() -> Result<(), CliError>,
) -> Result<Evaluation, CliError> {
    let config: &Config = &trained.config;
    let mut progress = Progress::new(what);
    let mut show = |done, total| progress.set(done, total);
    let evaluation = with_backend!(device, |B, at| {
        let model = trained.load::<B>(&at)?;
        ready()?;
        evaluate(&model, config, data, options, &at, &mut show)?
    });
    progress.finish();
    Ok(evaluation)
}

/// Writes all tables of an evaluation.
pub fn write(evaluation: &Evaluation, out: &Path) -> Result<(), CliError> {
    Ok(evaluation.write(out)?)
}
