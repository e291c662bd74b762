//! Where objects are: paths over ten seconds, who hides whom, and who comes in late.

use std::f64::consts::TAU;

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use serde::{Deserialize, Serialize};

use super::{outline::Outline, scene::SECONDS};

/// Share of scenes in which one object passes behind another. With three objects and a bit in a scene, about 15 % of
/// all objects are hidden in part at some time.
const CROSSING_SHARE: f64 = 0.5;

/// Share of scenes in which one object is not there in frame 0.
const LATE_SHARE: f64 = 0.06;

/// Areas of objects as a share of the frame, by the number of objects.
fn areas(objects: usize) -> std::ops::Range<f64> {
    match objects {
        ..=2 => 0.034..0.092,
        3 => 0.034..0.075,
        _ => 0.034..0.056,
    }
}

/// The path of one object: an ellipse around a centre, run through once or less, and a slow turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// Centre of the ellipse, in pixels.
    pub centre: [f64; 2],
    /// Its half axes, in pixels.
    pub half_axes: [f64; 2],
    /// Where on it the object is at the start, in radians.
    pub phase: f64,
    /// How far it goes in a second, in radians.
    pub speed: f64,
    /// Orientation at the start, in radians.
    pub angle: f64,
    /// Turn in a second, in radians.
    pub spin: f64,
    /// Half of the object's size, in pixels.
    pub radius: f64,
    /// Pixels by which the object is shifted at the start, and the seconds after which it is in place.
    pub late: Option<Late>,
}

/// How an object that is not there at the start comes in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Late {
    /// Horizontal shift at the start, in pixels: beyond the frame's edge.
    pub shift: f64,
    /// The frame in which it is in place.
    pub arrival: u32,
}

/// Where an object is at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Centre, in pixels.
    pub x: f64,
    /// Centre, in pixels.
    pub y: f64,
    /// Orientation, in radians.
    pub angle: f64,
    /// Half of the size, in pixels.
    pub radius: f64,
}

impl Path {
    /// Where the object is in frame `t`.
    pub fn at(&self, t: u32) -> Pose {
        let turn = self.phase + self.speed * f64::from(t);
        let shift = match &self.late {
            Some(Late { shift, arrival }) if t < *arrival => {
                shift * (1.0 - f64::from(t) / f64::from(*arrival))
            }
            _ => 0.0,
        };
        Pose {
            x: self.centre[0] + self.half_axes[0] * turn.cos() + shift,
            y: self.centre[1] + self.half_axes[1] * turn.sin(),
            angle: self.angle + self.spin * f64::from(t),
            radius: self.radius,
        }
    }
}

/// Paths of all objects of a scene; a later object is painted over an earlier one.
///
/// Objects keep clear of each other, except that in about half of the scenes one passes behind another.
pub fn random_paths(outlines: &[Outline], width: u32, height: u32, rng: &mut impl Rng) -> Vec<Path> {
    let (width, height) = (f64::from(width), f64::from(height));
    let crossing = outlines.len() > 1 && rng.random_bool(CROSSING_SHARE);
    let late = rng
        .random_bool(LATE_SHARE)
        .then(|| rng.random_range(0..outlines.len()));
    let mut order: Vec<usize> = (0..outlines.len()).collect();
    order.shuffle(rng);
    let mut liveliness = 1.0;
    // Each round asks for a little less movement, and the grid always has room.
    for _ in 0..60 {
        if let Some(paths) = try_paths(outlines, [width, height], crossing, late, liveliness, &order, rng) {
            return paths;
        }
        liveliness *= 0.95;
    }
    grid(outlines, [width, height], rng)
}

fn radius_for(outline: &Outline, objects: usize, [width, height]: [f64; 2], rng: &mut impl Rng) -> f64 {
    (rng.random_range(areas(objects)) * width * height / outline.area()).sqrt()
}

fn random_path(outline: &Outline, radius: f64, frame: [f64; 2], liveliness: f64, rng: &mut impl Rng) -> Path {
    let reach = outline.reach() * radius + 1.0;
    let mut axis = |side: f64, most: f64| {
        let room = (side / 2.0 - reach).max(0.0);
        let half = rng.random_range(0.3..1.0) * (most * liveliness).min(room);
        let spare = room - half;
        (side / 2.0 + rng.random_range(-1.0..=1.0) * spare, half)
    };
    let (x, half_x) = axis(frame[0], 0.3 * frame[0]);
    let (y, half_y) = axis(frame[1], 0.25 * frame[1]);
    let direction = *[-1.0, 1.0].choose(rng).unwrap_or(&1.0);
    Path {
        centre: [x, y],
        half_axes: [half_x, half_y],
        phase: rng.random_range(0.0..TAU),
        speed: direction * rng.random_range(0.25..0.65),
        angle: rng.random_range(-0.4..0.4),
        spin: rng.random_range(-0.08..0.08),
        radius,
        late: None,
    }
}

/// Distance between two objects' rims in each frame, as circles; negative where they may overlap.
fn gaps(a: (&Path, &Outline), b: (&Path, &Outline)) -> impl Iterator<Item = f64> {
    (0..SECONDS).map(move |t| {
        let (p, q) = (a.0.at(t), b.0.at(t));
        (p.x - q.x).hypot(p.y - q.y) - a.1.reach() * p.radius - b.1.reach() * q.radius
    })
}

/// Whether one object clearly passes behind another for a few seconds, but neither at the start nor wholly.
fn crosses(a: (&Path, &Outline), b: (&Path, &Outline)) -> bool {
    let depth = (a.0.radius + b.0.radius) * -0.45;
    let gaps: Vec<f64> = gaps(a, b).collect();
    let deep = gaps.iter().filter(|gap| **gap < depth).count();
    let wholly = |t| {
        let (p, q) = (a.0.at(t), b.0.at(t));
        (p.x - q.x).hypot(p.y - q.y) < 0.6 * p.radius.max(q.radius)
    };
    gaps[0] > depth / 2.0 && (1..=4).contains(&deep) && !(0..SECONDS).any(wholly)
}

fn try_paths(
    outlines: &[Outline],
    frame: [f64; 2],
    crossing: bool,
    late: Option<usize>,
    liveliness: f64,
    order: &[usize],
    rng: &mut impl Rng,
) -> Option<Vec<Path>> {
    let mut placed: Vec<(usize, Path)> = Vec::new();
    for (number, &object) in order.iter().enumerate() {
        let outline = &outlines[object];
        let radius = radius_for(outline, outlines.len(), frame, rng);
        let path = (0..150).find_map(|_| {
            let mut path = random_path(outline, radius, frame, liveliness, rng);
            if late == Some(object) {
                let left = path.at(0).x < frame[0] / 2.0;
                let way = if left {
                    -path.at(0).x
                } else {
                    frame[0] - path.at(0).x
                };
                let shift = way + way.signum() * (outline.reach() * radius + 2.0);
                path.late = Some(Late { shift, arrival: 3 });
            }
            let fits = placed.iter().enumerate().all(|(i, (other, there))| {
                let (own, theirs) = ((&path, outline), (there, &outlines[*other]));
                // The second object placed is the one that crosses the first.
                if crossing && number == 1 && i == 0 {
                    crosses(own, theirs)
                } else {
                    gaps(own, theirs).all(|gap| gap > 1.0)
                }
            });
            fits.then_some(path)
        })?;
        placed.push((object, path));
    }
    placed.sort_by_key(|(object, _)| *object);
    Some(placed.into_iter().map(|(_, path)| path).collect())
}

/// Objects in the cells of a grid, moving as far as their cell lets them.
fn grid(outlines: &[Outline], [width, height]: [f64; 2], rng: &mut impl Rng) -> Vec<Path> {
    let columns = if outlines.len() == 4 { 2 } else { outlines.len() };
    let rows = outlines.len().div_ceil(columns);
    let cell = [width / columns as f64, height / rows as f64];
    let mut cells: Vec<usize> = (0..columns * rows).collect();
    cells.shuffle(rng);
    outlines
        .iter()
        .zip(cells)
        .map(|(outline, at)| {
            let small = areas(4).start * 1.05 * width * height / outline.area();
            let mut path = random_path(outline, small.sqrt(), cell, 0.8, rng);
            path.centre[0] += (at % columns) as f64 * cell[0];
            path.centre[1] += (at / columns) as f64 * cell[1];
            path
        })
        .collect()
}
