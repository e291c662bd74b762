//! A scene as symbols: what is there, what sounds when, and what an expression refers to.

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use serde::{Deserialize, Serialize};

use super::{
    class::{Class, Colour, Shape, Surface},
    language::{Hear, Look, Meaning},
};

/// Seconds of a clip, and frames.
pub const SECONDS: u32 = 10;

/// By how many seconds the longest and the shortest sound stand out.
pub const DURATION_MARGIN: u32 = 3;

/// By how many seconds the first and the last sound stand out.
pub const ONSET_MARGIN: u32 = 2;

/// Levels of sounding objects, in dBFS (RMS while they sound).
pub const LEVELS: [f64; 3] = [-12.0, -20.0, -28.0];

/// Range of pitches, in Hz.
pub const PITCHES: std::ops::Range<f64> = 200.0..900.0;

/// How many objects sound at the same time, at most.
pub const AT_ONCE: usize = 2;

/// The visible side of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Shape and surface.
    #[serde(flatten)]
    pub class: Class,
    /// Colour.
    pub colour: Colour,
}

/// The audible side of an object: it belongs to whatever in the frames looks like it sounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Voice {
    /// Spectrum (shape) and modulation (surface).
    #[serde(flatten)]
    pub class: Class,
    /// RMS level while sounding, in dBFS.
    pub level_dbfs: f64,
    /// Pitch, in Hz.
    pub pitch_hz: f64,
    /// When it sounds: start and end, in whole seconds, in order.
    pub intervals: Vec<[u32; 2]>,
}

impl Voice {
    /// Seconds of sound.
    pub fn duration(&self) -> u32 {
        self.intervals.iter().map(|[start, end]| end - start).sum()
    }

    /// Whether it sounds in a second.
    pub fn sounds_in(&self, second: u32) -> bool {
        self.intervals.iter().any(|[start, end]| (*start..*end).contains(&second))
    }

    fn onset(&self) -> u32 {
        self.intervals.first().map_or(SECONDS, |[start, _]| *start)
    }
}

impl Item {
    /// Whether it looks like that.
    pub fn looks(&self, look: Look) -> bool {
        match look {
            Look::Shape(shape) => self.class.shape == shape,
            Look::Surface(surface) => self.class.surface == surface,
            Look::Colour(colour) => self.colour == colour,
        }
    }
}

/// The voice of an item, if it sounds.
pub fn voice_of<'a>(item: &Item, voices: &'a [Voice]) -> Option<&'a Voice> {
    voices.iter().find(|voice| voice.class == item.class)
}

/// The items (by index) that an expression refers to. Voices without an item to belong to are nobody's.
pub fn referents(meaning: &Meaning, items: &[Item], voices: &[Voice]) -> Vec<usize> {
    let own: Vec<Option<&Voice>> = items.iter().map(|item| voice_of(item, voices)).collect();
    let extreme = |score: &dyn Fn(&Voice) -> f64| {
        let best = own.iter().flatten().map(|voice| score(voice)).fold(f64::MIN, f64::max);
        own.iter().map(|voice| voice.is_some_and(|voice| score(voice) == best)).collect::<Vec<_>>()
    };
    let heard: Vec<bool> = match meaning.hear {
        None => vec![true; items.len()],
        Some(Hear::Sounding) => own.iter().map(Option::is_some).collect(),
        Some(Hear::Silent) => own.iter().map(Option::is_none).collect(),
        Some(Hear::Loudest) => extreme(&|voice| voice.level_dbfs),
        Some(Hear::Quietest) => extreme(&|voice| -voice.level_dbfs),
        Some(Hear::Longest) => extreme(&|voice| f64::from(voice.duration())),
        Some(Hear::Shortest) => extreme(&|voice| -f64::from(voice.duration())),
        Some(Hear::First) => extreme(&|voice| -f64::from(voice.onset())),
        Some(Hear::Last) => extreme(&|voice| f64::from(voice.onset())),
        Some(Hear::Throughout) => {
            own.iter().map(|voice| voice.is_some_and(|voice| voice.duration() == SECONDS)).collect()
        }
    };
    (0..items.len())
        .filter(|i| heard[*i] && meaning.looks.iter().all(|look| items[*i].looks(*look)))
        .collect()
}

/// The one item that an expression refers to, provided that every predicate is needed (without it at least two items
/// would be meant) and that what is to be heard stands out clearly.
pub fn minimal_referent(meaning: &Meaning, items: &[Item], voices: &[Voice]) -> Option<usize> {
    let &[target] = &referents(meaning, items, voices)[..] else { return None };
    let ambiguous = |weaker: &Meaning| referents(weaker, items, voices).len() >= 2;
    let looks_needed = (0..meaning.looks.len()).all(|dropped| {
        let mut weaker = meaning.clone();
        weaker.looks.remove(dropped);
        ambiguous(&weaker)
    });
    let hear_needed = meaning.hear.is_none() || ambiguous(&Meaning { hear: None, ..meaning.clone() });
    (looks_needed && hear_needed && stands_out(meaning.hear, items, voices)).then_some(target)
}

/// Whether the extreme that an expression asks for is clear.
fn stands_out(hear: Option<Hear>, items: &[Item], voices: &[Voice]) -> bool {
    let own: Vec<&Voice> = items.iter().filter_map(|item| voice_of(item, voices)).collect();
    let margin = |mut values: Vec<u32>, from_top: bool, margin: u32| {
        values.sort_unstable();
        if from_top {
            values.reverse();
        }
        values.len() >= 2 && values[0].abs_diff(values[1]) >= margin
    };
    let durations = || own.iter().map(|voice| voice.duration()).collect::<Vec<_>>();
    let onsets = || own.iter().map(|voice| voice.onset()).collect::<Vec<_>>();
    match hear {
        None | Some(Hear::Sounding | Hear::Silent) => true,
        Some(Hear::Loudest | Hear::Quietest) => own.len() >= 2,
        Some(Hear::Longest) => margin(durations(), true, DURATION_MARGIN),
        Some(Hear::Shortest) => margin(durations(), false, DURATION_MARGIN),
        Some(Hear::First) => margin(onsets(), false, ONSET_MARGIN),
        Some(Hear::Last) => margin(onsets(), true, ONSET_MARGIN),
        Some(Hear::Throughout) => {
            own.iter().all(|voice| matches!(SECONDS - voice.duration(), 0 | DURATION_MARGIN..))
        }
    }
}

/// Which classes a scene may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// Not the held-out ones.
    Seen,
    /// All, the held-out ones more often.
    Unseen,
}

/// `count` items of pairwise different classes that share many of their looks, so that single words are ambiguous.
pub fn random_items(count: usize, classes: Classes, rng: &mut impl Rng) -> Vec<Item> {
    loop {
        let few = |rng: &mut _, most: usize| Rng::random_range(rng, 2..=most.max(2));
        let (s, u, c) = (few(rng, count), few(rng, count), few(rng, count));
        let shapes: Vec<Shape> = Shape::ALL.choose_multiple(rng, s).copied().collect();
        let surfaces: Vec<Surface> = Surface::ALL.choose_multiple(rng, u).copied().collect();
        let colours: Vec<Colour> = Colour::ALL.choose_multiple(rng, c).copied().collect();
        let mut items: Vec<Item> = Vec::new();
        for _ in 0..20 * count {
            if items.len() == count {
                return items;
            }
            let pick = (shapes.choose(rng), surfaces.choose(rng), colours.choose(rng));
            let (Some(&shape), Some(&surface), Some(&colour)) = pick else { continue };
            let mut class = Class { shape, surface };
            if classes == Classes::Unseen && rng.random_bool(0.6) {
                class = Class::HELD_OUT.into_iter().find(|held_out| held_out.shape == shape).unwrap_or(class);
            }
            let allowed = classes == Classes::Unseen || !class.is_held_out();
            if allowed && items.iter().all(|item| item.class != class) {
                items.push(Item { class, colour });
            }
        }
    }
}

/// Sounds for `classes`, at most [`AT_ONCE`] at the same time, at different levels.
///
/// # Panics
/// For more classes than [`LEVELS`].
pub fn random_voices(classes: &[Class], rng: &mut impl Rng) -> Vec<Voice> {
    assert!(classes.len() <= LEVELS.len(), "at most {} objects of a scene sound", LEVELS.len());
    let mut levels = LEVELS;
    levels.shuffle(rng);
    let schedule = random_schedule(classes.len(), rng);
    classes
        .iter()
        .zip(levels)
        .zip(schedule)
        .map(|((class, level_dbfs), intervals)| {
            // Even steps are heard on a logarithmic scale.
            let pitch = rng.random_range(PITCHES.start.ln()..PITCHES.end.ln()).exp();
            Voice { class: *class, level_dbfs, pitch_hz: (pitch * 10.0).round() / 10.0, intervals }
        })
        .collect()
}

fn random_schedule(count: usize, rng: &mut impl Rng) -> Vec<Vec<[u32; 2]>> {
    for _ in 0..100 {
        let schedule: Vec<_> = (0..count).map(|_| random_intervals(rng)).collect();
        let together = |second: u32| {
            let sounds =
                |voice: &&Vec<[u32; 2]>| voice.iter().any(|[start, end]| (*start..*end).contains(&second));
            schedule.iter().filter(sounds).count()
        };
        if (0..SECONDS).all(|second| together(second) <= AT_ONCE) {
            return schedule;
        }
    }
    let each = SECONDS / count.max(1) as u32;
    (0..count as u32).map(|i| vec![[i * each, (i + 1) * each]]).collect()
}

fn random_intervals(rng: &mut impl Rng) -> Vec<[u32; 2]> {
    if rng.random_bool(0.2) {
        return vec![[0, SECONDS]];
    }
    let duration = rng.random_range(2..=7);
    let spare = SECONDS - duration;
    if duration >= 4 && rng.random_bool(0.3) {
        let first = rng.random_range(2..=duration - 2);
        let gap = rng.random_range(1..=spare);
        let start = rng.random_range(0..=spare - gap);
        let second = start + first + gap;
        return vec![[start, start + first], [second, second + duration - first]];
    }
    let start = rng.random_range(0..=spare);
    vec![[start, start + duration]]
}
