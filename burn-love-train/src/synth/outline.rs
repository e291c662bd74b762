//! The six outlines: which points are inside, and how large they are.

use std::f64::consts::{PI, TAU};

use super::{class::Shape, motion::Pose};

/// Inner radius of a star, of a ring, and half width of a cross's arms, as shares of the radius.
const STAR_INNER: f64 = 0.45;
const RING_INNER: f64 = 0.5;
const CROSS_ARM: f64 = 0.36;

/// Area of an outline of radius 1.
pub fn area_factor(shape: Shape) -> f64 {
    match shape {
        Shape::Disc => PI,
        Shape::Square => 4.0,
        Shape::Triangle => 0.75 * 3f64.sqrt(),
        Shape::Star => 5.0 * STAR_INNER * (PI / 5.0).sin(),
        Shape::Ring => PI * (1.0 - RING_INNER * RING_INNER),
        Shape::Cross => 8.0 * CROSS_ARM - 4.0 * CROSS_ARM * CROSS_ARM,
    }
}

/// Distance of the farthest point from the centre, at radius 1.
pub fn reach(shape: Shape) -> f64 {
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

/// Whether a point in the object's own coordinates is inside, after the outline has shrunk by `inset`.
pub fn inside(shape: Shape, [x, y]: [f64; 2], inset: f64) -> bool {
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
    use super::*;

    #[test]
    fn the_outlines_have_their_stated_area_and_reach() {
        for shape in Shape::ALL {
            let (side, mut count, mut farthest) = (400, 0, 0.0f64);
            for i in 0..side * side {
                let coordinate = |k: i32| 3.0 * (f64::from(k) + 0.5) / f64::from(side) - 1.5;
                let point = [coordinate(i % side), coordinate(i / side)];
                if inside(*shape, point, 0.0) {
                    count += 1;
                    farthest = farthest.max(point[0].hypot(point[1]));
                }
            }
            let area = f64::from(count) * (3.0 / f64::from(side)).powi(2);
            assert!(
                (area / area_factor(*shape) - 1.0).abs() < 0.01,
                "{shape:?}: {area}"
            );
            assert!((farthest - reach(*shape)).abs() < 0.02, "{shape:?}: {farthest}");
        }
    }
}
