//! The vision encoder on labels of single frames: what covers each patch, and what the frame shows.

use burn::{
    nn::{Linear, LinearConfig},
    prelude::*,
};
use burn_love::{
    encoders::{VisionConfig, VisionEncoder, VisionFeatures, VisionKind, VisionTower},
    weights::{State, WeightsError, keys, state_of},
};
use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    audio::seen_classes,
    patches::{ATTRIBUTES, Grid, PATCH_VALUES, PatchLabels, Shown, View, patch_loss},
    probe::{Labelled, probe},
    scenes::{Scene, Scenes},
    task::{Draw, Gate, Scored, Task, read, upload},
};
use crate::{
    config::Config,
    data::Split,
    samples::Preparer,
    synth::{Class, Colour, SECONDS, SceneGraph, Shape, Surface},
    training::{RunError, Values, bce_with_logits},
};

/// Weight of the labels of whole frames.
const FRAME: f64 = 2.0;
/// Clips whose features fit the probes.
const PROBE_CLIPS: usize = 400;

/// Encoder and heads.
#[derive(Module, Debug)]
pub struct VisionLearner<B: Backend> {
    /// What the stage is for.
    pub encoder: VisionTower<B>,
    /// Shape, surface and colour of what covers a patch.
    patch: Linear<B>,
    /// Classes, shapes, surfaces and colours that a frame shows.
    frame: Linear<B>,
}

/// The stage.
#[derive(Debug)]
pub struct VisionTask<'a> {
    config: &'a Config,
    preparer: Preparer,
    scenes: Scenes,
    classes: Vec<Class>,
}

/// Frames with labels.
#[derive(Debug)]
pub struct VisionBatch {
    pixels: Vec<f32>,
    labels: Vec<FrameLabels>,
}

/// What one frame shows.
#[derive(Debug, Clone, PartialEq)]
struct FrameLabels {
    /// What covers each patch.
    patches: PatchLabels,
    /// 1 for each class, shape, surface and colour that is shown; what was painted anew shows no class and no surface.
    shown: Vec<f32>,
}

impl FrameLabels {
    /// Labels of frame `t`.
    fn new(graph: &SceneGraph, t: u32, view: &View, grid: Grid, classes: &[Class]) -> Self {
        let patches = PatchLabels::new(graph, t, view, grid);
        let is = |test: &dyn Fn(&Shown) -> bool| f32::from(u8::from(patches.objects.iter().any(test)));
        let has_surface = |object: &Shown| object.columns[1].is_some();
        let of_class = classes
            .iter()
            .map(|class| is(&|object| object.item.class == *class && has_surface(object)));
        let shapes = Shape::ALL
            .iter()
            .map(|shape| is(&|object| object.item.class.shape == *shape));
        let surfaces = Surface::ALL
            .iter()
            .map(|surface| is(&|object| object.item.class.surface == *surface && has_surface(object)));
        let colours = Colour::ALL
            .iter()
            .map(|colour| is(&|object| object.item.colour == *colour));
        Self {
            shown: of_class.chain(shapes).chain(surfaces).chain(colours).collect(),
            patches,
        }
    }
}

/// The encoder's patches.
fn grid(config: &VisionConfig) -> Grid {
    Grid {
        side: config.image_size / config.patch_size,
        middle: config.kind == VisionKind::Clip,
    }
}

impl<'a> VisionTask<'a> {
    /// The stage on the scenes of a data set.
    ///
    /// # Errors
    /// If the tokenizer that the config names cannot be used.
    pub fn new(config: &'a Config, scenes: Scenes) -> Result<Self, RunError> {
        Ok(Self {
            config,
            preparer: Preparer::new(config)?,
            scenes,
            classes: seen_classes(),
        })
    }

    /// Some frames, each as it is looked at.
    fn read(&self, frames: &[(&Scene, u32, View)]) -> Result<VisionBatch, RunError> {
        let grid = grid(&self.config.model.encoders.vision);
        let one = |(scene, t, view): &(&Scene, u32, View)| {
            let frame = view.of(self.scenes.frame(scene, *t as usize)?, &scene.graph, *t);
            let labels = FrameLabels::new(&scene.graph, *t, view, grid, &self.classes);
            Ok((self.preparer.vit_pixels(&[frame]), labels))
        };
        let frames: Vec<_> = frames.par_iter().map(one).collect::<Result<_, RunError>>()?;
        let (pixels, labels): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
        let pixels = pixels.concat();
        Ok(VisionBatch { pixels, labels })
    }

    fn see<B: Backend>(
        &self,
        encoder: &VisionTower<B>,
        pixels: Vec<f32>,
        frames: usize,
        device: &B::Device,
    ) -> VisionFeatures<B> {
        let side = self.config.model.encoders.vision.image_size;
        encoder.encode_image(upload(pixels, [frames, 3, side, side], device))
    }

    /// Features of the patch that an object covers most, with the object's shape, surface and colour: two frames a clip.
    fn features<B: Backend>(
        &self,
        encoder: &VisionTower<B>,
        split: Split,
        device: &B::Device,
    ) -> Result<[Labelled; 3], RunError> {
        let mut found: [Labelled; 3] = Default::default();
        let scenes = self.scenes.of(split).iter().take(PROBE_CLIPS);
        let frames: Vec<_> = scenes
            .flat_map(|scene| [1, SECONDS / 2].map(|t| (scene, t, View::default())))
            .collect();
        for some in frames.chunks(32) {
            let VisionBatch { pixels, labels } = self.read(some)?;
            let patches = self.see(encoder, pixels, labels.len(), device).patches;
            let [_, p, d] = patches.dims();
            let features = patches.into_data().convert::<f32>();
            let features = features.as_slice::<f32>().expect("just converted");
            for (frame, labels) in features.chunks_exact(p * d).zip(&labels) {
                for Shown { patch, columns, .. } in &labels.patches.objects {
                    for (found, label) in found.iter_mut().zip(columns) {
                        if let Some(label) = label {
                            found.push(&frame[patch * d..(patch + 1) * d], *label);
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Task for VisionTask<'_> {
    type Module<B: Backend> = VisionLearner<B>;
    type Batch = VisionBatch;

    fn samples(&self) -> [usize; 2] {
        [Split::Train, Split::Val].map(|split| self.scenes.of(split).len())
    }

    fn init<B: Backend>(&self, device: &B::Device, begins: bool) -> Result<VisionLearner<B>, WeightsError> {
        let config = &self.config.model.encoders.vision;
        let encoder = config.init(device);
        let head = |to| LinearConfig::new(config.width, to).init(device);
        let values = Shape::ALL.len() + Surface::ALL.len() + Colour::ALL.len();
        Ok(VisionLearner {
            encoder: if begins {
                crate::training::load_vision(encoder, config, &self.config.weights.vision)?
            } else {
                encoder
            },
            patch: head(PATCH_VALUES),
            frame: head(self.classes.len() + values),
        })
    }

    fn batch(&self, draw: Draw, rng: &mut ChaCha8Rng) -> Result<VisionBatch, RunError> {
        let scenes = self.scenes.of(draw.split);
        let mut frame = || {
            let (scene, t) = (scenes.choose(rng)?, rng.random_range(0..SECONDS));
            let view = match draw.split {
                Split::Train => View::draw(scene.graph.objects.len(), rng),
                _ => View::default(),
            };
            Some((scene, t, view))
        };
        let frames: Vec<_> = (0..self.config.train.batch_size)
            .filter_map(|_| frame())
            .collect();
        self.read(&frames)
    }

    fn score<B: Backend>(
        &self,
        module: &VisionLearner<B>,
        batch: VisionBatch,
        device: &B::Device,
    ) -> Scored<B> {
        let VisionBatch { pixels, labels } = batch;
        let n = labels.len();
        let features = self.see(&module.encoder, pixels, n, device);
        let [_, p, d] = features.patches.dims();
        let logits = module.patch.forward(features.patches.reshape([n * p, d]));
        let (patches, shown): (Vec<_>, Vec<_>) = labels
            .into_iter()
            .map(|labels| (labels.patches, labels.shown))
            .unzip();
        let mut values = Values::default();
        let patch = patch_loss(&mut values, logits, &patches);
        let logits = module.frame.forward(features.cls);
        let dims = logits.dims();
        let frame = bce_with_logits(logits, upload(shown.concat(), dims, device));
        let loss = patch.clone() + frame.clone() * FRAME;
        let [total, patch, frame] = read([loss.clone(), patch, frame]);
        for (name, value) in [("loss", total), ("patches", patch), ("frame", frame)] {
            values.put(name, value, n as f64);
        }
        Scored { loss, values }
    }

    fn gates<B: Backend>(
        &self,
        module: &VisionLearner<B>,
        device: &B::Device,
    ) -> Result<Vec<Gate>, RunError> {
        let train = self.features(&module.encoder, Split::Train, device)?;
        let held_out = self.features(&module.encoder, Split::Val, device)?;
        let sets = ATTRIBUTES.iter().zip(train.iter().zip(&held_out));
        let gate = |((name, _), (train, held_out)): (&(&str, usize), (&_, &_))| Gate {
            name: (*name).into(),
            value: probe(train, held_out),
            // Colour is for expressions; it has no part in the gates.
            least: (*name != "colour").then_some(0.95),
        };
        Ok(sets.map(gate).collect())
    }

    fn state<B: Backend>(&self, module: &VisionLearner<B>) -> State {
        state_of(&module.encoder, keys::vision)
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use rand::SeedableRng;

    use super::*;
    use crate::synth::{Blotches, SynthConfig, scenes};

    fn graphs() -> Vec<SceneGraph> {
        let config = SynthConfig {
            train: 6,
            val: 0,
            test_seen: 0,
            test_unseen: 0,
            test_null: 0,
            ..SynthConfig::default()
        };
        scenes(&config).unwrap()
    }

    #[test]
    fn patches_are_labelled_with_what_covers_them() {
        let (grid, classes) = (grid(&VisionConfig::nano()), seen_classes());
        for graph in graphs() {
            let labels = FrameLabels::new(&graph, 3, &View::default(), grid, &classes);
            let side = grid.side;
            let total = PATCH_VALUES;
            // Every attribute's shares make one, and all patches together have the objects' areas.
            let mut covered = 0.0;
            for row in labels.patches.shares.chunks_exact(total) {
                assert!((row.iter().sum::<f32>() - 3.0).abs() < 1e-4);
                covered += row[..Shape::ALL.len()].iter().sum::<f32>() / (side * side) as f32;
            }
            let area: f64 = graph.objects.iter().map(|object| object.frames[3].area).sum();
            assert!((f64::from(covered) - area).abs() < 0.01, "{covered} {area}");
            // The patch that an object covers most holds, or is next to, its centre.
            for Shown { item, patch, columns } in &labels.patches.objects {
                let object = graph.objects.iter().find(|object| object.item == *item).unwrap();
                let shape = labels.patches.shares[patch * total + columns[0].unwrap()];
                assert!(shape > 0.15, "{shape}");
                let pose = object.motion.at(3);
                let centre = [
                    pose.x * side as f64 / f64::from(graph.width),
                    pose.y * side as f64 / f64::from(graph.height),
                ];
                let near = |at: usize, centre: f64| (at as f64 + 0.5 - centre).abs() < 0.27 * side as f64;
                assert!(
                    near(patch % side, centre[0]) && near(patch / side, centre[1]),
                    "{patch} {centre:?}"
                );
            }
        }
    }

    #[test]
    fn a_mirrored_frame_has_mirrored_labels() {
        let (grid, classes) = (grid(&VisionConfig::nano()), seen_classes());
        let graph = &graphs()[0];
        let total = PATCH_VALUES;
        let plain = FrameLabels::new(graph, 0, &View::default(), grid, &classes);
        let turned = View {
            flip: [true, true],
            ..View::default()
        };
        let mirrored = FrameLabels::new(graph, 0, &turned, grid, &classes);
        let mut turned: Vec<&[f32]> = mirrored.patches.shares.chunks_exact(total).collect();
        turned.reverse();
        // Patches need not divide the frame, so each border may move by a pixel: of 10 rows, and of 18 columns at least.
        let pairs = turned.concat().into_iter().zip(plain.patches.shares);
        let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most < 1.0 / 10.0 + 1.0 / 18.0, "{most}");
        assert_eq!(mirrored.shown, plain.shown);
    }

    #[test]
    fn a_part_of_a_frame_has_the_labels_of_that_part() {
        let (grid, classes) = (grid(&VisionConfig::nano()), seen_classes());
        let graph = &graphs()[0];
        let side = grid.side;
        let plain = FrameLabels::new(graph, 0, &View::default(), grid, &classes);
        // The right half: each of its patches covers half of one of the frame's.
        let half = View {
            cut: Some([0.5, 0.0, 0.5, 1.0]),
            ..View::default()
        };
        let part = FrameLabels::new(graph, 0, &half, grid, &classes);
        let total = PATCH_VALUES;
        let all = |labels: &FrameLabels, columns: std::ops::Range<usize>| -> f32 {
            let patches = (0..side).flat_map(|y| columns.clone().map(move |x| y * side + x));
            let shares = patches.map(|p| {
                labels.patches.shares[p * total..][..Shape::ALL.len()]
                    .iter()
                    .sum::<f32>()
            });
            shares.sum()
        };
        let (of_plain, of_part) = (all(&plain, side / 2..side), all(&part, 0..side));
        assert!(
            (of_part - 2.0 * of_plain).abs() < 0.02 * of_part.max(1.0),
            "{of_part} {of_plain}"
        );
        for Shown { item, .. } in &part.patches.objects {
            assert!(plain.patches.objects.iter().any(|other| other.item == *item));
        }
        let frame = RgbImage::from_fn(8, 4, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let seen = View {
            flip: [true, false],
            ..half
        }
        .of(frame, graph, 0);
        assert_eq!((seen.dimensions(), seen.get_pixel(0, 3).0), ((4, 4), [3, 3, 0]));
    }

    #[test]
    fn an_object_painted_anew_keeps_its_labels_but_for_the_surface() {
        let (grid, classes) = (grid(&VisionConfig::nano()), seen_classes());
        let graphs = graphs();
        let t = 3;
        let (graph, i) = graphs
            .iter()
            .find_map(|graph| {
                let large = |i: &usize| graph.objects[*i].frames[t].visibility > 0.9;
                Some((graph, (1..graph.objects.len()).find(large)?))
            })
            .unwrap();
        let only = |i: usize, rng: &mut ChaCha8Rng| View {
            blotches: (0..graph.objects.len())
                .map(|j| (j == i).then(|| Blotches::draw(rng)))
                .collect(),
            ..View::default()
        };
        let rng = &mut ChaCha8Rng::seed_from_u64(3);
        let blank = RgbImage::new(graph.width, graph.height);
        let before = only(0, rng).of(blank, graph, t as u32);
        let view = only(i, rng);
        let after = view.of(before.clone(), graph, t as u32);
        let mut changed = [[0.0; 2]; 2]; // elsewhere and on the object: pixels, and those that changed
        for ((owner, a), b) in graph
            .owners(t as u32)
            .into_iter()
            .zip(before.pixels())
            .zip(after.pixels())
        {
            let of = &mut changed[usize::from(owner == Some(i))];
            of[0] += 1.0;
            of[1] += f64::from(u8::from(a.0.iter().zip(&b.0).any(|(a, b)| a.abs_diff(*b) > 12)));
        }
        let [elsewhere, there] = changed.map(|[all, changed]| changed / all);
        assert!(elsewhere < 0.01 && there > 0.2, "{elsewhere} {there}");

        let [plain, hidden] =
            [&View::default(), &view].map(|view| FrameLabels::new(graph, t as u32, view, grid, &classes));
        let surfaces = Shape::ALL.len() + 1..Shape::ALL.len() + 1 + Surface::ALL.len();
        let rows = |labels: &FrameLabels| labels.patches.shares.clone();
        let values = surfaces.len() + 1;
        let mut unnamed = 0.0;
        for (plain, hidden) in rows(&plain)
            .chunks_exact(PATCH_VALUES)
            .zip(rows(&hidden).chunks_exact(PATCH_VALUES))
        {
            let [before, after] = [plain, hidden].map(|row| &row[surfaces.start..][..values]);
            if after.iter().all(|share| *share == 0.0) {
                unnamed += 1.0;
            } else {
                assert_eq!(before, after);
            }
            assert_eq!(plain[..surfaces.start], hidden[..surfaces.start]);
            assert_eq!(
                plain[surfaces.start + values..],
                hidden[surfaces.start + values..]
            );
        }
        let area = graph.objects[i].frames[t].area * (grid.side * grid.side) as f64;
        assert!((area..4.0 * area + 8.0).contains(&unnamed), "{unnamed} {area}");
        let shown = |labels: &FrameLabels| {
            labels
                .patches
                .objects
                .iter()
                .filter(|x| x.columns[1].is_some())
                .count()
        };
        assert_eq!(shown(&hidden) + 1, shown(&plain));
    }
}
