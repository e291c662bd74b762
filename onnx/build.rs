//! Generates a module and its weights from each ONNX graph.
//!
//! The graphs are those in `models/`, or in the folder that `BURN_LOVE_ONNX_MODELS` names.

// burn-import is a thin name for burn-onnx since 0.21.
#![allow(deprecated)]

use std::{env, path::PathBuf};

use burn_import::onnx::{LoadStrategy, ModelGen};

/// The graphs, called as the modules of `src/lib.rs`.
const GRAPHS: [&str; 3] = ["vggish", "vit", "distilroberta"];

/// Names the folder with other graphs than the crate's own.
const FOLDER: &str = "BURN_LOVE_ONNX_MODELS";

fn main() {
    println!("cargo::rerun-if-env-changed={FOLDER}");
    let folder = env::var_os(FOLDER).map_or_else(|| PathBuf::from("models"), PathBuf::from);
    for graph in GRAPHS {
        let path = folder.join(graph).with_extension("onnx");
        println!("cargo::rerun-if-changed={}", path.display());
        let path = match path.to_str() {
            Some(text) if path.is_file() => text,
            Some(_) => panic!("{}: expected an ONNX graph, found no file", path.display()),
            None => panic!("{}: expected a path in UTF-8", path.display()),
        };
        ModelGen::new()
            .input(path)
            .out_dir("models")
            .load_strategy(LoadStrategy::Embedded)
            .run_from_script();
    }
}
