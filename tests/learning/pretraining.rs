//! Each stage of pre-training lowers its loss, ends with weights that a training takes, and resumes exactly.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use burn_flex::Flex;
use burn_love_train::{
    config::{Config, Source, resolve},
    data::RefAvs,
    pretraining::{PretrainRun, Pretrained, Stage},
    synth::{SynthConfig, generate},
    training::{RunError, TrainEvent},
};

use crate::data::{alone, run as training};

type Training = burn::backend::Autodiff<Flex>;

/// A few small scenes.
fn scenes(root: &Path) -> PathBuf {
    let config = SynthConfig {
        train: 12,
        val: 4,
        test_seen: 0,
        test_unseen: 0,
        test_null: 0,
        width: 96,
        height: 64,
        ..SynthConfig::default()
    };
    let data = root.join("data");
    generate(&config, &data, &|_, _| {}).expect("scenes can be generated");
    data
}

fn config(stage: Stage, settings: &[&str]) -> Config {
    let own = [
        "train.warmup_steps=2",
        "train.log_every=1",
        "train.checkpoint_every=0",
        "train.validate_every=4",
        "sam2.model.image_size=64",
    ];
    let sources: Vec<_> = std::iter::once(stage.preset())
        .chain(own.iter().chain(settings).map(|set| Source::Set((*set).into())))
        .collect();
    resolve(&sources).expect("a valid config")
}

/// A run that stops behind step `until`, and the losses of its steps.
fn pretrain(
    stage: Stage,
    config: &Config,
    data: &Path,
    out: &Path,
    resume: bool,
    until: usize,
) -> (Result<Pretrained, RunError>, Vec<f64>) {
    std::fs::create_dir_all(out).expect("a writable folder");
    let losses = Arc::new(Mutex::new(Vec::new()));
    let run = PretrainRun {
        stage,
        config: config.clone(),
        data: data.into(),
        out: out.into(),
        resume,
        interrupter: Default::default(),
        listener: Arc::new(|_| {}),
    };
    let (interrupter, told) = (run.interrupter.clone(), losses.clone());
    let listener = move |event: &TrainEvent| {
        if let TrainEvent::Measured {
            split: "train",
            step,
            values,
            ..
        } = event
        {
            told.lock()
                .unwrap()
                .push(values.get("loss").expect("every stage has a loss"));
            if *step == until {
                interrupter.stop(Some("test"));
            }
        }
    };
    let run = PretrainRun {
        listener: Arc::new(listener),
        ..run
    };
    let made = run.pretrain::<Training, Box<RunError>>(&Default::default(), || Ok(()));
    let losses = losses.lock().unwrap().clone();
    (made.map_err(|error| *error), losses)
}

/// The stage learns, what it writes begins a training, and stopping in its middle changes nothing.
fn learns_and_resumes(stage: Stage, settings: &[&str], steps: usize, falls_to: f64) {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let data = scenes(root.path());
    let total = format!("train.steps={steps}");
    let config = config(stage, &[settings, &[total.as_str()]].concat());

    let whole = root.path().join("whole");
    let (made, losses) = pretrain(stage, &config, &data, &whole, false, usize::MAX);
    let made = made.unwrap();
    assert_eq!(losses.len(), steps);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..3]), mean(&losses[steps - 3..]));
    assert!(last < falls_to * first, "{stage}: {losses:?}");
    assert!(
        made.gates.iter().all(|gate| (0.0..=1.0).contains(&gate.value)),
        "{:?}",
        made.gates
    );

    // Between two validations, so that sums of the log and the best loss go on, too.
    let parts = root.path().join("parts");
    let (stopped, _) = pretrain(stage, &config, &data, &parts, false, steps / 2 + 1);
    assert!(matches!(stopped, Err(RunError::Interrupted)), "{stopped:?}");
    let (resumed, rest) = pretrain(stage, &config, &data, &parts, true, usize::MAX);
    assert_eq!(
        rest,
        losses[steps / 2 + 1..],
        "{stage}: the resumed run sees other batches"
    );
    assert_eq!(resumed.unwrap().gates, made.gates);
    let weights = |out: &Path| std::fs::read(out.join(stage.file_name())).unwrap();
    assert!(
        weights(&whole) == weights(&parts),
        "{stage}: the resumed run ends with other weights"
    );

    // Another stage's run is refused.
    let other = if stage == Stage::Text {
        Stage::Audio
    } else {
        Stage::Text
    };
    let (refused, _) = pretrain(other, &config, &data, &parts, true, usize::MAX);
    assert!(matches!(refused, Err(RunError::Checkpoint(_))), "{refused:?}");

    let set = format!("weights.{stage}={}", made.weights.display());
    let sets = [
        set.as_str(),
        "sam2.model.image_size=64",
        "train.steps=1",
        "train.batch_size=1",
        "train.overlays=0",
    ];
    let config = crate::data::config(&sets);
    let data = RefAvs::open(&data).unwrap();
    let out = root.path().join("training");
    training(&config, &data, &out, false)
        .train::<Training>(&Default::default())
        .unwrap();
}

#[test]
fn the_audio_stage_learns_and_resumes() {
    // Clips have more or fewer voices to name, and so have their losses: three batches of four even that out.
    learns_and_resumes(Stage::Audio, &["train.batch_size=4"], 20, 0.9);
}

#[test]
fn the_vision_stage_learns_and_resumes() {
    learns_and_resumes(Stage::Vision, &["train.batch_size=4"], 14, 0.9);
}

#[test]
fn the_text_stage_learns_and_resumes() {
    learns_and_resumes(Stage::Text, &["train.batch_size=8"], 16, 0.8);
}

#[test]
fn the_sam2_stage_learns_and_resumes() {
    // The last two fifths of the steps are clips, mostly.
    learns_and_resumes(
        Stage::Sam2,
        &["train.batch_size=2", "train.tracked_frames=1"],
        20,
        0.95,
    );
}
