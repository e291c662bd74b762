//! The vision encoder on labels of single frames: what covers each patch, and what the frame shows.

use burn::{
    nn::{Linear, LinearConfig},
    prelude::*,
};
use burn_love::{
    encoders::{VisionConfig, VisionEncoder, VisionFeatures, VisionKind, VisionTower},
    weights::{State, WeightsError, keys, state_of},
};
use image::{RgbImage, imageops};
use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    audio::seen_classes,
    probe::{Labelled, probe},
    scenes::{Scene, Scenes},
    task::{Draw, Gate, Scored, Task, cross_entropy, index_of, put_accuracy, read, upload},
};
use crate::{
    config::Config,
    data::Split,
    samples::Preparer,
    synth::{Class, Colour, Item, SECONDS, SceneGraph, Shape, Surface},
    training::{RunError, Values, bce_with_logits},
};

/// Attributes of a patch, each with the number of its values; one more stands for the background.
const ATTRIBUTES: [(&str, usize); 3] = [
    ("shape", Shape::ALL.len()),
    ("surface", Surface::ALL.len()),
    ("colour", Colour::ALL.len()),
];
/// Weight of a patch without objects; what objects cover of it comes on top.
const BACKGROUND: f32 = 0.1;
/// Share of an object that must be seen for it to count as shown, and for a probe of it.
const VISIBLE: f64 = 0.5;
/// The smallest side of what training cuts out of a frame, as a share of the frame's.
const CUT: f64 = 0.7;
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

/// How a frame is looked at.
#[derive(Debug, Clone, Copy)]
struct View {
    /// Which axes are mirrored (x, y).
    flip: [bool; 2],
    /// What is cut out of the mirrored frame: left, top, width and height, as shares of the frame's.
    cut: [f64; 4],
}

/// What one frame shows.
#[derive(Debug, Clone, PartialEq)]
struct FrameLabels {
    /// For each patch and attribute the shares of its values, the background's last.
    patches: Vec<f32>,
    /// For each patch how much it counts.
    weights: Vec<f32>,
    /// 1 for each class, shape, surface and colour that is shown.
    shown: Vec<f32>,
    /// Objects that are shown, each with the patch that it covers most.
    objects: Vec<(Item, usize)>,
}

/// The columns of an item's attributes.
fn columns(item: &Item) -> [Option<usize>; 3] {
    [
        index_of(Shape::ALL, &item.class.shape),
        index_of(Surface::ALL, &item.class.surface),
        index_of(Colour::ALL, &item.colour),
    ]
}

impl View {
    /// The frame as it is.
    const PLAIN: Self = Self {
        flip: [false; 2],
        cut: [0.0, 0.0, 1.0, 1.0],
    };

    /// Mirrored or not, and of any part of the frame that is large enough.
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let flip = std::array::from_fn(|_| rng.random_bool(0.5));
        let [w, h] = std::array::from_fn(|_| rng.random_range(CUT..=1.0));
        let [left, top] = [w, h].map(|side| rng.random_range(0.0..=1.0 - side));
        Self {
            flip,
            cut: [left, top, w, h],
        }
    }

    /// What is cut out in pixels: left, top, width, height.
    fn pixels(&self, width: u32, height: u32) -> [u32; 4] {
        let [left, top, w, h] = self.cut;
        let part = |share: f64, of: u32| (share * f64::from(of)).round() as u32;
        let (left, top) = (part(left, width), part(top, height));
        let side = |share, of, start| part(share, of).clamp(1, of - start);
        [left, top, side(w, width, left), side(h, height, top)]
    }

    /// The frame as it is seen so.
    fn of(&self, mut frame: RgbImage) -> RgbImage {
        if self.flip[0] {
            imageops::flip_horizontal_in_place(&mut frame);
        }
        if self.flip[1] {
            imageops::flip_vertical_in_place(&mut frame);
        }
        let (width, height) = frame.dimensions();
        let [left, top, w, h] = self.pixels(width, height);
        if [w, h] == [width, height] {
            return frame;
        }
        imageops::crop_imm(&frame, left, top, w, h).to_image()
    }
}

impl FrameLabels {
    /// Labels of frame `t`.
    fn new(graph: &SceneGraph, t: u32, view: View, config: &VisionConfig, classes: &[Class]) -> Self {
        let Coverage {
            shares: coverage,
            inside,
        } = Coverage::new(graph, t, view, config);
        let total: usize = ATTRIBUTES.iter().map(|(_, count)| count + 1).sum();
        let patches = config.patches();
        let mut shares = vec![0.0; patches * total];
        let mut weights = vec![BACKGROUND; patches];
        for (p, row) in shares.chunks_exact_mut(total).enumerate() {
            let covered: f32 = coverage.iter().map(|object| object[p]).sum();
            weights[p] += covered;
            let mut from = 0;
            for (a, (_, count)) in ATTRIBUTES.iter().enumerate() {
                for (object, share) in graph.objects.iter().zip(&coverage) {
                    if let Some(column) = columns(&object.item)[a] {
                        row[from + column] += share[p];
                    }
                }
                row[from + count] = 1.0 - covered;
                from += count + 1;
            }
        }
        let visible = |i: usize| {
            let frame = graph.objects[i].frames.get(t as usize);
            frame.is_some_and(|frame| frame.visibility * inside[i] >= VISIBLE)
        };
        let most = |i: usize| {
            let shares = coverage[i].iter().enumerate();
            shares.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(p, _)| p)
        };
        let objects: Vec<(Item, usize)> = (0..coverage.len())
            .filter(|i| visible(*i))
            .map(|i| (graph.objects[i].item, most(i)))
            .collect();
        let is =
            |test: &dyn Fn(&Item) -> bool| f32::from(u8::from(objects.iter().any(|(item, _)| test(item))));
        let of_class = classes.iter().map(|class| is(&|item| item.class == *class));
        let shapes = Shape::ALL
            .iter()
            .map(|shape| is(&|item| item.class.shape == *shape));
        let surfaces = Surface::ALL
            .iter()
            .map(|surface| is(&|item| item.class.surface == *surface));
        let colours = Colour::ALL
            .iter()
            .map(|colour| is(&|item| item.colour == *colour));
        Self {
            shown: of_class.chain(shapes).chain(surfaces).chain(colours).collect(),
            patches: shares,
            weights,
            objects,
        }
    }
}

/// Where objects are in a view of a frame.
struct Coverage {
    /// The share of each patch that each object covers, `[object][patch]`, as the encoder's preprocessing lays patches
    /// over the view.
    shares: Vec<Vec<f32>>,
    /// The share of each object's pixels that lies in the view.
    inside: Vec<f64>,
}

impl Coverage {
    fn new(graph: &SceneGraph, t: u32, view: View, config: &VisionConfig) -> Self {
        let (width, height) = (graph.width as usize, graph.height as usize);
        let side = config.image_size / config.patch_size;
        let [left, top, w, h] = view
            .pixels(graph.width, graph.height)
            .map(|pixels| pixels as usize);
        // What the encoder cuts out of the view: all of it, or CLIP's middle.
        let square = w.min(h);
        let [left, top, w, h] = match config.kind {
            VisionKind::Vit => [left, top, w, h],
            VisionKind::Clip => [left + (w - square) / 2, top + (h - square) / 2, square, square],
        };
        let mut shares = vec![vec![0.0; side * side]; graph.objects.len()];
        let mut pixels = vec![0.0f32; side * side];
        let mut counts = vec![[0.0, 0.0]; graph.objects.len()]; // inside, all
        for (at, owner) in graph.owners(t).into_iter().enumerate() {
            let mirror = |v: usize, size: usize, flip: bool| if flip { size - 1 - v } else { v };
            let (x, y) = (
                mirror(at % width, width, view.flip[0]),
                mirror(at / width, height, view.flip[1]),
            );
            let seen = (left..left + w).contains(&x) && (top..top + h).contains(&y);
            if let Some(owner) = owner {
                counts[owner][0] += f64::from(u8::from(seen));
                counts[owner][1] += 1.0;
            }
            if !seen {
                continue;
            }
            let patch = (y - top) * side / h * side + (x - left) * side / w;
            pixels[patch] += 1.0;
            if let Some(owner) = owner {
                shares[owner][patch] += 1.0;
            }
        }
        for object in &mut shares {
            object
                .iter_mut()
                .zip(&pixels)
                .for_each(|(count, all)| *count /= all.max(1.0));
        }
        let inside = counts.iter().map(|[inside, all]| inside / all.max(1.0)).collect();
        Self { shares, inside }
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
        let vision = &self.config.model.encoders.vision;
        let one = |(scene, t, view): &(&Scene, u32, View)| {
            let frame = view.of(self.scenes.frame(scene, *t as usize)?);
            let labels = FrameLabels::new(&scene.graph, *t, *view, vision, &self.classes);
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
            .flat_map(|scene| [1, SECONDS / 2].map(|t| (scene, t, View::PLAIN)))
            .collect();
        for some in frames.chunks(32) {
            let VisionBatch { pixels, labels } = self.read(some)?;
            let patches = self.see(encoder, pixels, labels.len(), device).patches;
            let [_, p, d] = patches.dims();
            let features = patches.into_data().convert::<f32>();
            let features = features.as_slice::<f32>().expect("just converted");
            for (frame, labels) in features.chunks_exact(p * d).zip(&labels) {
                for (item, patch) in &labels.objects {
                    for (a, label) in columns(item).into_iter().flatten().enumerate() {
                        found[a].push(&frame[patch * d..(patch + 1) * d], label);
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
        let values: usize = ATTRIBUTES.iter().map(|(_, count)| count).sum();
        Ok(VisionLearner {
            encoder: if begins {
                crate::training::load_vision(encoder, config, &self.config.weights.vision)?
            } else {
                encoder
            },
            patch: head(values + ATTRIBUTES.len()),
            frame: head(self.classes.len() + values),
        })
    }

    fn batch(&self, draw: Draw, rng: &mut ChaCha8Rng) -> Result<VisionBatch, RunError> {
        let scenes = self.scenes.of(draw.split);
        let mut frame = || {
            let (scene, t) = (scenes.choose(rng)?, rng.random_range(0..SECONDS));
            let view = match draw.split {
                Split::Train => View::draw(rng),
                _ => View::PLAIN,
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
        let [_, columns_all] = logits.dims();
        let all = |of: fn(&FrameLabels) -> &[f32], shape| {
            let values: Vec<f32> = labels
                .iter()
                .flat_map(|labels| of(labels).iter().copied())
                .collect();
            upload::<B, 2>(values, shape, device)
        };
        let shares = all(|labels| &labels.patches, [n * p, columns_all]);
        let weights = all(|labels| &labels.weights, [n * p, 1]);
        // For each object the patch that it covers most.
        let mut most: Vec<[Option<usize>; 3]> = vec![[None; 3]; n * p];
        for (frame, labels) in labels.iter().enumerate() {
            for (item, patch) in &labels.objects {
                most[frame * p + patch] = columns(item);
            }
        }
        let mut values = Values::default();
        let (mut from, mut patch) = (0, Tensor::zeros([1], device));
        for (a, (name, count)) in ATTRIBUTES.into_iter().enumerate() {
            let part = |x: &Tensor<B, 2>| x.clone().narrow(1, from, count + 1);
            patch = patch + cross_entropy(part(&logits), part(&shares), weights.clone());
            let most: Vec<_> = most.iter().map(|columns| columns[a]).collect();
            put_accuracy(&mut values, name, part(&logits), &most);
            from += count + 1;
        }
        let shown = module.frame.forward(features.cls);
        let [_, columns_shown] = shown.dims();
        let frame = bce_with_logits(shown, all(|labels| &labels.shown, [n, columns_shown]));
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
    use super::*;
    use crate::synth::{SynthConfig, scenes};

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
        let (config, classes) = (VisionConfig::nano(), seen_classes());
        for graph in graphs() {
            let labels = FrameLabels::new(&graph, 3, View::PLAIN, &config, &classes);
            let side = config.image_size / config.patch_size;
            let total: usize = ATTRIBUTES.iter().map(|(_, count)| count + 1).sum();
            // Every attribute's shares make one, and all patches together have the objects' areas.
            let mut covered = 0.0;
            for row in labels.patches.chunks_exact(total) {
                assert!((row.iter().sum::<f32>() - 3.0).abs() < 1e-4);
                covered += row[..Shape::ALL.len()].iter().sum::<f32>() / config.patches() as f32;
            }
            let area: f64 = graph.objects.iter().map(|object| object.frames[3].area).sum();
            assert!((f64::from(covered) - area).abs() < 0.01, "{covered} {area}");
            // The patch that an object covers most holds, or is next to, its centre.
            for (item, patch) in &labels.objects {
                let object = graph.objects.iter().find(|object| object.item == *item).unwrap();
                let shape = labels.patches[patch * total + columns(item)[0].unwrap()];
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
        let (config, classes) = (VisionConfig::nano(), seen_classes());
        let graph = &graphs()[0];
        let total: usize = ATTRIBUTES.iter().map(|(_, count)| count + 1).sum();
        let plain = FrameLabels::new(graph, 0, View::PLAIN, &config, &classes);
        let turned = View {
            flip: [true, true],
            ..View::PLAIN
        };
        let mirrored = FrameLabels::new(graph, 0, turned, &config, &classes);
        let mut turned: Vec<&[f32]> = mirrored.patches.chunks_exact(total).collect();
        turned.reverse();
        // Patches need not divide the frame, so each border may move by a pixel: of 10 rows, and of 18 columns at least.
        let pairs = turned.concat().into_iter().zip(plain.patches);
        let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most < 1.0 / 10.0 + 1.0 / 18.0, "{most}");
        assert_eq!(mirrored.shown, plain.shown);
    }

    #[test]
    fn a_part_of_a_frame_has_the_labels_of_that_part() {
        let (config, classes) = (VisionConfig::nano(), seen_classes());
        let graph = &graphs()[0];
        let side = config.image_size / config.patch_size;
        let plain = FrameLabels::new(graph, 0, View::PLAIN, &config, &classes);
        // The right half: each of its patches covers half of one of the frame's.
        let half = View {
            cut: [0.5, 0.0, 0.5, 1.0],
            ..View::PLAIN
        };
        let part = FrameLabels::new(graph, 0, half, &config, &classes);
        let total: usize = ATTRIBUTES.iter().map(|(_, count)| count + 1).sum();
        let all = |labels: &FrameLabels, columns: std::ops::Range<usize>| -> f32 {
            let patches = (0..side).flat_map(|y| columns.clone().map(move |x| y * side + x));
            let shares = patches.map(|p| {
                labels.patches[p * total..][..Shape::ALL.len()]
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
        for (item, _) in &part.objects {
            assert!(plain.objects.iter().any(|(other, _)| other == item));
        }
        let frame = RgbImage::from_fn(8, 4, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let seen = View {
            flip: [true, false],
            ..half
        }
        .of(frame);
        assert_eq!((seen.dimensions(), seen.get_pixel(0, 3).0), ((4, 4), [3, 3, 0]));
    }
}
