//! The sounds that a batch hears: of a clip, or of two together, so that there are more mixtures than clips.

use burn_love::preprocess::{SAMPLE_RATE, Waveform};
use rand::{Rng, seq::IndexedRandom};

use super::super::scenes::Scene;
use crate::synth::{SECONDS, Voice};

/// The share of clips that are heard together with another one in training.
const MIXED: f64 = 0.5;
/// How much louder or softer the other one is: between two of a scene's levels, so that voices stay apart.
const APART_DB: f64 = 4.0;

/// A clip's sound, and what is heard with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sound<'a> {
    scene: &'a Scene,
    other: Option<Other<'a>>,
}

/// Another clip's sound.
#[derive(Debug, Clone, Copy)]
struct Other<'a> {
    scene: &'a Scene,
    /// Seconds that it begins later; what is cut off at the end comes first.
    turned: u32,
    gain_db: f64,
}

impl<'a> Sound<'a> {
    /// A clip by itself.
    pub fn plain(scene: &'a Scene) -> Self {
        Self { scene, other: None }
    }

    /// Lets another clip be heard as well, now and then.
    pub fn mix(&mut self, others: &'a [Scene], rng: &mut impl Rng) {
        if rng.random_bool(MIXED) {
            let other = others
                .choose(rng)
                .filter(|other| !std::ptr::eq(*other, self.scene));
            self.other = other.map(|scene| Other {
                scene,
                turned: rng.random_range(0..SECONDS),
                gain_db: if rng.random() { APART_DB } else { -APART_DB },
            });
        }
    }

    /// What is heard, given how to read the sound of a clip.
    pub fn waveform<E>(&self, read: impl Fn(&Scene) -> Result<Waveform, E>) -> Result<Waveform, E> {
        let own = read(self.scene)?;
        Ok(match self.other {
            Some(other) => together(own, read(other.scene)?, other.turned, other.gain_db),
            None => own,
        })
    }

    /// All voices as they are heard.
    pub fn voices(&self) -> Vec<Voice> {
        let mut voices = self.scene.graph.voices();
        if let Some(other) = self.other {
            let more = other.scene.graph.voices().into_iter();
            voices.extend(more.map(|voice| moved(voice, other.turned, other.gain_db)));
        }
        voices
    }
}

/// A voice that begins later and is louder or softer.
fn moved(voice: Voice, by: u32, gain_db: f64) -> Voice {
    Voice {
        level_dbfs: voice.level_dbfs + gain_db,
        intervals: voice.intervals.iter().flat_map(|one| turned(*one, by)).collect(),
        ..voice
    }
}

/// An interval of whole seconds that begins later; where the clip ends within, the rest comes first.
fn turned([from, to]: [u32; 2], by: u32) -> Vec<[u32; 2]> {
    let (from, to) = (from + by, to + by);
    match (from >= SECONDS, to > SECONDS) {
        (true, _) => vec![[from - SECONDS, to - SECONDS]],
        (false, true) => vec![[0, to - SECONDS], [from, SECONDS]],
        (false, false) => vec![[from, to]],
    }
}

/// A sound with another one, as long as a clip, that begins later and is louder or softer.
fn together(mut own: Waveform, other: Waveform, by: u32, gain_db: f64) -> Waveform {
    let gain = 10f64.powf(gain_db / 20.0) as f32;
    let mut other = other.samples;
    // Files may be a little short.
    other.resize((SECONDS * SAMPLE_RATE) as usize, 0.0);
    other.rotate_right((by * SAMPLE_RATE) as usize);
    own.samples.resize(other.len(), 0.0);
    own.samples
        .iter_mut()
        .zip(other)
        .for_each(|(own, other)| *own += gain * other);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::synth::{Class, Shape, Surface};

    #[test]
    fn another_clips_voices_come_later_and_softer_or_louder() {
        assert_eq!(turned([2, 5], 0), [[2, 5]]);
        assert_eq!(turned([2, 5], 5), [[7, 10]]);
        assert_eq!(turned([2, 5], 6), [[0, 1], [8, 10]]);
        assert_eq!(turned([2, 5], 8), [[0, 3]]);
        assert_eq!(turned([0, 10], 3), [[0, 3], [3, 10]]);
        let voice = Voice {
            class: Class {
                shape: Shape::Disc,
                surface: Surface::Plain,
            },
            unnamed: None,
            level_dbfs: -12.0,
            pitch_hz: 300.0,
            intervals: vec![[1, 2], [8, 10]],
        };
        let moved = moved(voice, 3, -APART_DB);
        assert_eq!(
            (moved.level_dbfs, &*moved.intervals),
            (-16.0, &[[4, 5], [1, 3]][..])
        );
    }

    #[test]
    fn another_sound_is_turned_and_softer_or_louder() {
        let second = SAMPLE_RATE as usize;
        let all = SECONDS as usize * second;
        let beep = |at: usize| {
            let mut samples = vec![0.0; all];
            samples[at * second..(at + 1) * second].fill(1.0);
            Waveform { samples }
        };
        // The other one, a little short, is heard in its ninth second: two seconds later, that is the first.
        let mut other = beep(8);
        other.samples.truncate(all - second / 4);
        let heard = together(beep(0), other, 2, -20.0).samples;
        assert_eq!(heard.len(), all);
        let close =
            |found: f32, expected: f32| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        close(heard[second / 2], 1.1);
        close(heard[second + second / 2], 0.0);
    }
}
