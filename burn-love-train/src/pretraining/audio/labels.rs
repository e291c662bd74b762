//! What an example of a sound lets hear.

use super::super::classes::{class_columns, never_with};
use crate::synth::{LEVELS, Shape, Surface, Voice};

/// Seconds from one example to the next.
const HOP: f64 = 0.96;
/// Seconds that an example hears.
const LENGTH: f64 = 0.975;

/// Timbres, then modulations.
pub(super) const ATTRIBUTES: usize = Shape::ALL.len() + Surface::ALL.len();

/// What one example lets hear.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AudioLabels {
    /// For each timbre and modulation the share of the example in which it sounds.
    pub presence: Vec<f32>,
    /// For each of them 0 in silence, ½ at the lowest of [`LEVELS`], 1 at the highest and above, the others between.
    pub level: Vec<f32>,
    /// 0 for each that training never lets hear together with the other attribute of a voice that sounds, 1 for the rest.
    pub choices: Vec<f32>,
    /// Voices that sound, the loudest first, where all sound (almost) all the time or (almost) never.
    pub ranked: Vec<Ranked>,
}

/// What is to be told of a voice.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ranked {
    /// Timbre and modulation; none for what has no name.
    pub columns: [Option<usize>; 2],
    /// 0 for each timbre that training never lets hear with its modulation, and the other way round; 1 for the rest.
    pub choices: Vec<f32>,
}

impl AudioLabels {
    /// Labels of example `i` of a clip with these voices.
    pub fn new(voices: &[Voice], i: usize) -> Self {
        let start = i as f64 * HOP;
        let share = |voice: &Voice| -> f64 {
            let overlap = |[from, to]: &[u32; 2]| {
                (f64::from(*to).min(start + LENGTH) - f64::from(*from).max(start)).max(0.0)
            };
            voice.intervals.iter().map(overlap).sum::<f64>() / LENGTH
        };
        let mut heard: Vec<Heard> = voices
            .iter()
            .map(|voice| Heard::new(share(voice), voice.clone()))
            .collect();
        heard.sort_by(|a, b| b.voice.level_dbfs.total_cmp(&a.voice.level_dbfs));
        let [mut presence, mut level] = [(); 2].map(|()| vec![0.0f32; ATTRIBUTES]);
        let mut choices = vec![1.0; ATTRIBUTES];
        for one in heard.iter().filter(|one| one.share > 0.0) {
            let [most, _, least] = LEVELS;
            let loudness = (0.5 + 0.5 * (one.voice.level_dbfs - least) / (most - least)).clamp(0.0, 1.0);
            let [timbre, modulation] = one.columns;
            let modulation = modulation.map(|column| Shape::ALL.len() + column);
            for column in timbre.into_iter().chain(modulation) {
                presence[column] = presence[column].max(one.share as f32);
                level[column] = level[column].max((one.share * loudness) as f32);
            }
            one.never().for_each(|column| choices[column] = 0.0);
        }
        let clear = heard.iter().all(|one| !(0.1..0.9).contains(&one.share));
        let sounding = heard.iter().filter(|one| clear && one.share >= 0.9);
        Self {
            presence,
            level,
            choices,
            ranked: sounding.map(Heard::ranked).collect(),
        }
    }
}

/// A voice in an example.
struct Heard {
    voice: Voice,
    /// The share of the example in which it sounds.
    share: f64,
    /// Timbre and modulation, but for what has no name.
    pub columns: [Option<usize>; 2],
}

impl Heard {
    fn new(share: f64, voice: Voice) -> Self {
        Self {
            share,
            columns: class_columns(voice.class, voice.unnamed),
            voice,
        }
    }

    fn ranked(&self) -> Ranked {
        let mut choices = vec![1.0; ATTRIBUTES];
        self.never().for_each(|column| choices[column] = 0.0);
        Ranked {
            columns: self.columns,
            choices,
        }
    }

    /// Timbres, then modulations, that training never lets hear together with its own.
    fn never(&self) -> impl Iterator<Item = usize> {
        never_with(self.voice.class, self.voice.unnamed, Shape::ALL.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{Attribute, Class, Unnamed};

    fn voice(class: Class, level_dbfs: f64, interval: [u32; 2]) -> Voice {
        Voice {
            class,
            unnamed: None,
            level_dbfs,
            pitch_hz: 300.0,
            intervals: vec![interval],
        }
    }

    const SQUARE: Class = Class {
        shape: Shape::Square,
        surface: Surface::Checker,
    };
    const DISC: Class = Class {
        shape: Shape::Disc,
        surface: Surface::Plain,
    };

    #[test]
    fn labels_are_what_the_voices_do_in_the_example() {
        let sounds = [voice(SQUARE, -28.0, [0, 4]), voice(DISC, -12.0, [2, 10])];
        let columns =
            |labels: &AudioLabels| -> Vec<_> { labels.ranked.iter().map(|voice| voice.columns).collect() };
        let (square, disc) = ([Some(1), Some(3)], [Some(0), Some(0)]);
        // 0 to 0.975 s: the first voice alone, at the lowest level.
        let first = AudioLabels::new(&sounds, 0);
        assert_eq!(columns(&first), [square]);
        assert_eq!(first.presence, [0., 1., 0., 0., 0., 0., 0., 0., 0., 1.]);
        assert_eq!(first.level, [0., 0.5, 0., 0., 0., 0., 0., 0., 0., 0.5]);
        // 1.92 to 2.895 s: both, the second louder.
        let third = AudioLabels::new(&sounds, 2);
        assert_eq!(columns(&third), [disc, square]);
        assert!((third.level[0] - 0.895 / 0.975).abs() < 1e-6);
        // As another clip's, a voice may be louder or softer than any of its own clip.
        let other = [voice(SQUARE, -32.0, [0, 4]), voice(DISC, -8.0, [2, 10])];
        assert_eq!(AudioLabels::new(&other, 0).level[1], 0.375);
        assert_eq!(AudioLabels::new(&other, 5).level[0], 1.0);
        // 3.84 to 4.815 s: the first ends in it, so it is not clear.
        let fifth = AudioLabels::new(&sounds, 4);
        assert_eq!(columns(&fifth), [[None; 2]; 0]);
        assert!((fifth.presence[1] - 0.16 / 0.975).abs() < 1e-6);
    }

    #[test]
    fn what_never_goes_together_is_no_choice_and_what_has_no_name_no_label() {
        let never = |columns: &[usize]| -> Vec<f32> {
            let choice = |column| f32::from(u8::from(!columns.contains(&column)));
            (0..ATTRIBUTES).map(choice).collect()
        };
        // Held out: checkered discs and stars, dotted squares, plain rings. The disc begins within the example.
        let both = AudioLabels::new(&[voice(SQUARE, -12.0, [0, 10]), voice(DISC, -20.0, [4, 10])], 4);
        assert_eq!(both.choices, never(&[0, 3, 4, 6 + 2, 6 + 3]));
        assert!((both.presence[0] - 0.815 / 0.975).abs() < 1e-6);
        let both = AudioLabels::new(&[voice(SQUARE, -12.0, [0, 10]), voice(DISC, -20.0, [4, 10])], 6);
        assert_eq!(both.ranked[0].choices, never(&[0, 3, 6 + 2]));
        assert_eq!(both.ranked[1].choices, never(&[4, 6 + 3]));

        let mut sound = voice(SQUARE, -12.0, [0, 10]);
        sound.unnamed = Some(Unnamed {
            attribute: Attribute::Surface,
            seed: 0,
        });
        let one = AudioLabels::new(&[sound], 4);
        assert_eq!(one.presence, never(&[0, 2, 3, 4, 5, 6, 7, 8, 9]));
        assert_eq!(one.presence, one.level);
        assert_eq!(one.ranked[0].columns, [Some(1), None]);
        assert_eq!(one.ranked[0].choices, never(&[6 + 2]));
    }
}
