//! A scene as symbols: what is there, what sounds when, and what an expression refers to.

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use serde::{Deserialize, Serialize};

use super::{
    class::{Class, Colour, Shape, Surface},
    language::{Hear, Look, Meaning},
    unnamed::Unnamed,
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
    /// What it has instead of its spectrum or its modulation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnamed: Option<Unnamed>,
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
        self.intervals
            .iter()
            .any(|[start, end]| (*start..*end).contains(&second))
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

/// Sets of at most eight items, one bit each.
type Set = u8;

/// What there is to hear of some items: for each [`Hear`], who is heard so, and whether that is clear.
#[derive(Debug, Clone)]
pub struct Ears {
    everything: Set,
    heard: [(Set, bool); Hear::ALL.len()],
}

impl Ears {
    /// Listens. Voices without an item to belong to are nobody's.
    pub fn new(items: &[Item], voices: &[Voice]) -> Self {
        let everything = set(items, |_| true);
        let sounding = set(items, |item| voice_of(item, voices).is_some());
        let levels = Extremes::of(items, voices, |voice| -voice.level_dbfs as u32);
        let durations = Extremes::of(items, voices, Voice::duration);
        let onsets = Extremes::of(items, voices, Voice::onset);
        let whole = set(items, |item| {
            voice_of(item, voices).is_some_and(|v| v.duration() == SECONDS)
        });
        let near_whole = set(items, |item| {
            voice_of(item, voices).is_some_and(|v| (1..DURATION_MARGIN).contains(&(SECONDS - v.duration())))
        });
        let heard = Hear::ALL.map(|hear| match hear {
            Hear::Sounding => (sounding, true),
            Hear::Silent => (everything & !sounding, true),
            // Levels are attenuations here: the least is the loudest. Any two differ by more than 6 dB.
            Hear::Loudest => (levels.least, levels.least_gap > 0),
            Hear::Quietest => (levels.most, levels.most_gap > 0),
            Hear::Longest => (durations.most, durations.most_gap >= DURATION_MARGIN),
            Hear::Shortest => (durations.least, durations.least_gap >= DURATION_MARGIN),
            Hear::Throughout => (whole, near_whole == 0),
            Hear::First => (onsets.least, onsets.least_gap >= ONSET_MARGIN),
            Hear::Last => (onsets.most, onsets.most_gap >= ONSET_MARGIN),
        });
        Self { everything, heard }
    }

    fn heard(&self, hear: Option<Hear>) -> (Set, bool) {
        let position = |hear| Hear::ALL.iter().position(|known| *known == hear);
        hear.and_then(position)
            .map_or((self.everything, true), |i| self.heard[i])
    }

    /// The items that an expression refers to.
    pub fn referents(&self, meaning: &Meaning, items: &[Item]) -> Set {
        meaning
            .looks
            .iter()
            .fold(self.heard(meaning.hear).0, |all, look| {
                all & set(items, |item| item.looks(*look))
            })
    }

    /// The one item that an expression refers to, provided that every predicate is needed (without it at least two
    /// items would be meant) and that what is to be heard stands out clearly.
    pub fn minimal_referent(&self, meaning: &Meaning, items: &[Item]) -> Option<usize> {
        let (heard, clear) = self.heard(meaning.hear);
        let looks = |skipped: Option<usize>| {
            let kept = meaning
                .looks
                .iter()
                .enumerate()
                .filter(move |(i, _)| Some(*i) != skipped);
            kept.fold(self.everything, |all, (_, look)| {
                all & set(items, |item| item.looks(*look))
            })
        };
        let meant = looks(None) & heard;
        let ambiguous = |set: Set| set.count_ones() >= 2;
        let minimal = clear
            && meant.count_ones() == 1
            && (0..meaning.looks.len()).all(|i| ambiguous(looks(Some(i)) & heard))
            && (meaning.hear.is_none() || ambiguous(looks(None)));
        minimal.then_some(meant.trailing_zeros() as usize)
    }
}

/// Who has the least and the most of something, and by how much. The gaps are 0 unless two or more compete.
struct Extremes {
    least: Set,
    least_gap: u32,
    most: Set,
    most_gap: u32,
}

impl Extremes {
    fn of(items: &[Item], voices: &[Voice], score: impl Fn(&Voice) -> u32) -> Self {
        let own = |item: &Item| voice_of(item, voices).map(&score);
        let mut sorted: Vec<u32> = items.iter().filter_map(own).collect();
        sorted.sort_unstable();
        let who = |value: Option<&u32>| set(items, |item| value.is_some() && own(item) == value.copied());
        let gap = |a: usize, b: usize| sorted[a].abs_diff(sorted[b]);
        let (least_gap, most_gap) = match sorted.len() {
            ..=1 => (0, 0),
            n => (gap(0, 1), gap(n - 1, n - 2)),
        };
        Self {
            least: who(sorted.first()),
            least_gap,
            most: who(sorted.last()),
            most_gap,
        }
    }
}

fn set(items: &[Item], member: impl Fn(&Item) -> bool) -> Set {
    items
        .iter()
        .enumerate()
        .filter(|(_, item)| member(item))
        .fold(0, |set, (i, _)| set | 1 << i)
}

/// The items (by index) that an expression refers to. See [`Ears::referents`].
pub fn referents(meaning: &Meaning, items: &[Item], voices: &[Voice]) -> Vec<usize> {
    let meant = Ears::new(items, voices).referents(meaning, items);
    (0..items.len()).filter(|i| meant & 1 << i > 0).collect()
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
        let few = |rng: &mut _, most: usize| Rng::random_range(rng, 2..=most.clamp(2, 3));
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
            let (Some(&shape), Some(&surface), Some(&colour)) = pick else {
                continue;
            };
            let mut class = Class { shape, surface };
            if classes == Classes::Unseen && rng.random_bool(0.85) {
                class = Class::HELD_OUT
                    .into_iter()
                    .find(|held_out| held_out.shape == shape)
                    .unwrap_or(class);
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
    assert!(
        classes.len() <= LEVELS.len(),
        "at most {} objects of a scene sound",
        LEVELS.len()
    );
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
            Voice {
                class: *class,
                unnamed: None,
                level_dbfs,
                pitch_hz: (pitch * 10.0).round() / 10.0,
                intervals,
            }
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
    (0..count as u32)
        .map(|i| vec![[i * each, (i + 1) * each]])
        .collect()
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
