//! `doctor`: what this machine can do and what a preset needs.

use std::path::PathBuf;

use burn_love::{
    encoders::{TextKind, VisionKind},
    sam2::Sam2Config,
};
use burn_love_train::{
    config::{Source, resolve},
    shipped,
};
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};

use crate::{
    args::{DoctorArgs, Global},
    device::{DeviceChoice, adapters, cuda_devices},
    error::CliError,
    printer,
};

/// Where the published weights of encoders come from: part, kind of encoder, source, address of the file.
const SOURCES: [(&str, &str, &str, &str); 7] = [
    (
        "vision",
        "vit",
        "Hugging Face, google/vit-base-patch16-224",
        "https://huggingface.co/google/vit-base-patch16-224/resolve/main/model.safetensors",
    ),
    (
        "vision",
        "clip",
        "Hugging Face, openai/clip-vit-base-patch16",
        "https://huggingface.co/openai/clip-vit-base-patch16/resolve/main/pytorch_model.bin",
    ),
    (
        "audio",
        "",
        "torchvggish (AudioSet's VGGish)",
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
    ),
    (
        "text",
        "roberta",
        "Hugging Face, distilbert/distilroberta-base",
        "https://huggingface.co/distilbert/distilroberta-base/resolve/main/model.safetensors",
    ),
    (
        "text",
        "clip",
        "Hugging Face, openai/clip-vit-base-patch16",
        "https://huggingface.co/openai/clip-vit-base-patch16/resolve/main/pytorch_model.bin",
    ),
    (
        "tokenizer",
        "roberta",
        "Hugging Face, distilbert/distilroberta-base",
        "https://huggingface.co/distilbert/distilroberta-base/resolve/main/tokenizer.json",
    ),
    (
        "tokenizer",
        "clip",
        "Hugging Face, openai/clip-vit-base-patch16",
        "https://huggingface.co/openai/clip-vit-base-patch16/resolve/main/tokenizer.json",
    ),
];

/// Source and address of SAM 2's weights of a published size.
fn sam2_source(config: &Sam2Config) -> Option<(String, String)> {
    let sized = |name: &str| Sam2Config::preset(name).is_some_and(|preset| preset == *config);
    let name = Sam2Config::preset_names().find(|name| sized(name))?;
    let (folder, stem) = if let Some(size) = name.strip_prefix("sam2.1-") {
        ("092824", format!("sam2.1_{size}"))
    } else {
        ("072824", format!("sam2_{}", name.strip_prefix("sam2-")?))
    };
    let file = format!("{}.pt", stem.replace('-', "_"));
    Some((
        format!("Meta's SAM 2 (facebookresearch/sam2, {file})"),
        format!("https://dl.fbaipublicfiles.com/segment_anything_2/{folder}/{file}"),
    ))
}

/// Runs `doctor`.
pub fn run(args: &DoctorArgs, global: &Global) -> Result<(), CliError> {
    let adapters: Vec<Value> = adapters()
        .iter()
        .enumerate()
        .map(|(i, adapter)| json!({"device": format!("wgpu:{i}"), "name": adapter.name, "software": adapter.software}))
        .collect();
    let cuda: Vec<Value> = (0..cuda_devices())
        .map(|i| json!({"device": format!("cuda:{i}")}))
        .collect();
    let chosen = global.probe();
    let auto = DeviceChoice::Auto.probe().map(|device| device.to_string()).ok();
    let weights = args.preset.as_deref().map(weights).transpose()?;
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "built_with": features(),
        "threads": rayon::current_num_threads(),
        "wgpu": adapters,
        "cuda": cuda,
        "auto": auto,
        "device": chosen.as_ref().map(ToString::to_string).ok(),
        "preset": args.preset,
        "weights": weights,
    });
    if args.json {
        printer::data(serde_json::to_string_pretty(&report).expect("plain values"));
    } else {
        printer::data(table(&report));
    }
    chosen?;
    let missing = report["weights"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|file| file["found"] == false)
        .count();
    match missing {
        0 => Ok(()),
        n => Err(
            CliError::found(format!("{n} weights files of the preset are missing"))
                .hint("put them where the table says, or set weights.* in a config file"),
        ),
    }
}

fn features() -> Vec<&'static str> {
    let all = [
        ("cpu", cfg!(feature = "cpu")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("cuda", cfg!(feature = "cuda")),
        ("onnx", cfg!(feature = "onnx")),
    ];
    all.into_iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| name)
        .collect()
}

fn weights(preset: &str) -> Result<Value, CliError> {
    let config = resolve(&[Source::Preset(preset.into())])?;
    let files = &config.weights;
    let encoders = &config.model.encoders;
    let vision = match encoders.vision.kind {
        VisionKind::Vit => "vit",
        VisionKind::Clip => "clip",
    };
    let text = match encoders.text.kind {
        TextKind::Roberta => "roberta",
        TextKind::Clip => "clip",
    };
    let parts = [
        ("sam2", "", &files.sam2),
        ("vision", vision, &files.vision),
        ("audio", "", &files.audio),
        ("text", text, &files.text),
        ("tokenizer", text, &files.tokenizer),
    ];
    let entry = |(part, kind, path): (&str, &str, &PathBuf)| {
        let published = match part {
            "sam2" => sam2_source(&config.model.sam2.model),
            _ => SOURCES
                .iter()
                .find(|source| (source.0, source.1) == (part, kind))
                .map(|source| (source.2.to_owned(), source.3.to_owned())),
        };
        let embedded = path.as_os_str().is_empty();
        let (source, url) = match published {
            _ if embedded => ("fresh, or embedded in the program".to_owned(), None),
            _ if shipped::is_embedded(path) => ("the program itself".to_owned(), None),
            Some((source, url)) => (source, Some(url)),
            None => ("unknown".to_owned(), None),
        };
        json!({
            "part": part,
            "source": source,
            "url": url,
            "path": path.display().to_string(),
            "sha256": Value::Null,
            "found": embedded || shipped::exists(path),
        })
    };
    Ok(parts.into_iter().map(entry).collect())
}

fn table(report: &Value) -> Table {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.add_row(["version".into(), text(&report["version"])]);
    let built: Vec<String> = report["built_with"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    table.add_row(["built with".into(), built.join(", ")]);
    table.add_row(["cpu".into(), format!("{} threads", report["threads"])]);
    for adapter in report["wgpu"].as_array().into_iter().flatten() {
        let kind = if adapter["software"] == true {
            " (software: never chosen by auto)"
        } else {
            ""
        };
        table.add_row([
            text(&adapter["device"]),
            format!("{}{kind}", text(&adapter["name"])),
        ]);
    }
    for device in report["cuda"].as_array().into_iter().flatten() {
        table.add_row([text(&device["device"]), "CUDA device".into()]);
    }
    table.add_row(["--device auto".into(), text(&report["auto"])]);
    for file in report["weights"].as_array().into_iter().flatten() {
        let state = if file["found"] == true { "found" } else { "missing" };
        let path = text(&file["path"]);
        let line = if path.is_empty() {
            text(&file["source"])
        } else {
            let place = if file["url"].is_null() {
                &file["source"]
            } else {
                &file["url"]
            };
            format!("{state}: {path}, from {} (hash not known)", text(place))
        };
        table.add_row([format!("weights.{}", text(&file["part"])), line]);
    }
    table
}
