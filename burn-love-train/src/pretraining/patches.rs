//! What covers the patches of a frame: how it is looked at, labels, and the loss of a head that names them.

use burn::prelude::*;
use image::{RgbImage, imageops};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    classes::{class_columns, never_with},
    task::{cross_entropy, index_of, no_choice, put_accuracy, upload},
};
use crate::{
    synth::{Colour, Item, ObjectGraph, SceneGraph, Shape, Surface},
    training::Values,
};

/// Attributes of a patch, each with the number of its values; one more stands for the background.
pub const ATTRIBUTES: [(&str, usize); 3] = [
    ("shape", Shape::ALL.len()),
    ("surface", Surface::ALL.len()),
    ("colour", Colour::ALL.len()),
];
/// Columns of a head that names them.
pub const PATCH_VALUES: usize = ATTRIBUTES[0].1 + ATTRIBUTES[1].1 + ATTRIBUTES[2].1 + ATTRIBUTES.len();
/// The first column of surfaces.
const SURFACES: usize = ATTRIBUTES[0].1 + 1;
/// Weight of a patch without objects; what objects cover of it comes on top.
const BACKGROUND: f32 = 0.1;
/// Share of an object that must be seen for it to count as shown.
const VISIBLE: f64 = 0.5;
/// The smallest side of what training cuts out of a frame, as a share of the frame's.
const CUT: f64 = 0.7;

/// How a frame is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    /// Which axes are mirrored (x, y).
    pub flip: [bool; 2],
    /// What is cut out of the mirrored frame, if not all: left, top, width and height, as shares of the frame's.
    pub cut: Option<[f64; 4]>,
}

/// The patches that a frame is seen as.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Patches a side.
    pub side: usize,
    /// Whether only the middle square is seen, as by CLIP, or all of it, squashed.
    pub middle: bool,
}

/// What covers the patches of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchLabels {
    /// For each patch and attribute the shares of its values, the background's last.
    pub shares: Vec<f32>,
    /// For each patch and value 0 where it is no choice, 1 otherwise: what training never shows together (a disc, where
    /// there are checks) is not to be learned as what cannot be.
    pub choices: Vec<f32>,
    /// For each patch how much it counts.
    pub weights: Vec<f32>,
    /// Objects that are shown.
    pub objects: Vec<Shown>,
}

/// An object that is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// What it is.
    pub item: Item,
    /// The patch that it covers most.
    pub patch: usize,
    /// Columns of its attributes; none for one without a name.
    pub columns: [Option<usize>; 3],
}

/// The columns of an object's attributes, but for one that has no name.
fn named_columns(object: &ObjectGraph) -> [Option<usize>; 3] {
    let [shape, surface] = class_columns(object.item.class, object.unnamed);
    [shape, surface, index_of(Colour::ALL, &object.item.colour)]
}

impl View {
    /// Mirrored or not, of any part of the frame that is large enough.
    pub fn draw(rng: &mut ChaCha8Rng) -> Self {
        let flip = std::array::from_fn(|_| rng.random_bool(0.5));
        let [w, h] = std::array::from_fn(|_| rng.random_range(CUT..=1.0));
        let [left, top] = [w, h].map(|side| rng.random_range(0.0..=1.0 - side));
        let cut = Some([left, top, w, h]);
        Self { flip, cut }
    }

    /// What is cut out in pixels: left, top, width, height.
    fn pixels(&self, width: u32, height: u32) -> [u32; 4] {
        let [left, top, w, h] = self.cut.unwrap_or([0.0, 0.0, 1.0, 1.0]);
        let part = |share: f64, of: u32| (share * f64::from(of)).round() as u32;
        let (left, top) = (part(left, width), part(top, height));
        let side = |share, of, start| part(share, of).clamp(1, of - start);
        [left, top, side(w, width, left), side(h, height, top)]
    }

    /// A frame as it is seen so.
    pub fn of(&self, mut frame: RgbImage) -> RgbImage {
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

impl PatchLabels {
    /// Labels of frame `t`.
    pub fn new(graph: &SceneGraph, t: u32, view: &View, grid: Grid) -> Self {
        let Coverage {
            shares: coverage,
            inside,
        } = Coverage::new(graph, t, view, grid);
        let columns: Vec<_> = graph.objects.iter().map(named_columns).collect();
        let never = |object: &ObjectGraph| never_with(object.item.class, object.unnamed, SURFACES).collect();
        let never: Vec<Vec<usize>> = graph.objects.iter().map(never).collect();
        let patches = grid.side * grid.side;
        let mut shares = vec![0.0; patches * PATCH_VALUES];
        let mut choices = vec![1.0; patches * PATCH_VALUES];
        let mut weights = vec![BACKGROUND; patches];
        let rows = shares.chunks_exact_mut(PATCH_VALUES);
        for (p, (row, choices)) in rows.zip(choices.chunks_exact_mut(PATCH_VALUES)).enumerate() {
            let here = never.iter().zip(&coverage).filter(|(_, share)| share[p] > 0.0);
            for column in here.flat_map(|(columns, _)| columns) {
                choices[*column] = 0.0;
            }
            let covered: f32 = coverage.iter().map(|object| object[p]).sum();
            weights[p] += covered;
            let mut from = 0;
            for (a, (_, count)) in ATTRIBUTES.iter().enumerate() {
                for (columns, share) in columns.iter().zip(&coverage) {
                    if let Some(column) = columns[a] {
                        row[from + column] += share[p];
                    }
                }
                row[from + count] = 1.0 - covered;
                // Background is no name for the rest of a patch where something has none.
                let unnamed = |(columns, share): (&[Option<usize>; 3], &Vec<f32>)| {
                    columns[a].is_none() && share[p] > 0.0
                };
                if columns.iter().zip(&coverage).any(unnamed) {
                    row[from..=from + count].fill(0.0);
                }
                from += count + 1;
            }
            // What another object brings to the patch is a choice nevertheless.
            let there = choices.iter_mut().zip(row).filter(|(_, share)| **share > 0.0);
            there.for_each(|(choice, _)| *choice = 1.0);
        }
        let visible = |i: usize| {
            let frame = graph.objects[i].frames.get(t as usize);
            frame.is_some_and(|frame| frame.visibility * inside[i] >= VISIBLE)
        };
        let most = |i: usize| {
            let shares = coverage[i].iter().enumerate();
            shares.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(p, _)| p)
        };
        let objects = (0..coverage.len())
            .filter(|i| visible(*i))
            .map(|i| Shown {
                item: graph.objects[i].item,
                patch: most(i),
                columns: columns[i],
            })
            .collect();
        Self {
            shares,
            choices,
            weights,
            objects,
        }
    }
}

/// The loss of a head that names what covers each patch. Adds how often it is right about the patches that objects
/// cover most.
///
/// # Shapes
/// - `logits`: `[N·P, `[`PATCH_VALUES`]`]`, for `N` frames' labels; output: `[1]`
pub fn patch_loss<B: Backend>(
    values: &mut Values,
    logits: Tensor<B, 2>,
    labels: &[PatchLabels],
) -> Tensor<B, 1> {
    let device = logits.device();
    let [rows, _] = logits.dims();
    let patches = rows / labels.len().max(1);
    let all = |of: fn(&PatchLabels) -> &[f32], columns| {
        let values = labels.iter().flat_map(|labels| of(labels).iter().copied());
        upload::<B, 2>(values.collect(), [rows, columns], &device)
    };
    let shares = all(|labels| &labels.shares, PATCH_VALUES);
    let choices = all(|labels| &labels.choices, PATCH_VALUES);
    let weights = all(|labels| &labels.weights, 1);
    let mut most: Vec<[Option<usize>; 3]> = vec![[None; 3]; rows];
    for (frame, labels) in labels.iter().enumerate() {
        for object in &labels.objects {
            most[frame * patches + object.patch] = object.columns;
        }
    }
    let (mut from, mut loss) = (0, Tensor::zeros([1], &device));
    for (a, (name, count)) in ATTRIBUTES.into_iter().enumerate() {
        let part = |x: &Tensor<B, 2>| x.clone().narrow(1, from, count + 1);
        let among = part(&logits) + no_choice(part(&choices));
        loss = loss + cross_entropy(among, part(&shares), weights.clone());
        let most: Vec<_> = most.iter().map(|columns| columns[a]).collect();
        put_accuracy(values, name, part(&logits), &most);
        from += count + 1;
    }
    loss
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
    fn new(graph: &SceneGraph, t: u32, view: &View, grid: Grid) -> Self {
        let (width, height) = (graph.width as usize, graph.height as usize);
        let side = grid.side;
        let [left, top, w, h] = view
            .pixels(graph.width, graph.height)
            .map(|pixels| pixels as usize);
        let square = w.min(h);
        let [left, top, w, h] = if grid.middle {
            [left + (w - square) / 2, top + (h - square) / 2, square, square]
        } else {
            [left, top, w, h]
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
