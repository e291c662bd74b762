//! 95 % intervals of scores and of differences between two evaluations, by a bootstrap over clips.
//!
//! Clips of each split are drawn with replacement, twins together, as often as there are; the scores of many such draws
//! say how far the score of other clips may lie. Each row counts as a batch of its own, so a mean may differ a little from
//! the protocol's score.

use std::{collections::BTreeMap, path::Path};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{EvalError, Evaluation, RowScore};
use crate::data::Split;

/// The file with a line for each row.
pub(super) const EXPRESSIONS: &str = "per_expression.csv";

/// Draws of clips.
const DRAWS: usize = 2000;

/// A score with what the bootstrap says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// A split's name or `mix`.
    pub split: &'static str,
    /// `JF` or `S`.
    pub score: &'static str,
    /// The mean over rows; of `mix`, over both splits.
    pub mean: f64,
    /// 2.5 % of draws lie below.
    pub low: f64,
    /// 2.5 % of draws lie above.
    pub high: f64,
}

/// How an evaluation differs from an earlier one, row by row: this one's scores less the other's.
#[derive(Debug, Clone, PartialEq)]
pub struct Differences {
    /// The earlier evaluation's folder.
    pub against: String,
    /// Rows that both have.
    pub rows: usize,
    /// The differences.
    pub intervals: Vec<Interval>,
}

/// A row's scores, or what two evaluations' scores differ by.
struct Sample<'a> {
    split: Split,
    clips: &'a str,
    jf: Option<f64>,
    s: Option<f64>,
}

/// Sums over the rows of some clips.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    jf: [f64; 2],
    s: [f64; 2],
}

impl Sums {
    fn add(&mut self, other: &Self) {
        for i in 0..2 {
            self.jf[i] += other.jf[i];
            self.s[i] += other.s[i];
        }
    }

    /// Means of J&F and of S; none without rows.
    fn means(self) -> [Option<f64>; 2] {
        [self.jf, self.s].map(|[sum, n]| (n > 0.0).then(|| sum / n))
    }
}

/// The scores that intervals are given for: split, score.
const MEASURES: [(&str, &str); 6] = [
    ("test_s", "JF"),
    ("test_u", "JF"),
    ("mix", "JF"),
    ("test_n", "S"),
    ("val", "JF"),
    ("train", "JF"),
];

/// The measures' values, given each split's sums.
fn measures(sums: &BTreeMap<Split, Sums>) -> [Option<f64>; MEASURES.len()] {
    let jf = |split| sums.get(&split).and_then(|sums| sums.means()[0]);
    let s = |split| sums.get(&split).and_then(|sums| sums.means()[1]);
    let (seen, unseen) = (jf(Split::TestS), jf(Split::TestU));
    let mix = seen.zip(unseen).map(|(seen, unseen)| (seen + unseen) / 2.0);
    [
        seen,
        unseen,
        mix,
        s(Split::TestN),
        jf(Split::Val),
        jf(Split::Train),
    ]
}

fn intervals<'a>(samples: impl Iterator<Item = Sample<'a>>) -> Vec<Interval> {
    let mut clips: BTreeMap<Split, BTreeMap<&str, Sums>> = BTreeMap::new();
    for sample in samples {
        let sums = clips
            .entry(sample.split)
            .or_default()
            .entry(sample.clips)
            .or_default();
        let one = |value: Option<f64>| value.map_or([0.0; 2], |value| [value, 1.0]);
        sums.add(&Sums {
            jf: one(sample.jf),
            s: one(sample.s),
        });
    }
    let clips: BTreeMap<Split, Vec<Sums>> = clips
        .into_iter()
        .map(|(split, clips)| (split, clips.into_values().collect()))
        .collect();
    let total = |clips: &mut dyn Iterator<Item = Sums>| {
        clips.fold(Sums::default(), |mut sum, clip| {
            sum.add(&clip);
            sum
        })
    };
    let all = clips
        .iter()
        .map(|(split, clips)| (*split, total(&mut clips.iter().copied())));
    let means = measures(&all.collect());
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut drawn: [Vec<f64>; MEASURES.len()] = Default::default();
    for _ in 0..DRAWS {
        let draw = clips.iter().map(|(split, clips)| {
            let mut some = (0..clips.len()).map(|_| clips[rng.random_range(0..clips.len())]);
            (*split, total(&mut some))
        });
        for (drawn, value) in drawn.iter_mut().zip(measures(&draw.collect())) {
            drawn.extend(value);
        }
    }
    let one = |(((split, score), mean), mut drawn): (((_, _), Option<f64>), Vec<f64>)| {
        drawn.sort_by(f64::total_cmp);
        let at = |share: f64| drawn[((drawn.len() - 1) as f64 * share).round() as usize];
        mean.map(|mean| Interval {
            split,
            score,
            mean,
            low: at(0.025),
            high: at(0.975),
        })
    };
    MEASURES
        .into_iter()
        .zip(means)
        .zip(drawn)
        .filter_map(one)
        .collect()
}

/// The mean of J and F of a row.
fn jf(row: &RowScore) -> Option<f64> {
    Some((row.j? + row.f?) / 2.0)
}

impl Evaluation {
    /// The scores' intervals.
    pub fn intervals(&self) -> Vec<Interval> {
        intervals(self.rows.iter().map(|row| Sample {
            split: row.split,
            clips: &row.clips,
            jf: jf(row),
            s: row.s,
        }))
    }

    /// Compares with an earlier evaluation of the same rows, in whose folder `per_expression.csv` lies.
    ///
    /// # Errors
    /// If the file cannot be read, or has no row of this evaluation.
    pub fn compare(&mut self, earlier: &Path) -> Result<(), EvalError> {
        let path = earlier.join(EXPRESSIONS);
        let own: Vec<ExpressionScore> = self.rows.iter().map(ExpressionScore::from).collect();
        let samples = differences(&own, &ExpressionScore::read(earlier)?);
        if samples.is_empty() {
            return Err(EvalError::Io {
                path,
                source: std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    "expected rows of this evaluation, found none of them",
                ),
            });
        }
        self.differences = Some(Differences {
            against: earlier.display().to_string(),
            rows: samples.len(),
            intervals: intervals(samples.into_iter()),
        });
        Ok(())
    }
}

/// What `per_expression.csv` tells of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpressionScore {
    /// Its uid.
    pub uid: String,
    /// Its split.
    pub split: Split,
    /// Its clip, and its twin: what varies together.
    pub clips: String,
    /// Mean of J and F, if it refers to something.
    pub jf: Option<f64>,
    /// Its S, if it refers to nothing.
    pub s: Option<f64>,
}

impl From<&RowScore> for ExpressionScore {
    fn from(row: &RowScore) -> Self {
        Self {
            uid: row.uid.clone(),
            split: row.split,
            clips: row.clips.clone(),
            jf: jf(row),
            s: row.s,
        }
    }
}

impl ExpressionScore {
    /// Those of an evaluation's folder.
    ///
    /// # Errors
    /// If its `per_expression.csv` cannot be read. Lines that name no row of a split are left out.
    pub fn read(folder: &Path) -> Result<Vec<Self>, EvalError> {
        let path = folder.join(EXPRESSIONS);
        let fail = |error: csv::Error| EvalError::Io {
            path: path.clone(),
            source: error.into(),
        };
        let mut reader = csv::Reader::from_path(&path).map_err(fail)?;
        let header = reader.headers().map_err(fail)?.clone();
        let columns = ["uid", "split", "clips", "J", "F", "S"]
            .map(|name| header.iter().position(|column| column == name));
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(fail)?;
            let [uid, split, clips, j, f, s] = columns.map(|column| record.get(column?));
            let value = |text: Option<&str>| text?.parse::<f64>().ok();
            if let (Some(uid), Some(Ok(split))) = (uid, split.map(str::parse)) {
                rows.push(Self {
                    uid: uid.to_owned(),
                    split,
                    // Files of before clips were told: each row by itself.
                    clips: clips.unwrap_or(uid).to_owned(),
                    jf: value(j).zip(value(f)).map(|(j, f)| (j + f) / 2.0),
                    s: value(s),
                });
            }
        }
        Ok(rows)
    }
}

/// Intervals of what evaluations of the same rows differ by, all pairs (own, base) together: of several trainings, say.
pub fn intervals_of_differences(pairs: &[(&[ExpressionScore], &[ExpressionScore])]) -> Vec<Interval> {
    intervals(pairs.iter().flat_map(|(own, base)| differences(own, base)))
}

/// What rows of an evaluation differ by from the same rows of another.
fn differences<'a>(own: &'a [ExpressionScore], base: &[ExpressionScore]) -> Vec<Sample<'a>> {
    let base: BTreeMap<&str, &ExpressionScore> = base.iter().map(|row| (&*row.uid, row)).collect();
    let difference = |own: Option<f64>, other: Option<f64>| Some(own? - other?);
    own.iter()
        .filter_map(|row| {
            let before = base.get(&*row.uid)?;
            Some(Sample {
                split: row.split,
                clips: &row.clips,
                jf: difference(row.jf, before.jf),
                s: difference(row.s, before.s),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[(Split, &'static str, f64)]) -> Vec<Interval> {
        intervals(values.iter().map(|(split, clips, value)| Sample {
            split: *split,
            clips,
            jf: (*split != Split::TestN).then_some(*value),
            s: (*split == Split::TestN).then_some(*value),
        }))
    }

    #[test]
    fn scores_that_do_not_vary_have_no_width() {
        let found = samples(&[
            (Split::TestS, "a", 0.5),
            (Split::TestS, "b", 0.5),
            (Split::TestU, "c", 0.25),
            (Split::TestN, "d", 0.125),
        ]);
        let all: Vec<_> = found
            .iter()
            .map(|i| (i.split, i.score, i.mean, i.low, i.high))
            .collect();
        assert_eq!(
            all,
            [
                ("test_s", "JF", 0.5, 0.5, 0.5),
                ("test_u", "JF", 0.25, 0.25, 0.25),
                ("mix", "JF", 0.375, 0.375, 0.375),
                ("test_n", "S", 0.125, 0.125, 0.125),
            ]
        );
    }

    #[test]
    fn trainings_are_compared_together_and_clips_drawn_with_all_their_rows() {
        let scores = |values: [f64; 3]| -> Vec<ExpressionScore> {
            ["a", "b", "c"]
                .into_iter()
                .zip(values)
                .map(|(name, jf)| ExpressionScore {
                    uid: name.into(),
                    split: Split::TestS,
                    clips: name.into(),
                    jf: Some(jf),
                    s: None,
                })
                .collect()
        };
        let base = scores([0.0, 0.0, 0.5]);
        let (first, second) = (scores([0.5, 0.25, 0.5]), scores([0.5, 0.75, 0.5]));
        // The last row of one training is not there: its clip still counts with the other's.
        let pairs = [(&first[..], &base[..]), (&second[..2], &base[..])];
        let found = intervals_of_differences(&pairs);
        assert_eq!(found.len(), 1);
        assert!((found[0].mean - 2.0 / 5.0).abs() < 1e-12, "{found:?}");
        // Of clips that were drawn three times alone, a and b have 0.5, c has 0.
        assert_eq!((found[0].low, found[0].high), (0.0, 0.5));
    }

    /// Of `n` independent rows with values 0 and 1, half each, the mean has a standard error of 0.5/√n; where ten rows
    /// share a clip, n is the number of clips.
    #[test]
    fn widths_are_those_of_the_clips() {
        let names: Vec<&'static str> = (0..400).map(|i| &*format!("clip {i}").leak()).collect();
        let width = |rows: usize| {
            let values: Vec<_> = (0..400)
                .map(|i| {
                    (
                        Split::TestS,
                        names[i / rows],
                        f64::from(u8::from((i / rows).is_multiple_of(2))),
                    )
                })
                .collect();
            let found = samples(&values);
            assert!((found[0].mean - 0.5).abs() < 1e-9);
            found[0].high - found[0].low
        };
        let expected = |n: f64| 2.0 * 1.96 * 0.5 / n.sqrt();
        assert!((width(1) / expected(400.0) - 1.0).abs() < 0.1, "{}", width(1));
        assert!((width(10) / expected(40.0) - 1.0).abs() < 0.15, "{}", width(10));
    }
}
