//! A training whose weights have left all bounds stops by itself, behind a checkpoint, and goes on from there; a step that
//! cannot be taken because of its data is left out.

use burn::backend::Autodiff;
use burn_flex::Flex;
use burn_love_train::{
    data::Split,
    training::{Position, RunError, TrainEvent},
};

use crate::data::{alone, config, few_clips, run};

type Training = Autodiff<Flex>;

#[test]
fn steps_that_are_not_numbers_are_skipped_and_end_the_run() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let data = few_clips(&root.path().join("data"), 1, (64, 48));
    let out = root.path().join("run");
    // The first step throws the weights so far that every later loss is infinite or not a number.
    let config = config(&[
        "train.steps=20",
        "train.warmup_steps=0",
        "train.lr=1e38",
        "train.batch_size=1",
        "train.max_skipped_in_row=3",
        "train.checkpoint_every=0",
        "train.log_every=1",
        "sam2.model.image_size=64",
    ]);
    let diverge = |resume: bool| {
        let skipped = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let heard = skipped.clone();
        let mut run = run(&config, &data, &out, resume);
        run.listener = std::sync::Arc::new(move |event| {
            if let TrainEvent::Skipped { step, in_row, .. } = event {
                heard.lock().unwrap().push((*step, *in_row));
            }
        });
        let error = run.train::<Training>(&Default::default()).unwrap_err();
        let RunError::Diverged { step, in_row, value } = error else {
            panic!("{error}");
        };
        assert!(in_row == 3 && !value.is_finite(), "{in_row} in a row, {value}");
        (step, std::mem::take(&mut *skipped.lock().unwrap()))
    };
    let (step, skipped) = diverge(false);
    assert!(
        (4..20).contains(&step),
        "the first step was taken, later ones were not: {step}"
    );
    assert_eq!(skipped.last(), Some(&(step, 3)));
    let saved = |step: usize| {
        let folder = out.join(format!("checkpoints/step-{step:08}"));
        let text = std::fs::read_to_string(folder.join("position.toml")).unwrap();
        let position: Position = toml::from_str(&text).unwrap();
        let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
        (position, weights)
    };
    let (position, weights) = saved(step);
    assert_eq!((position.step, position.skipped_in_row), (step, 3));
    assert_eq!(position.skipped, skipped.len());

    // Whoever resumes it has three more tries; skipped steps leave the weights as they are.
    let (later, again) = diverge(true);
    assert_eq!(later, step + 3);
    assert_eq!(again, [(step + 1, 1), (step + 2, 2), (step + 3, 3)]);
    let (position, same) = saved(later);
    assert_eq!(position.skipped, skipped.len() + 3);
    assert!(weights == same, "a skipped step moved the weights");
}

/// A WAV of float samples so loud that their power is infinite: a file that can be read, and features that cannot be used.
fn deafening(path: &std::path::Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for i in 0..160_000 {
        writer
            .write_sample(if i % 2 == 0 { 1e30f32 } else { -1e30 })
            .unwrap();
    }
    writer.finalize().unwrap();
}

#[test]
fn a_row_that_gives_no_numbers_costs_its_steps_only() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let data = few_clips(&root.path().join("data"), 3, (64, 48));
    let rows = data.split(Split::Train).len();
    let vid = data.split(Split::Train)[0].vid.clone();
    deafening(&root.path().join("data/media").join(vid).join("audio.wav"));
    let out = root.path().join("run");
    // A row a step, two epochs.
    let steps = 2 * rows;
    let config = config(&[
        &format!("train.steps={steps}"),
        "train.warmup_steps=0",
        "train.batch_size=1",
        "train.max_skipped_in_row=7",
        "train.checkpoint_every=0",
        "train.log_every=1",
        "sam2.model.image_size=64",
    ]);
    let events = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = events.clone();
    let mut run = run(&config, &data, &out, false);
    run.listener = std::sync::Arc::new(move |event| heard.lock().unwrap().push(event.clone()));
    run.train::<Training>(&Default::default())
        .expect("most rows can be learned from");

    let events = events.lock().unwrap();
    let skipped: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            TrainEvent::Skipped {
                step, total, value, ..
            } => Some((*step, *total, value.is_finite())),
            _ => None,
        })
        .collect();
    // The clip's three rows, in both epochs.
    assert_eq!(skipped.len(), 6, "{skipped:?}");
    assert!(
        skipped
            .iter()
            .enumerate()
            .all(|(i, (_, total, finite))| *total == i + 1 && !finite)
    );
    let taken: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            TrainEvent::Step {
                step, values, norm, ..
            } => Some((*step, values.loss, *norm)),
            _ => None,
        })
        .collect();
    assert!(
        taken
            .iter()
            .all(|(_, loss, norm)| loss.is_finite() && norm.is_finite()),
        "{taken:?}"
    );
    assert_eq!(
        taken.len() + skipped.len(),
        steps,
        "every step is one or the other: {taken:?}"
    );
    let text =
        std::fs::read_to_string(out.join(format!("checkpoints/step-{steps:08}/position.toml"))).unwrap();
    let position: Position = toml::from_str(&text).unwrap();
    assert_eq!((position.step, position.skipped), (steps, 6));
}
