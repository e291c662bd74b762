//! Nulls made in training: rows that speak of a sound are heard without any, or with another clip's, and show nothing.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{config::TrainConfig, data::Row};

/// Beginnings of words that state a sound. Sounds that are seen as well ("playing", "singing") are none of them.
const SOUNDS: [&str; 6] = ["sound", "loud", "quiet", "nois", "audib", "heard"];
/// Words that deny what they speak of, besides those that end with "n't".
const DENIALS: [&str; 6] = ["no", "not", "without", "silent", "silence", "never"];

/// How a row is deprived of the sound that it speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deprived<'a> {
    /// It is heard without any.
    Muted,
    /// It is heard with this row's.
    Swapped(&'a Row),
}

/// Which rows become nulls in training.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SyntheticNulls {
    /// Share of the rows that speak of a sound to be heard without any.
    pub muted: f64,
    /// Share of them to be heard with the sound of another clip.
    pub swapped: f64,
}

impl SyntheticNulls {
    /// Those of a config.
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            muted: config.muted_nulls,
            swapped: config.swapped_nulls,
        }
    }

    /// What becomes of a row, drawn anew each time; `others` have the sounds to swap with.
    pub(super) fn draw<'a>(self, row: &Row, others: &'a [Row], rng: &mut ChaCha8Rng) -> Option<Deprived<'a>> {
        if self == Self::default() || row.is_null() || !speaks_of_sound(&row.expression) {
            return None;
        }
        let lot = rng.random_range(0.0..1.0);
        if lot < self.muted {
            return Some(Deprived::Muted);
        }
        if lot >= self.muted + self.swapped {
            return None;
        }
        // Any other clip will do; a few tries find one unless nearly all rows are of this one.
        let other = (0..20).find_map(|_| others.choose(rng).filter(|other| other.vid != row.vid));
        other.map(Deprived::Swapped)
    }
}

/// Whether an expression states a sound, so that it names nothing where that is not heard.
fn speaks_of_sound(expression: &str) -> bool {
    let words = expression.to_lowercase();
    let words = words.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
    let mut stated = false;
    for word in words {
        if DENIALS.contains(&word) || word.ends_with("n't") || word.ends_with("n’t") {
            return false;
        }
        stated |= SOUNDS.iter().any(|sound| word.starts_with(sound));
    }
    stated
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::data::Split;

    fn row(vid: &str, expression: &str) -> Row {
        Row {
            vid: vid.into(),
            uid: format!("{vid}_thing_1"),
            split: Split::Train,
            fid: "1".into(),
            expression: expression.into(),
        }
    }

    #[test]
    fn expressions_that_state_a_sound() {
        for said in [
            "The object making the loudest sound.",
            "the sounding star",
            "the first object to make a sound",
            "the quietest thing",
        ] {
            assert!(speaks_of_sound(said), "{said}");
        }
        for other in [
            "the tabla making no sound",
            "the instrument that didn't make any sound",
            "the silent star",
            "the man playing the guitar",
            "the drum behind the man in red clothes",
        ] {
            assert!(!speaks_of_sound(other), "{other}");
        }
    }

    #[test]
    fn so_many_rows_become_nulls() {
        let nulls = SyntheticNulls {
            muted: 0.1,
            swapped: 0.2,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let rows = [row("a", "the sounding star"), row("b", "the red star")];
        let mut counts = [0; 2];
        for _ in 0..2000 {
            match nulls.draw(&rows[0], &rows, &mut rng) {
                Some(Deprived::Muted) => counts[0] += 1,
                Some(Deprived::Swapped(other)) => {
                    assert_eq!(other.vid, "b");
                    counts[1] += 1;
                }
                None => {}
            }
            assert_eq!(nulls.draw(&rows[1], &rows, &mut rng), None);
        }
        assert!(
            (150..250).contains(&counts[0]) && (340..460).contains(&counts[1]),
            "{counts:?}"
        );
        // With no other clip there is nothing to swap with.
        let swapped = SyntheticNulls {
            muted: 0.0,
            swapped: 1.0,
        };
        assert_eq!(swapped.draw(&rows[0], &rows[..1], &mut rng), None);
        assert_eq!(SyntheticNulls::default().draw(&rows[0], &rows, &mut rng), None);
    }
}
