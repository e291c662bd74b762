//! Ranges and contradictions that types do not express.

use burn_love::{
    encoders::VisionKind,
    fusion::{AudioPositions, FusionConfig, History, Strategy},
};

use super::Config;

/// Ranges that types do not express.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let (train, model) = (&config.train, &config.model);
    let positive = [
        ("train.batch_size", train.batch_size),
        ("train.accumulation", train.accumulation),
        ("train.steps or train.epochs", train.steps.max(train.epochs)),
        ("train.keep_checkpoints", train.keep_checkpoints),
        ("train.log_every", train.log_every),
        ("train.max_skipped_in_row", train.max_skipped_in_row),
        ("eval.batch_size", config.eval.batch_size),
        ("fusion.layers", model.fusion.layers),
        ("fusion.seg_tokens", model.fusion.seg_tokens),
        ("fusion.heads", model.fusion.heads),
        ("fusion.projection_width", model.fusion.projection_width),
        ("fusion.mlp_ratio", model.fusion.mlp_ratio),
    ];
    if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
        return Err(format!("expected {key} ≥ 1, found 0"));
    }
    let divides = [
        (
            "fusion.width",
            model.fusion.width,
            "fusion.heads",
            model.fusion.heads,
        ),
        (
            "encoders.vision.width",
            model.encoders.vision.width,
            "heads",
            model.encoders.vision.heads,
        ),
        (
            "encoders.text.width",
            model.encoders.text.width,
            "heads",
            model.encoders.text.heads,
        ),
        (
            "encoders.vision.image_size",
            model.encoders.vision.image_size,
            "patch_size",
            model.encoders.vision.patch_size,
        ),
        ("sam2.model.image_size", model.sam2.model.image_size, "32", 32),
    ];
    for (key, value, by, divisor) in divides {
        if divisor == 0 || value == 0 || value % divisor != 0 {
            return Err(format!(
                "expected {key} to be a multiple of {by}, found {value} and {divisor}"
            ));
        }
    }
    let text = &model.encoders.text;
    if text.max_tokens > text.longest() || text.max_tokens == 0 {
        return Err(format!(
            "expected 1 ≤ encoders.text.max_tokens ≤ {}, as encoders.text.positions allow, found {}",
            text.longest(),
            text.max_tokens
        ));
    }
    let finite = [
        ("train.lr", train.lr),
        ("train.min_lr", train.min_lr),
        ("train.weight_decay", train.weight_decay),
        ("train.clip_norm", train.clip_norm),
        ("train.lambda_bce", train.lambda_bce),
        ("train.lambda_dice", train.lambda_dice),
        ("train.lambda_object", train.lambda_object),
        ("train.lambda_pointing", train.lambda_pointing),
        ("train.lambda_grounding", train.lambda_grounding),
    ];
    if let Some((key, value)) = finite
        .iter()
        .find(|(_, value)| !value.is_finite() || *value < 0.0)
    {
        return Err(format!("expected {key} to be a number ≥ 0, found {value}"));
    }
    if train.min_lr > train.lr {
        let (low, high) = (train.min_lr, train.lr);
        return Err(format!(
            "expected train.min_lr ≤ train.lr, found {low} and {high}"
        ));
    }
    for (table, scales) in [
        ("lr_scale", &train.lr_scale),
        ("weight_decay_scale", &train.weight_decay_scale),
    ] {
        if let Some((part, value)) = scales
            .named()
            .into_iter()
            .find(|(_, value)| !value.is_finite() || *value < 0.0)
        {
            return Err(format!(
                "expected train.{table}.{part} to be a number ≥ 0, found {value}"
            ));
        }
    }
    for (key, value) in [
        ("fusion.dropout", model.fusion.dropout),
        ("train.beta_1", train.beta_1),
        ("train.beta_2", train.beta_2),
    ] {
        if !(0.0..1.0).contains(&value) {
            return Err(format!("expected 0 ≤ {key} < 1, found {value}"));
        }
    }
    for (key, value) in [
        ("eval.threshold", config.eval.threshold),
        ("eval.null_threshold", config.eval.null_threshold),
        ("sam2.clip_gate_threshold", config.model.sam2.clip_gate_threshold),
    ] {
        if !(value > 0.0 && value < 1.0) {
            return Err(format!("expected 0 < {key} < 1, found {value}"));
        }
    }
    let (muted, swapped) = (train.muted_nulls, train.swapped_nulls);
    if !(muted >= 0.0 && swapped >= 0.0 && muted + swapped <= 1.0) {
        return Err(format!(
            "expected train.muted_nulls and train.swapped_nulls ≥ 0 and their sum ≤ 1, found {muted} and {swapped}"
        ));
    }
    if config.data.null_repeats == 0 {
        return Err(
            "expected data.null_repeats ≥ 1, found 0: data.include_null = false leaves nulls out".to_owned(),
        );
    }
    let epsilon = model.encoders.vision.epsilon;
    if !(epsilon > 0.0 && epsilon < 1.0) {
        return Err(format!(
            "expected 0 < encoders.vision.epsilon < 1, found {epsilon}"
        ));
    }
    for (key, value) in [
        ("train.epsilon", train.epsilon),
        ("train.dice_scale", train.dice_scale),
    ] {
        if !(value.is_finite() && value > 0.0) {
            return Err(format!("expected {key} to be a number > 0, found {value}"));
        }
    }
    contradictions(config)
}

/// Settings that do not go together.
fn contradictions(config: &Config) -> Result<(), String> {
    let (train, fusion) = (&config.train, &config.model.fusion);
    if train.lambda_bce == 0.0 && train.lambda_dice == 0.0 && train.lambda_object == 0.0 {
        return Err(
            "expected one of train.lambda_bce, train.lambda_dice and train.lambda_object > 0, found 0 in all"
                .into(),
        );
    }
    if fusion.history == History::Inclusive && !fusion.accumulation {
        return Err(
            "expected fusion.accumulation = true beside fusion.history = inclusive, found false".into(),
        );
    }
    if train.lambda_grounding > 0.0 && config.model.encoders.vision.kind == VisionKind::Clip {
        let found = train.lambda_grounding;
        return Err(format!(
            "expected train.lambda_grounding = 0 beside encoders.vision.kind = clip, whose patches show the middle of a frame \
             alone, found {found}"
        ));
    }
    let limit = FusionConfig::MAX_AUDIO;
    if fusion.audio_positions == AudioPositions::Learned && !(1..=limit).contains(&fusion.max_frames) {
        let found = fusion.max_frames;
        return Err(format!(
            "expected 1 ≤ fusion.max_frames ≤ {limit} beside fusion.audio_positions = learned, found {found}"
        ));
    }
    if fusion.strategy == Strategy::Mean && fusion.seg_tokens > 1 {
        let found = fusion.seg_tokens;
        return Err(format!(
            "expected fusion.seg_tokens = 1 beside fusion.strategy = mean, which has no [seg], found {found}"
        ));
    }
    Ok(())
}
