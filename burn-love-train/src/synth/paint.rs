//! Frames: a textured background and patterned objects.

use std::f64::consts::TAU;

use image::{Rgb, RgbImage};
use rand::Rng;

use super::{
    class::{Colour, Surface},
    graph::{ObjectGraph, SceneGraph},
    motion::Pose,
    outline::{Outline, local},
    raster::bounds,
    scene::{Item, SECONDS},
    unnamed::{Unnamed, outline},
};

type Light = [f64; 3];

/// Samples along each side of a pixel.
const SAMPLES: i64 = 3;

/// Width of an object's dark rim, as a share of its radius.
const RIM: f64 = 0.06;

/// Periods of the patterns, as a share of the radius.
const STRIPE: f64 = 0.5;
const DOT: f64 = 0.56;
const CHECK: f64 = 0.36;

/// Shortest and longest waves of other patterns, as a share of the radius.
const SHORTEST: f64 = 0.35;
const LONGEST: f64 = 2.0;

/// A pattern that no surface has: where a few waves add up, a darker shade.
pub struct Waves {
    /// Frequency along both axes, in radians per radius, and phase.
    waves: Vec<[f64; 3]>,
    /// Of the waves' sum, where the shade is half dark.
    middle: f64,
    /// How hard the edges of the shade are.
    contrast: f64,
    /// How light the shade is.
    shade: f64,
}

impl Waves {
    /// Waves in any directions, short and long.
    pub fn draw(rng: &mut impl Rng) -> Self {
        let count = rng.random_range(3..=6);
        let waves = (0..count).map(|_| {
            let (sine, cosine) = rng.random_range(0.0..TAU).sin_cos();
            let frequency = TAU / rng.random_range(SHORTEST.ln()..LONGEST.ln()).exp();
            [frequency * cosine, frequency * sine, rng.random_range(0.0..TAU)]
        });
        Self {
            waves: waves.collect(),
            middle: rng.random_range(-0.5..0.5),
            contrast: rng.random_range(2.0..12.0),
            shade: rng.random_range(0.15..0.5),
        }
    }

    /// The light at a point in the object's own coordinates.
    fn at(&self, light: Light, [x, y]: [f64; 2]) -> Light {
        let waves = self
            .waves
            .iter()
            .map(|[u, v, phase]| (u * x + v * y + phase).sin());
        let dark = ((waves.sum::<f64>() - self.middle) * self.contrast + 0.5).clamp(0.0, 1.0);
        mix(light, light.map(|v| v * self.shade), dark)
    }
}

/// All frames of a clip.
pub fn frames(graph: &SceneGraph, rng: &mut impl Rng) -> Vec<RgbImage> {
    let background = background(graph.width, graph.height, rng);
    let looks: Vec<Appearance> = graph.objects.iter().map(Appearance::new).collect();
    (0..SECONDS)
        .map(|t| {
            let mut frame = background.clone();
            for (object, look) in graph.objects.iter().zip(&looks) {
                paint(&mut frame, look, &object.motion.at(t));
            }
            frame
        })
        .collect()
}

fn rgb(colour: Colour) -> Light {
    match colour {
        Colour::Red => [215.0, 35.0, 40.0],
        Colour::Orange => [245.0, 135.0, 20.0],
        Colour::Yellow => [245.0, 225.0, 50.0],
        Colour::Green => [40.0, 165.0, 60.0],
        Colour::Cyan => [50.0, 205.0, 220.0],
        Colour::Blue => [40.0, 75.0, 215.0],
        Colour::Purple => [150.0, 55.0, 185.0],
        Colour::White => [245.0, 245.0, 245.0],
    }
}

/// The colour of a pattern's other part: so dark that every pattern shows, of a hue that leaves the colour's name.
fn shade(light: Light) -> Light {
    light.map(|v| v * 0.28)
}

fn mix(a: Light, b: Light, share: f64) -> Light {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * share)
}

/// Colour of an object at a point in its own coordinates.
fn pattern(item: &Item, [x, y]: [f64; 2]) -> Light {
    let light = rgb(item.colour);
    let cell = |v: f64, period: f64| v.rem_euclid(period) / period;
    let dark = match item.class.surface {
        Surface::Plain => false,
        Surface::Stripes => cell(x + y, STRIPE) < 0.45,
        Surface::Dots => (cell(x, DOT) - 0.5).hypot(cell(y, DOT) - 0.5) < 0.3,
        Surface::Checker => (cell(x, 2.0 * CHECK) < 0.5) != (cell(y, 2.0 * CHECK) < 0.5),
    };
    if dark { shade(light) } else { light }
}

/// What an object is painted with.
struct Appearance {
    outline: Outline,
    item: Item,
    /// Instead of the item's surface.
    waves: Option<Waves>,
}

impl Appearance {
    fn new(object: &ObjectGraph) -> Self {
        Self {
            outline: outline(&object.item, object.unnamed),
            item: object.item,
            waves: object.unnamed.and_then(Unnamed::pattern),
        }
    }
}

fn paint(frame: &mut RgbImage, look: &Appearance, pose: &Pose) {
    let Appearance { outline, item, waves } = look;
    let (columns, rows) = bounds(outline, pose);
    let rim = shade(rgb(item.colour)).map(|v| v * 0.4);
    for y in rows.start.max(0)..rows.end.min(i64::from(frame.height())) {
        for x in columns.start.max(0)..columns.end.min(i64::from(frame.width())) {
            let (mut sum, mut covered) = ([0.0; 3], 0.0);
            for sample in 0..SAMPLES * SAMPLES {
                let offset = |k: i64| (k as f64 + 0.5) / SAMPLES as f64;
                let point = local(
                    pose,
                    x as f64 + offset(sample % SAMPLES),
                    y as f64 + offset(sample / SAMPLES),
                );
                if !outline.contains(point, 0.0) {
                    continue;
                }
                let light = match waves {
                    _ if !outline.contains(point, RIM) => rim,
                    Some(waves) => waves.at(rgb(item.colour), point),
                    None => pattern(item, point),
                };
                sum = std::array::from_fn(|c| sum[c] + light[c]);
                covered += 1.0;
            }
            if covered > 0.0 {
                let pixel = frame.get_pixel_mut(x as u32, y as u32);
                let behind = pixel.0.map(f64::from);
                let light = mix(
                    behind,
                    sum.map(|v| v / covered),
                    covered / (SAMPLES * SAMPLES) as f64,
                );
                *pixel = Rgb(light.map(|v| v.round() as u8));
            }
        }
    }
}

/// Three octaves of smooth noise between two dull colours, and grain.
fn background(width: u32, height: u32, rng: &mut impl Rng) -> RgbImage {
    let mut dull = |low: f64, high: f64| {
        let grey = rng.random_range(low..high);
        let tint: Light = std::array::from_fn(|_| rng.random_range(-18.0..18.0));
        tint.map(|v: f64| (grey + v).clamp(0.0, 255.0))
    };
    let (from, to) = (dull(60.0, 110.0), dull(110.0, 160.0));
    let octaves: Vec<Noise> = [3, 7, 15]
        .into_iter()
        .map(|cells| Noise::new(cells, cells * height as usize / width.max(1) as usize, rng))
        .collect();
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
        let smooth = 0.55 * octaves[0].at(u, v) + 0.3 * octaves[1].at(u, v) + 0.15 * octaves[2].at(u, v);
        let grain: f64 = rng.random_range(-6.0..6.0);
        Rgb(mix(from, to, smooth).map(|v| (v + grain).round().clamp(0.0, 255.0) as u8))
    })
}

/// Random values on a grid, smoothly interpolated.
struct Noise {
    columns: usize,
    rows: usize,
    values: Vec<f64>,
}

impl Noise {
    fn new(columns: usize, rows: usize, rng: &mut impl Rng) -> Self {
        let (columns, rows) = (columns.max(1), rows.max(1));
        let values = (0..(columns + 2) * (rows + 2))
            .map(|_| rng.random_range(0.0..1.0))
            .collect();
        Self {
            columns,
            rows,
            values,
        }
    }

    fn at(&self, u: f64, v: f64) -> f64 {
        let (x, y) = (u * self.columns as f64, v * self.rows as f64);
        let smooth = |f: f64| f * f * (3.0 - 2.0 * f);
        let (fx, fy) = (smooth(x.fract()), smooth(y.fract()));
        let value =
            |dx: usize, dy: usize| self.values[(y as usize + dy) * (self.columns + 2) + x as usize + dx];
        let row = |dy| value(0, dy) + (value(1, dy) - value(0, dy)) * fx;
        row(0) + (row(1) - row(0)) * fy
    }
}
