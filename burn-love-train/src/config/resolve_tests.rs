//! Configs from presets, files and `--set`.

use super::*;

#[test]
fn every_preset_resolves_and_survives_its_own_toml() {
    for preset in PRESETS {
        assert!(
            preset.summary().ends_with('.'),
            "{}: {}",
            preset.name,
            preset.summary()
        );
    }
    for preset in PRESETS {
        let config = resolve(&[Source::Preset(preset.name.into())]).unwrap();
        let embedded = Source::Embedded {
            path: "x".into(),
            toml: config.to_toml(),
        };
        assert_eq!(resolve(&[embedded]).unwrap(), config, "{}", preset.name);
    }
}

#[test]
fn later_layers_win() {
    let sources = [
        "train.lr=3e-4",
        "train.lr=1",
        "encoders.text=distilroberta",
        "fusion.strategy=mean",
    ];
    let sources: Vec<_> = sources.iter().map(|set| Source::Set((*set).into())).collect();
    let config = resolve(&sources).unwrap();
    assert_eq!(config.train.lr, 1.0);
    assert_eq!(config.model.encoders.text, TextConfig::distilroberta());
    assert_eq!(config.model.fusion.strategy, burn_love::fusion::Strategy::Mean);
}

#[test]
fn configs_differ_by_keys() {
    let config = |set: &[&str]| {
        let sources: Vec<_> = set.iter().map(|set| Source::Set((*set).into())).collect();
        resolve(&sources).unwrap()
    };
    let changed = config(&["train.lr=1.0", "fusion.layers=1", "encoders.text.kind=clip"]);
    let keys = differing_keys(&config(&[]), &changed);
    assert_eq!(keys, ["encoders.text.kind", "fusion.layers", "train.lr"]);
    assert!(differing_keys(&changed, &changed).is_empty());
}

#[test]
fn encoders_are_chosen_by_name_or_by_kind() {
    let config = |set: &[&str]| {
        let sources: Vec<_> = set.iter().map(|set| Source::Set((*set).into())).collect();
        resolve(&sources).map(|config| config.model.encoders)
    };
    let named = config(&["encoders.text=clip-nano", "encoders.vision=clip-nano"]).unwrap();
    let kinds = [
        "encoders.text.kind=clip",
        "encoders.vision.kind=clip",
        "encoders.vision.epsilon=1e-5",
    ];
    assert_eq!(named, config(&kinds).unwrap());
    // CLIP's positions are all for tokens; two of RoBERTa's are not.
    assert!(config(&["encoders.text.kind=clip", "encoders.text.positions=25"]).is_ok());
    let error = config(&["encoders.text.positions=26"]).unwrap_err().to_string();
    assert!(error.contains("encoders.text.max_tokens ≤ 24"), "{error}");
    let error = config(&["encoders.text.kind=bert"]).unwrap_err().to_string();
    assert!(error.contains("`bert`") && error.contains("`clip`"), "{error}");
    let clip = resolve(&[Source::Preset("ablation-clip".into())])
        .unwrap()
        .model
        .encoders;
    assert_eq!(clip.text, TextConfig::clip_base_16());
    assert_eq!(clip.vision, VisionConfig::base_16().to_clip());
}

#[test]
fn what_training_does_not_use_makes_no_other_training() {
    let config = |sets: &[&str]| {
        let sets: Vec<_> = sets.iter().map(|set| Source::Set((*set).into())).collect();
        resolve(&sets)
    };
    let plain = config(&[]).unwrap().as_trained();
    for gate in ["object_gate=false", "clip_gate=true", "clip_gate_threshold=0.9"] {
        assert_eq!(config(&[&format!("sam2.{gate}")]).unwrap().as_trained(), plain);
    }
    assert_eq!(config(&["eval.null_threshold=0.6"]).unwrap().as_trained(), plain);
    for key in ["eval.threshold=0.5", "sam2.multimask=true", "train.steps=7"] {
        assert_ne!(config(&[key]).unwrap().as_trained(), plain, "{key}");
    }
    for threshold in ["0.0", "1.0", "-0.5", "nan"] {
        let error = config(&[&format!("sam2.clip_gate_threshold={threshold}")]).unwrap_err();
        assert!(error.to_string().contains("sam2.clip_gate_threshold"), "{error}");
    }
}

#[test]
fn mistakes_are_named_with_a_way_out() {
    let error = |set: &str| resolve(&[Source::Set(set.into())]).unwrap_err();
    assert_eq!(
        error("train.batchsize=2").hint().unwrap(),
        "did you mean `train.batch_size`?"
    );
    assert_eq!(
        error("fusion.layer=2").hint().unwrap(),
        "did you mean `fusion.layers`?"
    );
    assert!(
        error("sam2.model=sam3")
            .hint()
            .unwrap()
            .contains("sam2.1-hiera-tiny")
    );
    for set in [
        "train.lr=fast",
        "train.batch_size=0",
        "fusion.heads=3",
        "eval.threshold=1.0",
        "train.min_lr=1.0",
        "train.max_skipped_in_row=0",
        "train.epsilon=nan",
        "train.lambda_grounding=-1",
        "train.dice_scale=inf",
        "train.best=accuracy",
        "fusion.mlp_ratio=0",
        "train.warmup_type=cosine",
        "train.lr_scale.fusion=-1",
        "train",
        "format_version=7",
        "train=3",
    ] {
        let error = error(set);
        assert!(
            error.to_string().contains(set) || error.to_string().contains("--set"),
            "{error}"
        );
    }
    for (sets, named) in [
        (
            &["fusion.history=inclusive", "fusion.accumulation=false"][..],
            "fusion.history",
        ),
        (
            &["fusion.strategy=mean", "fusion.seg_tokens=4"],
            "fusion.seg_tokens",
        ),
        (
            &["encoders.vision=clip-nano", "train.lambda_grounding=1"],
            "train.lambda_grounding",
        ),
        (&["data.null_repeats=0"], "data.null_repeats"),
        (
            &["fusion.audio_positions=learned", "fusion.max_frames=65"],
            "fusion.max_frames",
        ),
        (
            &[
                "train.lambda_bce=0",
                "train.lambda_dice=0",
                "train.lambda_object=0",
            ],
            "train.lambda_dice",
        ),
    ] {
        let sets: Vec<_> = sets.iter().map(|set| Source::Set((*set).into())).collect();
        let error = resolve(&sets).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    let sets = ["train.lr=0.1", "train.batch_size=0", "train.seed=3"];
    let error = resolve(&sets.map(|set| Source::Set(set.into()))).unwrap_err();
    assert!(
        error.to_string().starts_with("--set train.batch_size=0: "),
        "{error}"
    );
    let preset = resolve(&[Source::Preset("papr".into())]).unwrap_err();
    assert_eq!(preset.hint().unwrap(), "did you mean `paper`?");
}
