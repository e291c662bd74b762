//! `pretrain`: one part of the model on one modality.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn_love_train::{
    pretraining::{PretrainRun, Stage},
    training::TrainEvent,
};

use super::train;
use crate::{
    args::{Global, PretrainCommand},
    device::with_backend,
    error::{CliError, RUN_AS_OUT},
    interrupt, output, printer,
};

/// What `pretrain` writes.
fn own(stage: Stage) -> Vec<String> {
    let shared = train::OWN.iter().map(|name| (*name).to_owned());
    shared
        .chain(["gates.json".to_owned(), stage.file_name()])
        .collect()
}

/// Runs `pretrain`. Exit code 1 where a gate is missed.
pub fn run(command: &PretrainCommand, global: &Global) -> Result<(), CliError> {
    let (stage, args) = command.parts();
    let config = train::config(stage.preset(), args.resume.then_some(&*args.out), &args.set)?;
    let device = global.probe()?;
    if !args.resume {
        output::check(&args.out, global.overwrite)?;
    }
    let ready = || {
        if !args.resume {
            let own = own(stage);
            let own: Vec<&str> = own.iter().map(String::as_str).collect();
            output::prepare(&args.out, global.overwrite, &own)?;
        }
        train::write(&config, &args.out)
    };
    printer::note(format_args!("device {device}; run {}", args.out.display()));
    let run = PretrainRun {
        stage,
        config: config.clone(),
        data: args.data.clone(),
        out: args.out.clone(),
        resume: args.resume,
        interrupter: Default::default(),
        listener: Arc::new(|event: &TrainEvent| printer::note(event)),
    };
    interrupt::stops(run.interrupter.clone());
    let made = with_backend!(device, |B, at| run.pretrain::<Autodiff<B>, CliError>(&at, ready));
    interrupt::stops_nothing();
    let made = made.map_err(|error| error.resumed_by(&format!("pretrain {stage}"), RUN_AS_OUT))?;
    if args.json {
        printer::data(serde_json::to_string(&made).expect("plain values"));
    } else {
        made.gates.iter().for_each(printer::data);
    }
    printer::note(format_args!(
        "weights {}; `train --set weights.{stage}=…` begins with them",
        made.weights.display()
    ));
    let missed: Vec<&str> = made
        .gates
        .iter()
        .filter(|gate| !gate.passed())
        .map(|gate| gate.name.as_str())
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    let hint = "train for longer (--set train.steps=…), on more clips, or begin with what was learned (--set weights.…)";
    Err(CliError::found(format!("gates missed: {}", missed.join(", "))).hint(hint))
}
