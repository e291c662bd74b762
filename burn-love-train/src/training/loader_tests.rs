//! What micro-batches hold.

use burn_flex::Flex;
use burn_love::love::Trainable;

use super::*;
use crate::{
    config::{Source, resolve},
    data::Split,
    features::{CachePrecision, FeatureCache},
    inference::initialise,
    synth::{SynthConfig, generate},
};

/// Rows of a few clips, in their own order; as often as they are asked for.
fn small_rows() -> (tempfile::TempDir, impl Fn() -> Rows) {
    let root = tempfile::tempdir().unwrap();
    let synth = SynthConfig {
        train: 8,
        val: 0,
        test_seen: 0,
        test_unseen: 0,
        test_null: 0,
        width: 64,
        height: 48,
        ..SynthConfig::default()
    };
    generate(&synth, root.path(), &|_, _| {}).unwrap();
    let data = RefAvs::open(root.path()).unwrap();
    let config = resolve(&[Source::Preset("nano".into())]).unwrap();
    let rows = move || Rows {
        rows: data.split(Split::Train).into_iter().cloned().collect(),
        data: data.clone(),
        preparer: Preparer::new(&config).unwrap(),
        batch_size: 1,
        shown: Shown::all(1),
        first: (0, Shown::all(1)),
        nulls: SyntheticNulls::default(),
        shuffle: None,
        features: None,
    };
    (root, rows)
}

#[test]
fn the_first_micro_batches_have_but_a_glance() {
    let (_root, rows) = small_rows();
    let rows = Rows {
        shown: Shown {
            masks: 3,
            frames: 4,
            patches: 36,
        },
        first: (
            rows().rows.len() + 2,
            Shown {
                masks: 1,
                frames: 1,
                patches: 24,
            },
        ),
        ..rows()
    };
    let seen = |epoch, number| {
        let batch = rows.batch(epoch, number, &[number]).unwrap();
        let patches = batch.patches.unwrap().indices;
        assert!(patches.is_sorted_by(|a, b| a < b) && patches[patches.len() - 1] < 144);
        let frames = batch.sights[0].shown.clone().unwrap();
        (batch.mask_frames, batch.frames.len(), frames.len(), patches.len())
    };
    // An epoch and two micro-batches.
    for (epoch, number) in [(0, 0), (0, rows.rows.len() - 1), (1, 1)] {
        assert_eq!(seen(epoch, number), (1, 1, 1, 24));
    }
    for (epoch, number) in [(1, 2), (2, 0)] {
        assert_eq!(seen(epoch, number), (3, 3, 4, 36));
    }
    // Other patches each time.
    let patches = |number: usize| rows.batch(0, number, &[number]).unwrap().patches.unwrap().indices;
    assert_ne!(patches(0), patches(1));
}

#[test]
fn synthetic_nulls_hear_something_else_and_show_nothing() {
    let (_root, rows) = small_rows();
    let batches = |muted, swapped| {
        let rows = Rows {
            nulls: SyntheticNulls { muted, swapped },
            ..rows()
        };
        let batches = (0..rows.rows.len()).map(|i| rows.batch(0, i, &[i]).unwrap());
        batches.collect::<Vec<_>>()
    };
    let (plain, muted, swapped) = (batches(0.0, 0.0), batches(1.0, 0.0), batches(0.0, 1.0));
    let sound = |batch: &BatchRows| batch.sounds[0].input().values.clone();
    let silence = background(10).values;
    let mut deprived = 0;
    let rows = rows().rows;
    for (i, row) in rows.iter().enumerate() {
        // All templates with a sound but "silent" and "no sound" say "sound" or how loud.
        let states = ["sounding", "a sound", "loudest", "quietest", "est sound"];
        let states = states.iter().any(|words| row.expression.contains(words));
        if row.is_null() || !states {
            for other in [&muted[i], &swapped[i]] {
                assert_eq!(other.labels, plain[i].labels, "{}", row.expression);
                assert_eq!(sound(other), sound(&plain[i]));
            }
            continue;
        }
        deprived += 1;
        for other in [&muted[i], &swapped[i]] {
            assert!(
                other.labels.iter().all(|label| *label == 0.0),
                "{}",
                row.expression
            );
            assert_ne!(sound(other), sound(&plain[i]));
        }
        assert_eq!(sound(&muted[i]), silence);
        assert_ne!(sound(&swapped[i]), silence);
    }
    assert!(
        deprived > 4 && deprived < rows.len(),
        "{deprived} of {}",
        rows.len()
    );
}

#[test]
fn the_first_frame_is_always_shown_and_every_other_one_at_times() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut seen = [0; 10];
    for _ in 0..300 {
        let shown = shown(10, 4, &mut rng);
        assert_eq!((shown.len(), shown[0]), (4, 0));
        assert!(shown.is_sorted_by(|a, b| a < b), "{shown:?}");
        shown.iter().for_each(|frame| seen[*frame] += 1);
    }
    assert!(
        seen[1..].iter().all(|times| (60..140).contains(times)),
        "{seen:?}"
    );
    assert_eq!(shown(10, 1, &mut rng), [0]);
}

#[test]
fn what_is_known_and_what_is_not_make_one_batch() {
    let (_root, rows) = small_rows();
    let device = Default::default();
    let model = resolve(&[Source::Preset("nano".into())]).unwrap().model;
    let model = model.init::<Flex>(&device);
    initialise(&model);
    let nothing = Trainable::NOTHING;
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(FeatureCache::open(folder.path(), CachePrecision::F32, u64::MAX).unwrap());
    let kept = ModelFeatures::new(cache, &model, &nothing, &device);
    let shown = Shown {
        masks: 2,
        frames: 3,
        patches: 0,
    };
    let plain = Rows { shown, ..rows() };
    let keeping = Rows {
        shown,
        features: Some(kept),
        ..rows()
    };
    // Two clips, of which the first one's features are kept.
    let picture = |row: &Row| plain.data.frame_files(row).unwrap().content(0).unwrap().to_vec();
    let first = picture(&plain.rows[0]);
    let other = plain.rows.iter().position(|row| picture(row) != first).unwrap();
    let features = |rows: &Rows, of: &[usize]| {
        let batch = LoveBatch::<Flex> {
            rows: rows.batch(0, 0, of).unwrap(),
            vit_size: rows.preparer.vit_size(),
            sam2_size: rows.preparer.sam2_size,
            device,
        };
        let sights = batch.rows.sights.iter();
        let sights: Vec<bool> = sights
            .map(|sight| matches!(sight.pixels, Asked::Known(_)))
            .collect();
        (sights, batch.features(&model, &nothing))
    };
    features(&keeping, &[0]);
    let (sights, (clip, neck)) = features(&keeping, &[0, other]);
    assert_eq!(sights, [true, false]);
    let (sights, (fresh_clip, fresh_neck)) = features(&plain, &[0, other]);
    assert_eq!(sights, [false, false]);
    let tolerance = burn::tensor::Tolerance::<f32>::rel_abs(1e-4, 1e-4);
    let same = |found: TensorData, expected: TensorData| found.assert_approx_eq(&expected, tolerance);
    same(clip.audio.into_data(), fresh_clip.audio.into_data());
    same(clip.text.into_data(), fresh_clip.text.into_data());
    same(clip.patches.into_data(), fresh_clip.patches.into_data());
    same(clip.cls.into_data(), fresh_clip.cls.into_data());
    same(neck.stride4.into_data(), fresh_neck.stride4.into_data());
    same(neck.stride8.into_data(), fresh_neck.stride8.into_data());
    same(neck.stride16.into_data(), fresh_neck.stride16.into_data());
}
