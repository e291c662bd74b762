//! A training whose weights have left all bounds stops by itself, behind a checkpoint, and goes on from there; a step that
//! cannot be taken because of its data is left out.

use burn::backend::Autodiff;
use burn_flex::Flex;
use burn_love_train::{
    data::Split,
    features::{CachePrecision, FeatureCache},
    training::{Position, RunError, TrainEvent},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

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

/// Turns one kept answer of the text encoder into no numbers, with a checksum that is right.
fn spoil_a_sentence(cache: &std::path::Path) {
    let files = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    let of_text =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("text-");
    let mut path = files(cache)
        .into_iter()
        .find(of_text)
        .expect("sentences are kept");
    while path.is_dir() {
        path = files(&path).remove(0);
    }
    let content = std::fs::read(&path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&content).unwrap();
    let kept = SafeTensors::deserialize(&content).unwrap();
    let spoiled: Vec<(String, Vec<usize>, Vec<u8>)> = kept
        .iter()
        .map(|(name, view)| {
            let values = view.data().len() / 4;
            (
                name.into(),
                view.shape().into(),
                f32::NAN.to_le_bytes().repeat(values),
            )
        })
        .collect();
    let mut metadata = header.metadata().clone().expect("a key and a checksum");
    let mut hasher = crc32fast::Hasher::new();
    spoiled.iter().for_each(|(_, _, data)| hasher.update(data));
    metadata.insert("crc32".into(), format!("{:08x}", hasher.finalize()));
    let views = spoiled.iter().map(|(name, shape, data)| {
        (
            name.clone(),
            TensorView::new(Dtype::F32, shape.clone(), data).unwrap(),
        )
    });
    std::fs::write(&path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

#[test]
fn a_row_that_gives_no_numbers_costs_its_steps_only() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let data = few_clips(&root.path().join("data"), 2, (64, 48));
    // A row a step, two epochs.
    let steps = 2 * data.split(Split::Train).len();
    let config = config(&[
        &format!("train.steps={steps}"),
        "train.text_encoder=false",
        "train.tracked_frames=0",
        "train.warmup_steps=0",
        "train.batch_size=1",
        "train.max_skipped_in_row=7",
        "train.checkpoint_every=0",
        "train.log_every=1",
        "sam2.model.image_size=64",
    ]);
    let cache = root.path().join("cache");
    let train = |out: &std::path::Path| {
        let events = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let heard = events.clone();
        let mut run = run(&config, &data, out, false);
        let kept = FeatureCache::open(&cache, CachePrecision::F32, u64::MAX).unwrap();
        run.features = Some(std::sync::Arc::new(kept));
        run.listener = std::sync::Arc::new(move |event| heard.lock().unwrap().push(event.clone()));
        run.train::<Training>(&Default::default())
            .expect("most rows can be learned from");
        std::mem::take(&mut *events.lock().unwrap())
    };
    let out = root.path().join("run");
    train(&root.path().join("filling"));
    spoil_a_sentence(&cache);
    let events = train(&out);

    let skipped: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            TrainEvent::Skipped {
                step, total, value, ..
            } => Some((*step, *total, value.is_finite())),
            _ => None,
        })
        .collect();
    // The sentence's rows, in both epochs. A ReLU makes zeros of what is no number, so that it may show in gradients only.
    let count = skipped.len();
    assert!(count > 0 && count % 2 == 0 && count < steps, "{skipped:?}");
    let counted = |(i, (_, total, finite)): (usize, &(usize, usize, bool))| *total == i + 1 && !finite;
    assert!(skipped.iter().enumerate().all(counted), "{skipped:?}");
    let taken: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            TrainEvent::Step {
                step, values, norm, ..
            } => Some((*step, values.loss, *norm)),
            _ => None,
        })
        .collect();
    let finite = |(_, loss, norm): &(usize, f64, f64)| loss.is_finite() && *loss > 0.0 && norm.is_finite();
    assert!(taken.iter().all(finite), "{taken:?}");
    let mut all: Vec<usize> = taken.iter().map(|(step, ..)| *step).collect();
    all.extend(skipped.iter().map(|(step, ..)| *step));
    all.sort_unstable();
    assert_eq!(
        all,
        (1..=steps).collect::<Vec<_>>(),
        "every step is one or the other"
    );
    let folder = out.join(format!("checkpoints/step-{steps:08}"));
    let text = std::fs::read_to_string(folder.join("position.toml")).unwrap();
    let position: Position = toml::from_str(&text).unwrap();
    assert_eq!((position.step, position.skipped), (steps, count));
    let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
    for (name, view) in SafeTensors::deserialize(&weights).unwrap().iter() {
        let values = view.data().chunks_exact(4);
        let finite = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap()).is_finite();
        assert!(values.into_iter().all(finite), "{name} was spoiled");
    }
}
