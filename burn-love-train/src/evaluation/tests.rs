//! Evaluations of an untrained nano model on a few scenes.

use std::{path::PathBuf, sync::OnceLock};

use burn_flex::Flex;
use burn_love::love::Sam2Love;

use super::*;
use crate::{
    config::{Config, Source, resolve},
    data::{RefAvs, Split},
    synth::{SynthConfig, generate},
};

type B = Flex;

struct World {
    folder: tempfile::TempDir,
    config: Config,
    data: RefAvs,
    model: Sam2Love<B>,
}

/// Two clips each of seen classes and of nulls, none of unseen classes, and a model that empties no mask.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let scenes = SynthConfig {
            train: 0,
            val: 0,
            test_seen: 2,
            test_unseen: 0,
            test_null: 2,
            width: 64,
            height: 48,
            expressions_per_clip: 2,
            ..SynthConfig::default()
        };
        generate(&scenes, folder.path(), &|_, _| {}).unwrap();
        let data = RefAvs::open(folder.path()).unwrap();
        let sources = ["sam2.model.image_size=64", "sam2.object_gate=false"];
        let sources = sources.map(|set| Source::Set(set.into()));
        let config = resolve(&[&[Source::Preset("nano".into())], &sources[..]].concat()).unwrap();
        let device = Default::default();
        <B as burn::prelude::Backend>::seed(&device, 0);
        let model = config.model.init(&device);
        crate::inference::initialise(&model);
        World {
            folder,
            config,
            data,
            model,
        }
    })
}

fn run(options: &EvalOptions) -> Evaluation {
    let world = world();
    let device = Default::default();
    let mut last = (0, 1);
    let told = &mut |done, all| last = (done, all);
    let evaluation = evaluate(&world.model, &world.config, &world.data, options, &device, told).unwrap();
    assert_eq!(last, (evaluation.rows.len(), evaluation.rows.len()));
    evaluation
}

fn only(split: Split) -> EvalOptions {
    EvalOptions {
        splits: vec![split],
        ..EvalOptions::default()
    }
}

/// What a model that sees, hears and reads answers on the seen split.
fn plain() -> &'static Evaluation {
    static PLAIN: OnceLock<Evaluation> = OnceLock::new();
    PLAIN.get_or_init(|| run(&EvalOptions::default()))
}

fn seen_rows(evaluation: &Evaluation) -> Vec<(f64, f64)> {
    let rows = evaluation.rows.iter().filter(|row| row.split == Split::TestS);
    rows.map(|row| (row.presence, row.area)).collect()
}

#[test]
fn metrics_json_has_the_documented_fields_and_empty_splits_no_scores() {
    let evaluation = plain();
    let out = tempfile::tempdir().unwrap();
    evaluation.write(&out.path().join("new")).unwrap();
    let read = |name: &str| std::fs::read_to_string(out.path().join("new").join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("metrics.json")).unwrap();
    assert_eq!(json["protocol"], "official");
    assert_eq!(json["synthetic"], true);
    let splits: Vec<&String> = json["splits"].as_object().unwrap().keys().collect();
    assert_eq!(splits, ["test_s", "test_u", "mix", "test_n"]);
    let seen = &json["splits"]["test_s"];
    let rows = world().data.split(Split::TestS).len();
    assert_eq!(seen["n"], rows);
    let value = |field: &str| seen[field].as_f64().unwrap();
    assert!((value("JF") - (value("J") + value("F")) / 2.0).abs() < 1e-12);
    for field in ["J", "F", "JF"] {
        assert!((0.0..=1.0).contains(&value(field)), "{field}: {}", value(field));
        assert!(json["splits"]["test_u"][field].is_null());
        assert!(json["splits"]["mix"][field].is_null());
    }
    assert_eq!(json["splits"]["test_u"]["n"], 0);
    let null = &json["splits"]["test_n"];
    for field in ["S", "S_text_normalised", "S_audio_swapped"] {
        assert!((0.0..=1.0).contains(&null[field].as_f64().unwrap()), "{field}");
    }
    assert_eq!(null["n"], world().data.split(Split::TestN).len());

    let markdown = read("metrics.md");
    assert!(
        markdown.contains("not Ref-AVS") && markdown.contains("| SAM2-LOVE | 43.5 |"),
        "{markdown}"
    );
    assert_eq!(read("metrics.csv").lines().count(), 4);
    assert_eq!(
        read("per_expression.csv").lines().count(),
        1 + evaluation.rows.len()
    );
    assert!(!markdown.contains("NaN"));
}

#[test]
fn every_modality_and_the_sound_change_the_result() {
    let reference = seen_rows(plain());
    let drops = [Modality::Audio, Modality::Text, Modality::Vision].map(|modality| EvalOptions {
        drop: Some(modality),
        ..only(Split::TestS)
    });
    let swap = EvalOptions {
        swap_audio: true,
        ..only(Split::TestS)
    };
    for options in drops.iter().chain([&swap]) {
        let evaluation = run(options);
        assert_eq!(evaluation.drop, options.drop);
        assert_ne!(seen_rows(&evaluation), reference, "{options:?}");
    }
    let blind = run(&drops[1]);
    assert!(blind.rows.iter().all(|row| row.expression == "the object"));
}

#[test]
fn evaluations_repeat_and_rows_depend_neither_on_the_splits_beside_them_nor_on_threads() {
    let again = run(&EvalOptions {
        workers: 2,
        ..only(Split::TestS)
    });
    assert_eq!(seen_rows(&again), seen_rows(plain()));
    assert_eq!(again.split(Split::TestS), plain().split(Split::TestS));
    assert_eq!(again.mix(), None);
}

#[test]
fn dumps_hold_probabilities_at_256_whatever_the_protocol() {
    for protocol in [Protocol::Official, Protocol::PerExpression] {
        let folder = tempfile::tempdir().unwrap();
        let options = EvalOptions {
            protocol,
            dump: Some(folder.path().join("dump")),
            ..only(Split::TestS)
        };
        let evaluation = run(&options);
        for row in &evaluation.rows {
            let path = folder
                .path()
                .join("dump")
                .join(format!("{}.safetensors", row.uid));
            let bytes = std::fs::read(&path).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(file.len(), 2);
            assert_eq!(file.tensor("probability").unwrap().shape(), [10, 256, 256]);
            let presence = file.tensor("presence").unwrap();
            let values: Vec<f32> = presence
                .data()
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            let mean = values.iter().map(|p| f64::from(*p)).sum::<f64>() / 10.0;
            assert!((mean - row.presence).abs() < 1e-9);
        }
    }
}

#[test]
fn a_split_of_one_clip_has_no_other_sound() {
    let world = world();
    let table = std::fs::read_to_string(world.folder.path().join("metadata.csv")).unwrap();
    let first = world.data.split(Split::TestN)[0].key().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let kept = |line: &&str| line.starts_with("vid") || line.contains(&first);
    let lines: Vec<&str> = table.lines().filter(kept).collect();
    std::fs::write(folder.path().join("metadata.csv"), lines.join("\n")).unwrap();
    for name in ["media", "lavs"] {
        copy(&world.folder.path().join(name), folder.path().join(name));
    }
    let data = RefAvs::open(folder.path()).unwrap();
    let evaluate = |options: &EvalOptions| {
        let device = Default::default();
        evaluate(
            &world.model,
            &world.config,
            &data,
            options,
            &device,
            &mut |_, _| {},
        )
    };
    let plain = evaluate(&only(Split::TestN)).unwrap();
    let score = plain.split(Split::TestN).unwrap().null.as_ref().unwrap();
    assert!(score.text_normalised.is_some() && score.audio_swapped.is_none());
    let swap = EvalOptions {
        swap_audio: true,
        ..only(Split::TestN)
    };
    let error = evaluate(&swap).unwrap_err();
    assert!(
        error.to_string().contains("test_n") && error.hint().is_some(),
        "{error}"
    );
}

/// Copies a folder.
fn copy(from: &std::path::Path, to: PathBuf) {
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, target),
            false => drop(std::fs::copy(&path, target).unwrap()),
        }
    }
}

#[test]
fn names_parse_and_unknown_ones_list_the_known() {
    assert_eq!("per-expression".parse(), Ok(Protocol::PerExpression));
    assert_eq!("vision".parse(), Ok(Modality::Vision));
    let error = "sound".parse::<Modality>().unwrap_err();
    assert!(error.to_string().contains("audio, text, vision"), "{error}");
}

#[test]
fn texts_are_normalised_without_losing_them() {
    assert_eq!(answers::normalised("The Star. "), "the star");
    assert_eq!(answers::normalised("NO."), "no");
    assert_eq!(answers::normalised("."), ".");
}
