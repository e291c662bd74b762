//! Targets and the prompts that point at them.

use rand::{
    Rng,
    seq::{IndexedRandom, IteratorRandom},
};
use rand_chacha::ChaCha8Rng;

use crate::synth::SceneGraph;

/// Share of the targets that are not there: the prompt points at a place where another scene has an object.
pub const ABSENT: f64 = 0.2;
/// Least area of an object to point at, as a share of the image.
const LEAST: f64 = 0.004;
/// Largest part of an absent object that may lie on objects that are there.
const OVERLAP: f64 = 0.05;
/// Scenes that are tried for an absent object.
const TRIES: usize = 60;
/// A box's sides move by up to this share of its size.
const JITTER: f64 = 0.1;
/// Most clicks.
const CLICKS: usize = 3;

/// How a target is pointed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointer {
    /// One to three positive clicks.
    Click,
    /// A box, not quite exact.
    Box,
    /// A mask.
    Mask,
}

impl Pointer {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Click => "click",
            Self::Box => "box",
            Self::Mask => "mask",
        }
    }
}

/// The objects of a frame at SAM 2's resolution: the uppermost at each pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Owners {
    side: usize,
    owners: Vec<Option<usize>>,
}

impl Owners {
    /// Those of frame `t`, scaled to a square by taking the nearest pixel, as the frame is.
    pub fn new(graph: &SceneGraph, t: u32, side: usize) -> Self {
        let (width, height) = (graph.width as usize, graph.height as usize);
        let all = graph.owners(t);
        let near = |i: usize, size: usize| (2 * i + 1) * size / (2 * side);
        let owners = (0..side * side).map(|at| all[near(at / side, height) * width + near(at % side, width)]);
        Self {
            side,
            owners: owners.collect(),
        }
    }

    /// Pixels of an object.
    pub fn mask(&self, object: usize) -> Mask {
        Mask {
            side: self.side,
            inside: self.owners.iter().map(|owner| *owner == Some(object)).collect(),
        }
    }

    /// Objects that are large enough to be pointed at.
    pub fn objects(&self) -> Vec<usize> {
        let most = self.owners.iter().flatten().max().map_or(0, |most| most + 1);
        (0..most).filter(|object| self.mask(*object).is_large()).collect()
    }

    /// Pixels of some object.
    fn covered(&self, at: usize) -> bool {
        self.owners[at].is_some()
    }
}

/// Pixels of a square image.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    pub side: usize,
    pub inside: Vec<bool>,
}

impl Mask {
    /// 0 and 1.
    pub fn values(&self) -> impl Iterator<Item = f32> + '_ {
        self.inside.iter().map(|inside| f32::from(u8::from(*inside)))
    }

    fn pixels(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.inside.len()).filter(|at| self.inside[*at])
    }

    fn is_large(&self) -> bool {
        self.pixels().count() as f64 >= LEAST * self.inside.len() as f64
    }

    /// Nothing.
    fn empty(&self) -> Self {
        Self {
            side: self.side,
            inside: vec![false; self.inside.len()],
        }
    }

    /// The tight box: first and last column, first and last row, as (x0, y0, x1, y1).
    pub fn bounds(&self) -> [f32; 4] {
        let (mut low, mut high) = ([self.side; 2], [0; 2]);
        for at in self.pixels() {
            for (i, v) in [at % self.side, at / self.side].into_iter().enumerate() {
                low[i] = low[i].min(v);
                high[i] = high[i].max(v);
            }
        }
        [low[0], low[1], high[0], high[1]].map(|v| v as f32)
    }

    /// A box near the tight one.
    pub fn loose_bounds(&self, rng: &mut ChaCha8Rng) -> [f32; 4] {
        let [x0, y0, x1, y1] = self.bounds();
        let size = [f64::from(x1 - x0), f64::from(y1 - y0)];
        let last = (self.side - 1) as f32;
        let mut near = |v: f32, axis: usize| {
            (v + (rng.random_range(-JITTER..=JITTER) * size[axis]) as f32).clamp(0.0, last)
        };
        [near(x0, 0), near(y0, 1), near(x1, 0), near(y1, 1)]
    }

    /// A pixel of it, (x, y).
    pub fn click(&self, rng: &mut ChaCha8Rng) -> [f32; 2] {
        let at = self.pixels().choose(rng).unwrap_or(0);
        [(at % self.side) as f32, (at / self.side) as f32]
    }

    /// Rough logits on a grid of `size` × `size` cells: ±8, by the cell's middle, moved by up to half a cell.
    pub fn rough_logits(&self, size: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let cell = self.side / size;
        let half = (cell / 2) as i64;
        let shift: [i64; 2] = std::array::from_fn(|_| rng.random_range(-half..=half));
        let pixel =
            |i: usize, shift: i64| ((i * cell) as i64 + half + shift).clamp(0, self.side as i64 - 1) as usize;
        let inside =
            |at: usize| self.inside[pixel(at / size, shift[1]) * self.side + pixel(at % size, shift[0])];
        (0..size * size)
            .map(|at| if inside(at) { 8.0 } else { -8.0 })
            .collect()
    }
}

/// What a prompt is made from, and what is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What is pointed at.
    pub prompt: Mask,
    /// The object, where it is there.
    pub object: Option<usize>,
    /// Its pixels; none where it is absent.
    pub label: Mask,
}

impl Target {
    /// A target of a frame with `owners`. `other` draws the objects of another frame, for a target that is absent; where
    /// none fits between the objects, or there is no object, the other sort is taken. `None` if neither can be.
    pub fn draw(
        owners: &Owners,
        mut other: impl FnMut(&mut ChaCha8Rng) -> Owners,
        rng: &mut ChaCha8Rng,
    ) -> Option<Self> {
        let absent = rng.random_bool(ABSENT);
        let mut ghost = |rng: &mut ChaCha8Rng| {
            (0..TRIES).find_map(|_| {
                let other = other(rng);
                let prompt = other.mask(*other.objects().choose(rng)?);
                let hidden = prompt.pixels().filter(|at| owners.covered(*at)).count();
                let free = hidden as f64 <= OVERLAP * prompt.pixels().count() as f64;
                free.then(|| {
                    // Not a pixel of the prompt may be on an object.
                    let inside = (0..prompt.inside.len()).map(|at| prompt.inside[at] && !owners.covered(at));
                    let prompt = Mask {
                        side: prompt.side,
                        inside: inside.collect(),
                    };
                    Self {
                        label: prompt.empty(),
                        object: None,
                        prompt,
                    }
                })
            })
        };
        let seen = |rng: &mut ChaCha8Rng| {
            let object = *owners.objects().choose(rng)?;
            let prompt = owners.mask(object);
            Some(Self {
                label: prompt.clone(),
                object: Some(object),
                prompt,
            })
        };
        if absent {
            ghost(rng).or_else(|| seen(rng))
        } else {
            seen(rng).or_else(|| ghost(rng))
        }
    }
}

/// Points of a batch of prompts, `count` each, in pixels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PointRows {
    pub count: usize,
    pub coordinates: Vec<f32>,
    pub labels: Vec<i32>,
}

impl PointRows {
    /// Clicks or boxes on what `masks` are made of.
    pub fn new<'a>(pointer: Pointer, masks: impl Iterator<Item = &'a Mask>, rng: &mut ChaCha8Rng) -> Self {
        let mut rows = Self {
            count: match pointer {
                Pointer::Click => rng.random_range(1..=CLICKS),
                Pointer::Box => 2,
                Pointer::Mask => 0,
            },
            ..Self::default()
        };
        for mask in masks {
            match pointer {
                Pointer::Click => (0..rows.count).for_each(|_| rows.push(&mask.click(rng), &[1])),
                Pointer::Box => rows.push(&mask.loose_bounds(rng), &[2, 3]),
                Pointer::Mask => {}
            }
        }
        rows
    }

    /// Tight boxes.
    pub fn boxes<'a>(masks: impl Iterator<Item = &'a Mask>) -> Self {
        let mut rows = Self {
            count: 2,
            ..Self::default()
        };
        masks.for_each(|mask| rows.push(&mask.bounds(), &[2, 3]));
        rows
    }

    fn push(&mut self, coordinates: &[f32], labels: &[i32]) {
        self.coordinates.extend(coordinates);
        self.labels.extend(labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{SynthConfig, scenes};
    use rand::SeedableRng;

    const SIDE: usize = 128;

    fn frames() -> Vec<Owners> {
        let config = SynthConfig {
            train: 12,
            val: 0,
            test_seen: 0,
            test_unseen: 0,
            test_null: 0,
            ..SynthConfig::default()
        };
        let graphs = scenes(&config).unwrap();
        graphs.iter().map(|graph| Owners::new(graph, 4, SIDE)).collect()
    }

    #[test]
    fn a_fifth_of_the_targets_is_absent_and_points_at_nothing() {
        let frames = frames();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let rounds = 2000;
        let mut absent = 0;
        for i in 0..rounds {
            let owners = &frames[i % frames.len()];
            let other = |rng: &mut ChaCha8Rng| frames.choose(rng).unwrap().clone();
            let target = Target::draw(owners, other, &mut rng).unwrap();
            let labelled = target.label.pixels().count();
            match target.object {
                Some(object) => assert!(target.prompt == owners.mask(object) && labelled > 60),
                None => {
                    absent += 1;
                    assert_eq!(labelled, 0);
                    assert!(target.prompt.pixels().all(|at| !owners.covered(at)));
                }
            }
            let [x, y] = target.prompt.click(&mut rng).map(|v| v as usize);
            assert!(
                target.prompt.inside[y * SIDE + x],
                "a click beside what it points at"
            );
        }
        // Three deviations of 2000 draws are 0.027.
        let share = f64::from(absent) / rounds as f64;
        assert!((share - ABSENT).abs() < 0.027, "{share}");
    }

    #[test]
    fn boxes_hold_the_object_and_rough_masks_are_near_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for owners in frames() {
            for object in owners.objects() {
                let mask = owners.mask(object);
                let [x0, y0, x1, y1] = mask.bounds().map(|v| v as usize);
                let within = |at: usize| (x0..=x1).contains(&(at % SIDE)) && (y0..=y1).contains(&(at / SIDE));
                assert!(mask.pixels().all(within));
                let loose = mask.loose_bounds(&mut rng);
                let most = JITTER as f32 * ((x1 - x0).max(y1 - y0)) as f32 + 1e-3;
                assert!(
                    loose
                        .iter()
                        .zip(mask.bounds())
                        .all(|(a, b)| (a - b).abs() <= most)
                );
                let logits = mask.rough_logits(32, &mut rng);
                let area = logits.iter().filter(|x| **x > 0.0).count() as f64 / 1024.0;
                let true_area = mask.pixels().count() as f64 / (SIDE * SIDE) as f64;
                assert!((area / true_area - 1.0).abs() < 0.5, "{area} {true_area}");
            }
        }
    }
}
