//! A run that stops between two steps and goes on ends with the same bytes as one that never stopped.

use std::path::Path;

use burn_flex::Flex;
use burn_love_train::training::{Position, RunError, TrainEvent};

use crate::data::{alone, config, few_clips, run};

type Training = burn::backend::Autodiff<Flex>;

#[test]
fn resuming_at_a_step_boundary_gives_the_same_weights_byte_for_byte() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let data = few_clips(&root.path().join("data"), 2, (64, 48));
    // Six rows, three micro-batches of two, two of them a step: steps cross the ends of epochs, and the fourth ends inside
    // of one.
    let settings = |steps: usize| {
        let steps = format!("train.steps={steps}");
        let fixed = [
            "train.batch_size=2",
            "train.accumulation=2",
            "sam2.model.image_size=64",
            "train.warmup_steps=2",
        ];
        config(&[fixed.as_slice(), &[steps.as_str()]].concat())
    };
    let weights =
        |out: &Path| std::fs::read(out.join("checkpoints/step-00000006/model.safetensors")).unwrap();
    let device = Default::default();

    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
    let full = settings(6);
    run(&full, &data, &whole, false)
        .train::<Training>(&device)
        .unwrap();

    // The same run, stopped behind its fourth step by the same road as Ctrl-C.
    let stopped = run(&full, &data, &parts, false);
    let interrupter = stopped.interrupter.clone();
    let mut stopped = stopped;
    stopped.config.train.log_every = 1;
    stopped.listener = std::sync::Arc::new(move |event| {
        if let TrainEvent::Step { step: 4, .. } = event {
            interrupter.stop(Some("test"));
        }
    });
    let error = stopped.train::<Training>(&device).unwrap_err();
    assert!(matches!(error, RunError::Interrupted), "{error}");
    assert_eq!(
        std::fs::read_to_string(parts.join("last")).unwrap(),
        "step-00000004"
    );
    let stopped_at = parts.join("checkpoints/step-00000004");
    assert!(stopped_at.join("model.safetensors").is_file());
    let position: Position =
        toml::from_str(&std::fs::read_to_string(stopped_at.join("position.toml")).unwrap()).unwrap();
    assert_eq!((position.epoch, position.micro_batch), (2, 2), "inside an epoch");
    run(&full, &data, &parts, true)
        .train::<Training>(&device)
        .unwrap();

    assert!(
        weights(&whole) == weights(&parts),
        "the resumed run ends with other weights"
    );
}
