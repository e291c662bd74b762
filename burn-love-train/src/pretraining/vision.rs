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
    classes::{never_with, seen_classes},
    patches::{ATTRIBUTES, Grid, PATCH_VALUES, PatchLabels, Shown, View, patch_loss},
    probe::{Labelled, probe},
    scenes::{Scene, Scenes},
    task::{Draw, Gate, Scored, Task, bce_among, read, upload},
};
use crate::{
    config::Config,
    data::Split,
    samples::Preparer,
    synth::{Class, Colour, SECONDS, SceneGraph, Shape, Surface},
    training::{RunError, Values},
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
    /// 1 for each class, shape, surface and colour that is shown; what has a part without a name shows no class.
    shown: Vec<f32>,
    /// 0 for each shape that training never shows with the surface of an object of the scene, and the other way round; 1 for
    /// the rest.
    choices: Vec<f32>,
}

impl FrameLabels {
    /// Labels of frame `t`.
    fn new(graph: &SceneGraph, t: u32, view: &View, grid: Grid, classes: &[Class]) -> Self {
        let patches = PatchLabels::new(graph, t, view, grid);
        let is = |test: &dyn Fn(&Shown) -> bool| f32::from(u8::from(patches.objects.iter().any(test)));
        let named = |object: &Shown| object.columns.iter().all(Option::is_some);
        let of_class = classes
            .iter()
            .map(|class| is(&|object| object.item.class == *class && named(object)));
        let columns = ATTRIBUTES
            .iter()
            .enumerate()
            .flat_map(|(a, (_, count))| (0..*count).map(move |column| (a, column)));
        let of_attributes = columns.map(|(a, column)| is(&|object| object.columns[a] == Some(column)));
        let shown: Vec<f32> = of_class.chain(of_attributes).collect();
        let mut choices = vec![1.0; shown.len()];
        for object in &graph.objects {
            let never = never_with(object.item.class, object.unnamed, Shape::ALL.len());
            never.for_each(|column| choices[classes.len() + column] = 0.0);
        }
        Self {
            patches,
            shown,
            choices,
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
            let frame = view.of(self.scenes.frame(scene, *t as usize)?);
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
                Split::Train => View::draw(rng),
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
        let all = |of: fn(&FrameLabels) -> &[f32]| {
            let values: Vec<f32> = labels.iter().flat_map(of).copied().collect();
            let columns = values.len() / n;
            upload::<B, 2>(values, [n, columns], device)
        };
        let (shown, choices) = (all(|labels| &labels.shown), all(|labels| &labels.choices));
        let patches: Vec<_> = labels.into_iter().map(|labels| labels.patches).collect();
        let mut values = Values::default();
        let patch = patch_loss(&mut values, logits, &patches);
        let frame = bce_among(module.frame.forward(features.cls), shown, choices);
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

    use super::*;
    use crate::synth::{Attribute, Item, SynthConfig, Unnamed, scenes};

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
        .of(frame);
        assert_eq!((seen.dimensions(), seen.get_pixel(0, 3).0), ((4, 4), [3, 3, 0]));
    }

    #[test]
    fn what_has_no_name_has_no_label_and_what_never_goes_together_is_no_choice() {
        let (grid, classes) = (grid(&VisionConfig::nano()), seen_classes());
        let t = 3;
        let labels = |graph: &SceneGraph| FrameLabels::new(graph, t, &View::default(), grid, &classes);
        let shapes = Shape::ALL.len();
        let columns = [0..shapes + 1, shapes + 1..shapes + Surface::ALL.len() + 2];
        // An object that has a patch of its own.
        let found = graphs().into_iter().find_map(|graph| {
            let plain = labels(&graph);
            let alone = |shown: &&Shown| {
                let share = plain.patches.shares[shown.patch * PATCH_VALUES + shown.columns[0].unwrap()];
                share == 1.0
            };
            let shown = plain.patches.objects.iter().find(alone)?.clone();
            Some((graph, plain, shown))
        });
        let (mut graph, plain, shown) = found.unwrap();
        let class = classes
            .iter()
            .position(|class| *class == shown.item.class)
            .unwrap();
        let row = |of: &[f32]| of[shown.patch * PATCH_VALUES..][..PATCH_VALUES].to_vec();
        let i = graph
            .objects
            .iter()
            .position(|object| object.item == shown.item)
            .unwrap();
        for (a, attribute) in [Attribute::Shape, Attribute::Surface].into_iter().enumerate() {
            graph.objects[i].unnamed = Some(Unnamed { attribute, seed: 1 });
            let hidden = labels(&graph);
            let now = hidden
                .patches
                .objects
                .iter()
                .find(|object| object.item == shown.item);
            let now = now.unwrap();
            let mut expected = shown.columns;
            expected[a] = None;
            assert_eq!(now.columns, expected);
            assert_eq!((plain.shown[class], hidden.shown[class]), (1.0, 0.0));
            let here = hidden.patches.shares[now.patch * PATCH_VALUES..][..PATCH_VALUES].to_vec();
            assert!(here[columns[a].clone()].iter().all(|share| *share == 0.0));
            assert!(here[columns[1 - a].clone()].iter().any(|share| *share > 0.1));
        }

        // Choices: all but what is held out together with what is there.
        let never = |objects: &[Item], surfaces: usize, count: usize| {
            let mut choices = vec![1.0; count];
            let columns = objects
                .iter()
                .flat_map(|item| never_with(item.class, None, surfaces));
            columns.for_each(|column| choices[column] = 0.0);
            choices
        };
        let of_patch = never(&[shown.item], columns[1].start, PATCH_VALUES);
        assert!(of_patch.contains(&0.0));
        assert_eq!(row(&plain.patches.choices), of_patch);
        let of_frame = never(&graph.items(), shapes, plain.shown.len() - classes.len());
        assert_eq!(plain.choices[..classes.len()], vec![1.0; classes.len()]);
        assert_eq!(plain.choices[classes.len()..], of_frame);
    }
}
