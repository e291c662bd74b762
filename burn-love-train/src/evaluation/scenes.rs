//! What the scene graphs of synthetic data say about rows: their kinds, and which clips are twins.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    data::{RefAvs, Row},
    synth::{RowKind, SceneGraph},
};

/// Facts about the rows' clips, empty for data without scene graphs.
#[derive(Debug, Default)]
pub(super) struct Scenes {
    kinds: BTreeMap<String, RowKind>,
    twins: BTreeMap<String, String>,
    /// Whether there is any scene graph.
    pub synthetic: bool,
}

impl Scenes {
    /// Reads the scene graphs of the rows' clips. One that cannot be read is left out, with a warning: scores do not
    /// depend on it.
    pub fn read(data: &RefAvs, rows: &[&Row]) -> Self {
        let folder = data.root().join("lavs");
        let mut scenes = Self::default();
        if !folder.is_dir() {
            return scenes;
        }
        let mut keys: Vec<&str> = rows.iter().map(|row| row.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let path = folder.join(format!("{key}.json"));
            match read(&path) {
                Ok(graph) => scenes.add(graph),
                Err(error) => tracing::warn!("{}: expected a scene graph, found: {error}", path.display()),
            }
        }
        scenes
    }

    fn add(&mut self, graph: SceneGraph) {
        self.synthetic = true;
        if let Some(twin) = graph.twin {
            self.twins.insert(graph.key, twin);
        }
        self.kinds
            .extend(graph.rows.into_iter().map(|row| (row.uid, row.kind)));
    }

    /// What a row is an example of.
    pub fn kind(&self, row: &Row) -> Option<RowKind> {
        self.kinds.get(&row.uid).copied()
    }

    /// A name that the row's clip and its twin share.
    pub fn clips<'a>(&'a self, row: &'a Row) -> &'a str {
        let key = row.key();
        self.twins.get(key).map_or(key, |twin| key.min(twin))
    }

    /// Pairs of clips with the same frames and texts and another sound, each once.
    pub fn twins(&self) -> impl Iterator<Item = (&str, &str)> {
        self.twins
            .iter()
            .filter(|(key, twin)| key < twin)
            .map(|(key, twin)| (key.as_str(), twin.as_str()))
    }
}

fn read(path: &Path) -> Result<SceneGraph, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}
