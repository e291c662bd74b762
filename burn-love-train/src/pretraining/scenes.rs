//! The clips of a data set together with their scene graphs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use image::RgbImage;

use crate::{
    data::{RefAvs, Row, Split},
    samples::SampleError,
    synth::{SceneGraph, read_graphs},
    training::RunError,
};

/// A clip.
#[derive(Debug)]
pub struct Scene {
    /// What is seen and heard.
    pub graph: SceneGraph,
    /// One of its rows.
    row: Row,
}

/// The clips of LAVS-Synth that a stage learns from, and those that it is judged by.
#[derive(Debug)]
pub struct Scenes {
    data: RefAvs,
    train: Vec<Scene>,
    val: Vec<Scene>,
}

impl Scenes {
    /// Reads the scene graphs of the splits train and val. Copies of a clip that differ in what is said only are left
    /// out.
    ///
    /// # Errors
    /// If the data set or a scene graph cannot be read, or a split is empty.
    pub fn open(root: &Path) -> Result<Self, RunError> {
        let data = RefAvs::open(root).map_err(SampleError::from)?;
        let rows: HashMap<&str, &Row> = data.rows().iter().map(|row| (row.key(), row)).collect();
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for graph in read_graphs(root)? {
            let split = match graph.split {
                Split::Train => &mut train,
                Split::Val => &mut val,
                _ => continue,
            };
            if graph.key == graph.vid
                && let Some(row) = rows.get(graph.key.as_str())
            {
                let row = (*row).clone();
                split.push(Scene { graph, row });
            }
        }
        for (split, scenes) in [(Split::Train, &train), (Split::Val, &val)] {
            if scenes.is_empty() {
                let path = root.into();
                return Err(RunError::NoRows { path, split });
            }
        }
        Ok(Self { data, train, val })
    }

    /// The directory of the data set.
    pub fn root(&self) -> &Path {
        self.data.root()
    }

    /// The clips of a split: those to learn from, or otherwise those that are held out.
    pub fn of(&self, split: Split) -> &[Scene] {
        match split {
            Split::Train => &self.train,
            _ => &self.val,
        }
    }

    /// A frame of a clip.
    ///
    /// # Errors
    /// If it cannot be read, or is not of the scene graph's size.
    pub fn frame(&self, scene: &Scene, t: usize) -> Result<RgbImage, SampleError> {
        let frame = self.data.frame(&scene.row, t)?;
        let expected = (scene.graph.width, scene.graph.height);
        if frame.dimensions() != expected {
            let size = |(w, h): (u32, u32)| format!("{w}×{h}");
            return Err(SampleError::Frames {
                path: self.data.frame_folder(&scene.row).join(format!("{t}.jpg")),
                expected: format!("a frame of {}, as the scene graph has", size(expected)),
                found: size(frame.dimensions()),
            });
        }
        Ok(frame)
    }

    /// The sound file of a clip.
    pub fn sound(&self, scene: &Scene) -> PathBuf {
        self.data.audio_path(&scene.row)
    }
}
