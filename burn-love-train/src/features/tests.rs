//! What is kept comes back, and nothing else does.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use burn::prelude::*;
use burn_flex::Flex;
use burn_love::{
    love::{LoveConfig, Sam2Love, Trainable},
    sam2::NeckFeatures,
};

use super::{entry::from_bytes, *};
use crate::{data::FrameFiles, inference::Seen};

type B = Flex;

fn open(folder: &std::path::Path, precision: CachePrecision, limit: u64) -> Arc<FeatureCache> {
    Arc::new(FeatureCache::open(folder, precision, limit).unwrap())
}

fn model() -> Sam2Love<B> {
    let model = LoveConfig::nano().init::<B>(&Default::default());
    crate::inference::initialise(&model);
    model
}

/// A cache for a model of which no part learns.
fn of(cache: &Arc<FeatureCache>, model: &Sam2Love<B>) -> ModelFeatures {
    ModelFeatures::new(cache.clone(), model, &Trainable::NOTHING, &Default::default())
}

/// Files of such contents in a new folder.
fn clip(contents: &[&[u8]]) -> (tempfile::TempDir, FrameFiles) {
    let folder = tempfile::tempdir().unwrap();
    let write = |(t, content): (usize, &&[u8])| {
        let path = folder.path().join(t.to_string());
        fs::write(&path, content).unwrap();
        path
    };
    let files = FrameFiles::new(contents.iter().enumerate().map(write).collect());
    (folder, files)
}

/// The place of the maps of a frame whose file has such a content.
fn place(features: &ModelFeatures, content: &[u8]) -> Slot {
    features.maps(&clip(&[content]).1, 0).unwrap().unwrap()
}

fn maps(start: f32) -> NeckFeatures<B> {
    let map = |side: usize| {
        let values: Vec<f32> = (0..2 * side * side).map(|i| start + i as f32 / 7.0).collect();
        Tensor::<B, 4>::from_data(TensorData::new(values, [1, 2, side, side]), &Default::default())
    };
    NeckFeatures {
        stride4: map(8),
        stride8: map(4),
        stride16: map(2),
    }
}

fn values(maps: &NeckFeatures<B>) -> Vec<TensorData> {
    [&maps.stride4, &maps.stride8, &maps.stride16]
        .map(|map| map.to_data())
        .to_vec()
}

/// All files below a folder.
fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn an_entry_is_computed_once_and_comes_back_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let cache = open(folder.path(), CachePrecision::F32, u64::MAX);
    let slot = place(&of(&cache, &model()), b"a frame");
    let first = recall(Some(&slot), &device, || maps(0.0));
    let again = recall(Some(&slot), &device, || -> NeckFeatures<B> {
        panic!("it is kept")
    });
    assert_eq!(values(&again), values(&first));
    assert_eq!(values(&first), values(&maps(0.0)));
    let report = cache.report();
    assert_eq!((report.read, report.computed, report.damaged), (1, 1, 0));
    let size = fs::metadata(&files(folder.path())[0]).unwrap().len();
    assert_eq!(report.bytes, size);
    assert_eq!(open(folder.path(), CachePrecision::F32, 0).report().bytes, size);
}

#[test]
fn half_precision_rounds_what_is_computed_as_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let cache = open(folder.path(), CachePrecision::F16, u64::MAX);
    let slot = place(&of(&cache, &model()), b"a frame");
    // The last values are beyond f16.
    let computed = recall(Some(&slot), &device, || maps(65_500.0));
    let read = recall(Some(&slot), &device, || -> NeckFeatures<B> {
        panic!("it is kept")
    });
    assert_eq!(values(&computed), values(&read));
    for (rounded, exact) in values(&computed).iter().zip(values(&maps(65_500.0))) {
        for (rounded, exact) in rounded.iter::<f32>().zip(exact.iter::<f32>()) {
            assert!(rounded.is_finite() && (rounded - exact).abs() <= exact / 2048.0 + 30.0);
        }
    }
}

#[test]
fn any_flipped_or_missing_byte_is_noticed_and_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let cache = open(folder.path(), CachePrecision::F32, u64::MAX);
    let slot = place(&of(&cache, &model()), b"a frame");
    recall(Some(&slot), &device, || maps(0.0));
    let path = files(folder.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    assert!(from_bytes(&whole, &slot.key, None).is_some());
    let expected = from_bytes(&whole, &slot.key, None).unwrap();
    for i in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[i] ^= 1 << (i % 8);
        // A space of the header may become a tab: then the content is the same.
        if let Some(found) = from_bytes(&flipped, &slot.key, None) {
            assert_eq!(found, expected, "byte {i}");
        }
        assert!(from_bytes(&whole[..i], &slot.key, None).is_none(), "cut at {i}");
    }
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 4;
    fs::write(&path, flipped).unwrap();
    let again = recall(Some(&slot), &device, || maps(0.0));
    assert_eq!(values(&again), values(&maps(0.0)));
    assert_eq!(cache.report().damaged, 1);
    // Not byte by byte: the order of the metadata is not fixed.
    let kept = from_bytes(&fs::read(&path).unwrap(), &slot.key, None);
    assert_eq!(kept, Some(expected), "the better one is kept");
}

#[test]
fn another_input_other_weights_and_another_config_have_other_names() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), CachePrecision::F32, u64::MAX);
    let whose = model();
    let (one, same, other) = (of(&cache, &whose), of(&cache, &whose), of(&cache, &model()));
    let path = |slot: Slot| slot.key.path();
    assert_eq!(path(place(&one, b"a")), path(place(&same, b"a")));
    assert_ne!(path(place(&one, b"a")), path(place(&one, b"b")));
    assert_ne!(path(place(&one, b"a")), path(place(&other, b"a")));
    let sound = |rows, content: &[u8]| {
        let read = || Ok(content.to_vec());
        path(
            one.sound(&PathBuf::from(format!("{content:?}")), rows, read)
                .unwrap()
                .unwrap(),
        )
    };
    assert_ne!(sound(9, b"a"), sound(10, b"a"));
    assert_ne!(sound(9, b"a"), sound(9, b"b"));
    assert_eq!(sound(9, b""), path(one.silence(9).unwrap()));
    let sight = |contents: &[&[u8]]| path(one.sight(&clip(contents).1).unwrap().unwrap());
    assert_ne!(sight(&[b"ab", b"c"]), sight(&[b"a", b"bc"]));

    let device = Default::default();
    let vision = &whose.encoders.vision;
    let config = whose.config.encoders.vision.clone();
    let print = |config| Fingerprint::of(vision, config, &device);
    let mut timm = config.clone();
    timm.epsilon = 1e-6;
    assert_ne!(
        print(&config),
        print(&timm),
        "the same weights behind other norms"
    );
}

#[test]
fn parts_that_learn_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), CachePrecision::F32, u64::MAX);
    let device = Default::default();
    let model = model();
    let trainable = Trainable {
        audio_encoder: false,
        ..Trainable::ALL
    };
    let features = ModelFeatures::new(cache, &model, &trainable, &device);
    assert!(features.silence(1).is_some());
    let (_folder, files) = clip(&[b""]);
    assert!(features.sight(&files).unwrap().is_none() && features.maps(&files, 0).unwrap().is_none());
}

#[test]
fn an_inputs_files_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), CachePrecision::F32, u64::MAX);
    let features = of(&cache, &model());
    let (clip_folder, files) = clip(&[b"a", b"b"]);
    let sound = |read: fn() -> Vec<u8>| {
        let path = clip_folder.path().join("audio.wav");
        features.sound(&path, 2, || Ok(read())).unwrap().unwrap().key
    };
    let of_clip = |files: &FrameFiles| {
        let frame = features.maps(files, 1).unwrap().unwrap().key;
        (features.sight(files).unwrap().unwrap().key, frame)
    };
    let (first, heard) = (of_clip(&files), sound(|| b"c".to_vec()));
    // Without an entry, another content has another name; with one, nobody looks.
    assert_ne!(sound(|| b"d".to_vec()), heard);
    assert_eq!(sound(|| b"c".to_vec()), heard);
    for key in [&first.0, &first.1, &heard] {
        let path = folder.path().join(key.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }
    let paths = (0..2).map(|t| files.path(t).to_path_buf()).collect();
    clip_folder
        .path()
        .read_dir()
        .unwrap()
        .for_each(|file| fs::remove_file(file.unwrap().path()).unwrap());
    let gone = FrameFiles::new(paths);
    assert_eq!(of_clip(&gone), first);
    assert_eq!(sound(|| panic!("it is known")), heard);
    let error = features.maps(&gone, 0).unwrap_err().to_string();
    assert!(error.contains("expected a decodable frame"), "{error}");
}

#[test]
fn of_some_frames_come_the_values_that_all_have_there() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let seen = || {
        let values = |count: usize| Tensor::<B, 1, Int>::arange(0..count as i64, &device).float() / 7.0;
        Seen {
            patches: values(4 * 3 * 5).reshape([1, 4, 3, 5]),
            cls: values(4 * 5).reshape([1, 4, 5]),
        }
    };
    for precision in [CachePrecision::F32, CachePrecision::F16] {
        let cache = open(folder.path(), precision, u64::MAX);
        let (_folder, files) = clip(&[b"a", b"b", b"c", format!("{precision:?}").as_bytes()]);
        let slot = of(&cache, &model()).sight(&files).unwrap().unwrap();
        let whole = recall(Some(&slot), &device, seen);
        let shown = [0, 3];
        let input = || -> Result<(), ()> { panic!("it is kept") };
        let some = Asked::of_frames(Some(slot.clone()), Some(&shown), input).unwrap();
        let some: Seen<B> = some.answer(&device, |()| panic!("it is known"));
        let indices = Tensor::<B, 1, Int>::from_data([0, 3], &device);
        assert_eq!(
            some.patches.to_data(),
            whole.patches.select(1, indices.clone()).to_data()
        );
        assert_eq!(some.cls.to_data(), whole.cls.select(1, indices).to_data());
        // An entry of fewer frames than the clip has cannot be its own.
        assert!(slot.get(Some(&[4])).is_none());
        assert_eq!(cache.report().damaged, 1);
    }
}

#[test]
fn beyond_the_limit_nothing_is_kept_and_all_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let whose = model();
    let size = {
        let cache = open(folder.path(), CachePrecision::F32, u64::MAX);
        let slot = place(&of(&cache, &whose), b"0");
        recall(Some(&slot), &device, || maps(0.0));
        cache.report().bytes
    };
    let cache = open(folder.path(), CachePrecision::F32, 2 * size + 1);
    let model = of(&cache, &whose);
    for i in 1..5u8 {
        let slot = place(&model, &[i]);
        let found = recall(Some(&slot), &device, || maps(f32::from(i)));
        assert_eq!(values(&found), values(&maps(f32::from(i))));
    }
    let report = cache.report();
    assert_eq!((report.computed, report.left_out, report.bytes), (4, 3, 2 * size));
    assert_eq!(files(folder.path()).len(), 2);
    assert!(report.to_string().contains("3 not kept"), "{report}");
    assert_eq!(report.damaged, 0);
    assert!(report.computing < Duration::from_secs(60));
}

#[test]
fn a_disk_that_refuses_costs_nothing_but_the_entry() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let cache = open(folder.path(), CachePrecision::F32, u64::MAX);
    let slot = place(&of(&cache, &model()), b"a frame");
    // A file where the entry's folder would be.
    let path = folder.path().join(slot.key.path());
    fs::write(path.parent().unwrap().parent().unwrap(), b"").unwrap();
    let found = recall(Some(&slot), &device, || maps(0.0));
    assert_eq!(values(&found), values(&maps(0.0)));
    let report = cache.report();
    assert_eq!((report.left_out, report.bytes), (1, 0));
    let error = FeatureCache::open(&files(folder.path())[0], CachePrecision::F32, 0).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected a folder for cached features"),
        "{error}"
    );
}
