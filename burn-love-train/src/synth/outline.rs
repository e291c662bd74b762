//! Outlines, the six and others: which points are inside, and how large they are.

use std::f64::consts::{PI, TAU};

use rand::Rng;

use super::{class::Shape, motion::Pose};

/// Inner radius of a star, of a ring, and half width of a cross's arms, as shares of the radius.
const STAR_INNER: f64 = 0.45;
const RING_INNER: f64 = 0.5;
const CROSS_ARM: f64 = 0.36;

/// Angles at which the outline of a blob is known.
const ANGLES: usize = 128;

/// Harmonics of a blob's outline.
const HARMONICS: std::ops::Range<usize> = 2..7;

/// The shortest distance of a blob's outline from its centre, before the longest is made 1.
const SHORTEST: f64 = 0.2;

/// What an object covers, at radius 1.
#[derive(Debug)]
pub enum Outline {
    /// One of the six.
    Shape(Shape),
    /// Another.
    Blob(Blob),
}

/// A smooth outline around a centre, which has no name.
#[derive(Debug)]
pub struct Blob {
    /// Distances from the centre, 1 at most, at even steps of a whole turn.
    radii: Vec<f64>,
}

impl Blob {
    /// An outline of a few smooth bays.
    pub fn draw(rng: &mut impl Rng) -> Self {
        let bays: Vec<(f64, f64, f64)> = HARMONICS
            .map(|k| {
                let k = k as f64;
                (k, rng.random_range(0.0..0.9) / k, rng.random_range(0.0..TAU))
            })
            .collect();
        let radius = |i: usize| {
            let angle = TAU * i as f64 / ANGLES as f64;
            let bays = bays
                .iter()
                .map(|(k, depth, phase)| depth * (k * angle + phase).cos());
            (1.0 + bays.sum::<f64>()).max(SHORTEST)
        };
        let radii: Vec<f64> = (0..ANGLES).map(radius).collect();
        let longest = radii.iter().copied().fold(0.0, f64::max);
        Self {
            radii: radii.into_iter().map(|radius| radius / longest).collect(),
        }
    }

    fn at(&self, angle: f64) -> f64 {
        let at = angle.rem_euclid(TAU) / TAU * ANGLES as f64;
        let radius = |i: usize| self.radii[i % ANGLES];
        radius(at as usize) + (radius(at as usize + 1) - radius(at as usize)) * at.fract()
    }
}

impl Outline {
    /// Area at radius 1.
    pub fn area(&self) -> f64 {
        match self {
            Self::Shape(shape) => area_factor(*shape),
            Self::Blob(blob) => {
                PI / ANGLES as f64 * blob.radii.iter().map(|radius| radius * radius).sum::<f64>()
            }
        }
    }

    /// Distance of the farthest point from the centre, at radius 1.
    pub fn reach(&self) -> f64 {
        match self {
            Self::Shape(shape) => reach(*shape),
            Self::Blob(_) => 1.0,
        }
    }

    /// Whether a point in the object's own coordinates is inside, after the outline has shrunk by `inset`.
    pub fn contains(&self, point: [f64; 2], inset: f64) -> bool {
        match self {
            Self::Shape(shape) => inside(*shape, point, inset),
            Self::Blob(blob) => point[0].hypot(point[1]) <= blob.at(point[1].atan2(point[0])) - inset,
        }
    }
}

fn area_factor(shape: Shape) -> f64 {
    match shape {
        Shape::Disc => PI,
        Shape::Square => 4.0,
        Shape::Triangle => 0.75 * 3f64.sqrt(),
        Shape::Star => 5.0 * STAR_INNER * (PI / 5.0).sin(),
        Shape::Ring => PI * (1.0 - RING_INNER * RING_INNER),
        Shape::Cross => 8.0 * CROSS_ARM - 4.0 * CROSS_ARM * CROSS_ARM,
    }
}

fn reach(shape: Shape) -> f64 {
    match shape {
        Shape::Square => 2f64.sqrt(),
        Shape::Cross => 1f64.hypot(CROSS_ARM),
        _ => 1.0,
    }
}

/// A point of the frame in an object's own coordinates: radius 1, upright.
pub fn local(pose: &Pose, x: f64, y: f64) -> [f64; 2] {
    let (dx, dy) = ((x - pose.x) / pose.radius, (y - pose.y) / pose.radius);
    let (sin, cos) = pose.angle.sin_cos();
    [cos * dx + sin * dy, cos * dy - sin * dx]
}

fn inside(shape: Shape, [x, y]: [f64; 2], inset: f64) -> bool {
    let distance = x.hypot(y);
    match shape {
        Shape::Disc => distance <= 1.0 - inset,
        Shape::Square => x.abs().max(y.abs()) <= 1.0 - inset,
        // Three edges at half the radius, one of them below.
        Shape::Triangle => {
            let side = |angle: f64| x * angle.cos() + y * angle.sin() <= 0.5 - inset;
            side(PI / 2.0) && side(PI / 2.0 + TAU / 3.0) && side(PI / 2.0 - TAU / 3.0)
        }
        Shape::Star => {
            // One of ten triangles: from a tip, upwards, to the next inner corner.
            let sector = TAU / 10.0;
            let angle = (x.atan2(-y) + TAU) % (2.0 * sector);
            let angle = angle.min(2.0 * sector - angle);
            let (corner_x, corner_y) = (STAR_INNER * sector.cos(), STAR_INNER * sector.sin());
            let (edge_x, edge_y) = (corner_x - 1.0, corner_y);
            let (px, py) = (distance * angle.cos() - 1.0, distance * angle.sin());
            (edge_x * py - edge_y * px) / edge_x.hypot(edge_y) >= inset
        }
        Shape::Ring => distance <= 1.0 - inset && distance >= RING_INNER + inset,
        Shape::Cross => {
            let (long, wide) = (x.abs().max(y.abs()), x.abs().min(y.abs()));
            long <= 1.0 - inset && wide <= CROSS_ARM - inset
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_outlines_have_their_stated_area_and_reach() {
        let blob = |seed| Outline::Blob(Blob::draw(&mut ChaCha8Rng::seed_from_u64(seed)));
        for outline in Shape::ALL
            .iter()
            .map(|shape| Outline::Shape(*shape))
            .chain((0..4).map(blob))
        {
            let (side, mut count, mut farthest) = (400, 0, 0.0f64);
            for i in 0..side * side {
                let coordinate = |k: i32| 3.0 * (f64::from(k) + 0.5) / f64::from(side) - 1.5;
                let point = [coordinate(i % side), coordinate(i / side)];
                if outline.contains(point, 0.0) {
                    count += 1;
                    farthest = farthest.max(point[0].hypot(point[1]));
                }
            }
            let area = f64::from(count) * (3.0 / f64::from(side)).powi(2);
            assert!((area / outline.area() - 1.0).abs() < 0.01, "{outline:?}: {area}");
            assert!(
                (farthest - outline.reach()).abs() < 0.02,
                "{outline:?}: {farthest}"
            );
        }
    }
}
