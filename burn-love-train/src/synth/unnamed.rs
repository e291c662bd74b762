//! Looks and sounds without a name, which only training shows.
//!
//! A quarter of the classes is held out, so where every object is of one of the others, a learner does well that takes each
//! class for a whole, and one that takes a disc for something that is never checkered does better still. Here an object
//! keeps one attribute of its class, and instead of the other it has a look that no expression names, and a sound to
//! match. What such a sound belongs to is told by the attribute that is kept.

use std::ops::Range;

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{
    class::Surface,
    compose::UnitDraft,
    language::Look,
    outline::{Blob, Outline},
    paint::Waves,
    scene::Item,
};

/// Partials of a spectrum without a name, and the whole part of the highest one's multiple of the pitch.
const PARTIALS: Range<usize> = 2..6;
const HIGHEST_MULTIPLE: u32 = 6;

/// Lowest and highest modulation without a name, in Hz, and how far it stays from those of surfaces.
const MODULATIONS: Range<f64> = 1.0..14.0;
const APART: f64 = 0.8;

/// What a class decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// Outline and spectrum.
    Shape,
    /// Pattern and modulation.
    Surface,
}

/// Which attribute of its class an object, and its sound, do not have, and what they have instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unnamed {
    /// The attribute.
    pub attribute: Attribute,
    /// Look and sound are made from it.
    pub seed: u32,
}

impl Unnamed {
    /// Whether the object has a name for an attribute.
    pub fn keeps(self, attribute: Attribute) -> bool {
        self.attribute != attribute
    }

    /// The outline of an object instead of its shape.
    pub fn outline(self) -> Option<Blob> {
        (self.attribute == Attribute::Shape).then(|| Blob::draw(&mut self.rng(0)))
    }

    /// The pattern of an object instead of its surface.
    pub fn pattern(self) -> Option<Waves> {
        (self.attribute == Attribute::Surface).then(|| Waves::draw(&mut self.rng(0)))
    }

    /// The partials of a sound instead of its shape's: their frequencies as multiples of the pitch, and their strengths.
    ///
    /// No multiple is near a whole number, so it sounds like no shape.
    pub fn partials(self) -> Option<Vec<(f64, f64)>> {
        (self.attribute == Attribute::Shape).then(|| {
            let rng = &mut self.rng(1);
            let count = rng.random_range(PARTIALS);
            let mut partial = || {
                let whole = f64::from(rng.random_range(1..=HIGHEST_MULTIPLE));
                (whole + rng.random_range(0.25..0.75), rng.random_range(0.3..1.0))
            };
            (0..count).map(|_| partial()).collect()
        })
    }

    /// The frequency of a sound's modulation, in Hz, instead of its surface's.
    pub fn modulation_hz(self) -> Option<f64> {
        (self.attribute == Attribute::Surface).then(|| {
            let rng = &mut self.rng(1);
            loop {
                let hz = rng.random_range(MODULATIONS);
                let apart = |surface: &Surface| (surface.modulation_hz() - hz).abs() >= APART;
                if Surface::ALL.iter().all(apart) {
                    return hz;
                }
            }
        })
    }

    /// What is seen (stream 0) and what is heard (1) do not depend on each other.
    fn rng(self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.into());
        rng.set_stream(stream);
        rng
    }
}

/// The outline of an item.
pub fn outline(item: &Item, unnamed: Option<Unnamed>) -> Outline {
    let blob = unnamed.and_then(Unnamed::outline);
    blob.map_or(Outline::Shape(item.class.shape), Outline::Blob)
}

/// Draws for each item of a unit what it has no name for, if anything: so many of a hundred items that can lose an
/// attribute lose one.
///
/// An item can lose what no row states of it, unless another one that lost the same keeps the same: what is kept, and that the
/// other has no name, tells which sound is its own.
pub fn draw(draft: &UnitDraft, percent: u32, rng: &mut impl Rng) -> Vec<Option<Unnamed>> {
    let rows = || draft.clips.iter().flat_map(|clip| &clip.rows);
    let mut drawn: Vec<Option<Unnamed>> = Vec::new();
    for item in &draft.items {
        let shape = Look::Shape(item.class.shape);
        let surface = Look::Surface(item.class.surface);
        let free = |attribute: &Attribute| {
            let (own, kept) = match attribute {
                Attribute::Shape => (shape, surface),
                Attribute::Surface => (surface, shape),
            };
            let alike = |(other, given): (&Item, &Option<Unnamed>)| {
                other.looks(kept) && given.is_some_and(|given| given.attribute == *attribute)
            };
            !rows().any(|row| row.meaning.looks.contains(&own)) && !draft.items.iter().zip(&drawn).any(alike)
        };
        let free: Vec<Attribute> = [Attribute::Shape, Attribute::Surface]
            .into_iter()
            .filter(free)
            .collect();
        let (wanted, seed) = (rng.random_ratio(percent, 100), rng.random());
        let attribute = free.choose(rng).filter(|_| wanted);
        drawn.push(attribute.map(|&attribute| Unnamed { attribute, seed }));
    }
    drawn
}
