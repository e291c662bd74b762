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
    class::{Class, Surface},
    compose::UnitDraft,
    language::Look,
    outline::{Blob, Outline},
    paint::Blotches,
    scene::Item,
};

/// Partials of a spectrum without a name.
const PARTIALS: usize = 10;

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
    pub fn pattern(self) -> Option<Blotches> {
        (self.attribute == Attribute::Surface).then(|| Blotches::draw(&mut self.rng(0)))
    }

    /// The strengths of a sound's partials, the lowest first, instead of its shape's.
    pub fn partials(self) -> Option<Vec<f64>> {
        (self.attribute == Attribute::Shape).then(|| {
            let rng = &mut self.rng(1);
            let tilt = rng.random_range(0.0..2.0);
            let strength = |k: usize| rng.random_range(0.0..1.0) / (k as f64).powf(tilt);
            (1..=PARTIALS).map(strength).collect()
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
/// An item can lose what no row states of it, provided that what it keeps tells which sound is its own.
pub fn draw(draft: &UnitDraft, percent: u32, rng: &mut impl Rng) -> Vec<Option<Unnamed>> {
    let stated = |look: Look| {
        let rows = draft.clips.iter().flat_map(|clip| &clip.rows);
        rows.into_iter().any(|row| row.meaning.looks.contains(&look))
    };
    let mut drawn: Vec<Option<Unnamed>> = Vec::new();
    for item in &draft.items {
        let Class { shape, surface } = item.class;
        // Another modulation is told from all that have names; another spectrum is not.
        let alike = |(other, given): (&Item, &Option<Unnamed>)| {
            other.class.shape == shape && given.is_some_and(|given| given.keeps(Attribute::Shape))
        };
        let only_shape = !draft.items.iter().zip(&drawn).any(alike);
        let voices = draft.clips.iter().flat_map(|clip| &clip.voices);
        let classes = draft.items.iter().map(|item| item.class);
        let mut others = classes
            .chain(voices.map(|voice| voice.class))
            .filter(|class| *class != item.class);
        let only_surface = others.all(|class| class.surface != surface);

        let mut free = Vec::new();
        if only_surface && !stated(Look::Shape(shape)) {
            free.push(Attribute::Shape);
        }
        if only_shape && !stated(Look::Surface(surface)) {
            free.push(Attribute::Surface);
        }
        let (wanted, seed) = (rng.random_ratio(percent, 100), rng.random());
        let attribute = free.choose(rng).filter(|_| wanted);
        drawn.push(attribute.map(|&attribute| Unnamed { attribute, seed }));
    }
    drawn
}
