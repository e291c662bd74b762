//! Training and evaluation with cached features: the same results as without.

use std::{path::Path, sync::Arc};

use burn_flex::Flex;
use burn_love_train::{
    config::Config,
    data::{RefAvs, Split},
    evaluation::{EvalOptions, evaluate},
    features::{CachePrecision, CacheReport, FeatureCache},
    training::load_model,
};

use crate::data::{alone, config, few_clips, run};

type Training = burn::backend::Autodiff<Flex>;

/// The paper's freezing at nano's size, and one tracked frame.
fn frozen() -> Config {
    config(&[
        "train.steps=4",
        "train.batch_size=3",
        "train.audio_encoder=false",
        "train.vision_encoder=false",
        "train.text_encoder=false",
        "train.image_encoder=false",
        "train.memory=false",
        "train.tracked_frames=1",
        "train.muted_nulls=0.3",
        "train.swapped_nulls=0.4",
        "train.warmup_steps=1",
        "train.lr=1e-3",
        "sam2.model.image_size=64",
    ])
}

/// The weights that a run ends with.
fn weights(config: &Config, data: &RefAvs, out: &Path, cache: Option<&Arc<FeatureCache>>) -> Vec<u8> {
    let mut run = run(config, data, out, false);
    run.features = cache.cloned();
    run.train::<Training>(&Default::default()).unwrap();
    std::fs::read(out.join("checkpoints/step-00000004/model.safetensors")).unwrap()
}

fn counts(report: &CacheReport) -> (usize, usize, usize) {
    (report.read, report.computed, report.damaged)
}

#[test]
fn cached_features_change_nothing_but_the_time() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str| root.path().join(name);
    // Two clips of three rows each: two epochs in four steps.
    let data = few_clips(&folder("data"), 2, (64, 48));
    let config = frozen();
    let open = || Arc::new(FeatureCache::open(&folder("cache"), CachePrecision::F32, u64::MAX).unwrap());

    let without = weights(&config, &data, &folder("without"), None);
    let cache = open();
    let first = weights(&config, &data, &folder("first"), Some(&cache));
    assert!(first == without, "filling the cache changed the weights");
    let report = cache.report();
    assert!(report.computed > 0 && report.read > 0, "{report}");

    let cache = open();
    let second = weights(&config, &data, &folder("second"), Some(&cache));
    assert!(second == without, "reading the cache changed the weights");
    let (read, computed, damaged) = counts(&cache.report());
    assert_eq!((computed, damaged), (0, 0), "all is there");
    // Four steps of three rows: a sentence, a sound, a clip and two frames each.
    assert_eq!(read, 4 * 3 * 5);

    // A damaged entry is computed again.
    let broken = std::fs::read_dir(folder("cache"))
        .unwrap()
        .map(|part| part.unwrap().path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vision-"))
        })
        .and_then(|part| std::fs::read_dir(part).unwrap().next())
        .and_then(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap().next())
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&broken).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&broken, bytes).unwrap();
    let cache = open();
    let third = weights(&config, &data, &folder("third"), Some(&cache));
    assert!(third == without, "a damaged entry changed the weights");
    let (_, computed, damaged) = counts(&cache.report());
    assert!(damaged >= 1 && computed >= 1, "{}", cache.report());

    // Evaluation reads what training kept, and answers the same.
    let device = Default::default();
    let file = folder("without").join("checkpoints/step-00000004/model.safetensors");
    let model = load_model::<Flex>(&config, &file, &device).unwrap();
    let judge = |features: Option<Arc<FeatureCache>>| {
        let options = EvalOptions {
            splits: vec![Split::Train],
            features,
            ..EvalOptions::default()
        };
        let evaluation = evaluate(&model, &config, &data, &options, &device, &mut |_, _| {}).unwrap();
        evaluation
            .rows
            .iter()
            .map(|row| (row.presence, row.area, row.j))
            .collect::<Vec<_>>()
    };
    let plain = judge(None);
    let cache = open();
    assert_eq!(judge(Some(cache.clone())), plain);
    let report = cache.report();
    assert!(report.read > 0, "{report}");
    let cache = open();
    assert_eq!(judge(Some(cache.clone())), plain);
    assert_eq!(cache.report().computed, 0);
}

#[test]
fn a_run_in_half_precision_does_not_depend_on_what_is_cached() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str| root.path().join(name);
    let data = few_clips(&folder("data"), 2, (64, 48));
    let config = frozen();
    let open = |limit| Arc::new(FeatureCache::open(&folder("cache"), CachePrecision::F16, limit).unwrap());
    let nothing_kept = weights(&config, &data, &folder("nothing"), Some(&open(0)));
    let first = weights(&config, &data, &folder("first"), Some(&open(u64::MAX)));
    let second = weights(&config, &data, &folder("second"), Some(&open(u64::MAX)));
    assert!(first == nothing_kept && second == nothing_kept);
}
