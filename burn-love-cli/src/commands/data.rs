//! `data synth`: scenes with sound and expressions.

use std::path::Path;

use burn_love_train::synth::{Ceilings, SynthConfig, SynthSummary, ceilings, generate};

use crate::{
    args::{Global, SynthArgs},
    error::CliError,
    output, printer,
    printer::Progress,
};

/// What `data synth` writes.
pub const OWN: &[&str] = &["media", "gt_mask", "lavs", "metadata.csv"];

/// Runs `data synth`.
pub fn synth(args: &SynthArgs, global: &Global) -> Result<(), CliError> {
    let config = SynthConfig {
        seed: args.seed,
        train: args.train,
        val: args.val,
        test_seen: args.test_seen,
        test_unseen: args.test_unseen,
        test_null: args.test_null,
        unnamed_percent: args.unnamed,
        width: args.size.0,
        height: args.size.1,
        ..SynthConfig::default()
    };
    config.validate()?;
    output::prepare(&args.out, global.overwrite, OWN)?;
    let (summary, ceilings) = make(&config, &args.out)?;
    printer::note(format_args!(
        "{}: {} rows in {} clips",
        args.out.display(),
        summary.rows,
        config.total()
    ));
    printer::note(format_args!(
        "what a solver without a model reaches: full {:.3}, deaf {:.3}, text-blind {:.3}",
        ceilings.full.all, ceilings.deaf.all, ceilings.text_blind.all
    ));
    Ok(())
}

/// Generates a data set with progress, and solves it.
pub fn make(config: &SynthConfig, out: &Path) -> Result<(SynthSummary, Ceilings), CliError> {
    let progress = std::sync::Mutex::new(Progress::new("scenes"));
    let summary = generate(config, out, &|done, total| {
        if let Ok(mut progress) = progress.lock() {
            progress.set(done, total);
        }
    })?;
    if let Ok(progress) = progress.into_inner() {
        progress.finish();
    }
    Ok((summary, ceilings(out)?))
}
