//! The scores of an evaluation. Fractions throughout, never NaN: what has no rows has no score.

use std::{collections::BTreeMap, time::Duration};

use super::{Differences, Modality, Protocol};
use crate::{
    data::Split,
    metrics::{NullScore, SeenScore},
    synth::RowKind,
};

/// What [`evaluate`](super::evaluate) found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// How predictions became scores.
    pub protocol: Protocol,
    /// The modality that was taken away.
    pub drop: Option<Modality>,
    /// Whether each clip had another one's sound.
    pub swap_audio: bool,
    /// Whether the data come with scene graphs, so are not Ref-AVS.
    pub synthetic: bool,
    /// Probability above which a pixel counts for J.
    pub threshold: f64,
    /// Probability above which a pixel counts for S.
    pub null_threshold: f64,
    /// Expressions in a batch of the protocol.
    pub batch_size: usize,
    /// One entry per split, in the order of the options.
    pub splits: Vec<SplitScore>,
    /// One entry per row, split by split in metadata order.
    pub rows: Vec<RowScore>,
    /// How long it took.
    pub time: Duration,
    /// What an earlier evaluation differs by, once [compared](Self::compare).
    pub differences: Option<Differences>,
}

/// Scores of one split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitScore {
    /// The split.
    pub split: Split,
    /// J and F of the rows that refer to something, if there are any.
    pub referred: Option<ReferredScore>,
    /// S of the rows that refer to nothing, if there are any. In `test_n` that is every row.
    pub null: Option<NullSplitScore>,
}

/// Scores of rows that refer to something.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferredScore {
    /// Region similarity by the protocol's batches.
    pub j: f64,
    /// F-measure by the protocol's batches.
    pub f: f64,
    /// Mean of both.
    pub jf: f64,
    /// Rows.
    pub n: usize,
    /// Mean IoU of the first frame over the rows whose object is seen there, if any is.
    pub j_frame0: Option<f64>,
    /// Mean J of rows of each kind, where scene graphs tell it.
    pub kinds: BTreeMap<RowKind, KindScore>,
    /// Twins, where scene graphs tell them.
    pub twins: Option<TwinScore>,
}

/// Score of rows that refer to nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct NullSplitScore {
    /// S by the protocol's batches. Lower is better.
    pub s: f64,
    /// Rows.
    pub n: usize,
    /// S with texts in lower case and without a final period; only of a plain evaluation by the official protocol.
    pub text_normalised: Option<f64>,
    /// S with another clip's sound; only of a plain evaluation by the official protocol, where there is another clip.
    pub audio_swapped: Option<f64>,
    /// Share of rows in which less than a thousandth of the pixels is found.
    pub empty: f64,
    /// What holds of rows of each kind, where scene graphs tell it.
    pub kinds: BTreeMap<RowKind, NullKindScore>,
}

/// Mean over rows of one kind that refer to something, each row as a batch of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KindScore {
    /// Mean J.
    pub j: f64,
    /// Rows.
    pub n: usize,
}

/// Means over rows of one kind that refer to nothing, each row as a batch of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NullKindScore {
    /// Mean S.
    pub s: f64,
    /// Share of rows in which less than a thousandth of the pixels is found.
    pub empty: f64,
    /// Rows.
    pub n: usize,
}

/// How often a text is understood with either of two sounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwinScore {
    /// Share of pairs of which both rows reach J ≥ 0.5.
    pub both_right: f64,
    /// Pairs of rows with the same frames and text, another sound, and another object.
    pub pairs: usize,
}

/// Mean of the seen and the unseen test split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixScore {
    /// Region similarity.
    pub j: f64,
    /// F-measure.
    pub f: f64,
    /// Mean of both.
    pub jf: f64,
}

/// Scores of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowScore {
    /// Its uid.
    pub uid: String,
    /// Its clip's key.
    pub key: String,
    /// Its clip, and its twin: what varies together.
    pub clips: String,
    /// Its object.
    pub fid: String,
    /// Its split.
    pub split: Split,
    /// What the model was asked.
    pub expression: String,
    /// What it is an example of, where a scene graph tells it.
    pub kind: Option<RowKind>,
    /// Mean IoU of its frames, if it refers to something.
    pub j: Option<f64>,
    /// Its F-measure, if it refers to something.
    pub f: Option<f64>,
    /// IoU of the first frame, if the object is seen there.
    pub j_frame0: Option<f64>,
    /// Its S, if it refers to nothing.
    pub s: Option<f64>,
    /// Mean over the frames of the probability that the object is there.
    pub presence: f64,
    /// Mean share of pixels predicted, at the threshold of J.
    pub area: f64,
}

/// A row of a pair of twins counts as right from this J on.
const RIGHT: f64 = 0.5;

/// A row that refers to nothing counts as empty where a smaller share of the pixels than this is found.
const EMPTY: f64 = 1e-3;

impl Evaluation {
    /// Scores of a split, if it was evaluated.
    pub fn split(&self, split: Split) -> Option<&SplitScore> {
        self.splits.iter().find(|score| score.split == split)
    }

    /// Mean of the seen and the unseen split, if both were evaluated and have rows.
    pub fn mix(&self) -> Option<MixScore> {
        let score = |split| self.split(split)?.referred.as_ref();
        let (seen, unseen) = (score(Split::TestS)?, score(Split::TestU)?);
        let mean = |pick: fn(&ReferredScore) -> f64| (pick(seen) + pick(unseen)) / 2.0;
        Some(MixScore {
            j: mean(|score| score.j),
            f: mean(|score| score.f),
            jf: mean(|score| score.jf),
        })
    }
}

impl ReferredScore {
    /// Joins the protocol's score with what single rows tell. `None` without rows.
    pub(super) fn new<'a>(
        score: &SeenScore,
        rows: &[RowScore],
        twins: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<Self> {
        if score.n == 0 {
            return None;
        }
        let first: Vec<f64> = rows.iter().filter_map(|row| row.j_frame0).collect();
        Some(Self {
            j: score.j,
            f: score.f,
            jf: score.jf,
            n: score.n,
            j_frame0: (!first.is_empty()).then(|| mean(&first)),
            kinds: kinds(rows, |row| row.j)
                .map(|(kind, values)| {
                    (
                        kind,
                        KindScore {
                            j: mean(&values),
                            n: values.len(),
                        },
                    )
                })
                .collect(),
            twins: twin_score(rows, twins),
        })
    }
}

impl NullSplitScore {
    /// `None` without rows.
    pub(super) fn new([plain, text, audio]: [NullScore; 3], rows: &[RowScore]) -> Option<Self> {
        if plain.n == 0 {
            return None;
        }
        // A variant that not every row could be asked in is no score of the split.
        let variant = |score: NullScore| (score.n == plain.n).then_some(score.s);
        Some(Self {
            s: plain.s,
            n: plain.n,
            text_normalised: variant(text),
            audio_swapped: variant(audio),
            empty: empty(&rows.iter().filter_map(|row| row.s).collect::<Vec<_>>()),
            kinds: kinds(rows, |row| row.s)
                .map(|(kind, values)| {
                    let score = NullKindScore {
                        s: mean(&values),
                        empty: empty(&values),
                        n: values.len(),
                    };
                    (kind, score)
                })
                .collect(),
        })
    }
}

/// The values of the rows of each kind that have one.
fn kinds(rows: &[RowScore], pick: fn(&RowScore) -> Option<f64>) -> impl Iterator<Item = (RowKind, Vec<f64>)> {
    let mut kinds: BTreeMap<RowKind, Vec<f64>> = BTreeMap::new();
    for (kind, value) in rows.iter().filter_map(|row| Some((row.kind?, pick(row)?))) {
        kinds.entry(kind).or_default().push(value);
    }
    kinds.into_iter()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The share of rows that are [`EMPTY`], given the S of each: the root of a share of pixels.
fn empty(s: &[f64]) -> f64 {
    s.iter().filter(|s| s.powi(2) < EMPTY).count() as f64 / s.len() as f64
}

fn twin_score<'a>(rows: &[RowScore], twins: impl Iterator<Item = (&'a str, &'a str)>) -> Option<TwinScore> {
    let mut clips: BTreeMap<&str, Vec<&RowScore>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.j.is_some()) {
        clips.entry(&row.key).or_default().push(row);
    }
    let (mut pairs, mut right) = (0, 0);
    for (key, twin) in twins {
        let (Some(own), Some(others)) = (clips.get(key), clips.get(twin)) else {
            continue;
        };
        for row in own {
            let same = |other: &&&RowScore| other.expression == row.expression && other.fid != row.fid;
            let Some(other) = others.iter().find(same) else {
                continue;
            };
            pairs += 1;
            right += usize::from(row.j >= Some(RIGHT) && other.j >= Some(RIGHT));
        }
    }
    (pairs > 0).then(|| TwinScore {
        both_right: right as f64 / pairs as f64,
        pairs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, fid: &str, expression: &str, j: Option<f64>) -> RowScore {
        RowScore {
            clips: key.into(),
            uid: String::new(),
            key: key.into(),
            fid: fid.into(),
            split: Split::Val,
            expression: expression.into(),
            kind: None,
            j,
            f: j,
            j_frame0: None,
            s: None,
            presence: 0.0,
            area: 0.0,
        }
    }

    #[test]
    fn a_pair_of_twins_is_right_if_both_rows_are() {
        let rows = [
            row("a", "1", "the loudest", Some(0.9)),
            row("a", "2", "the silent one", Some(0.9)),
            row("a", "3", "the star", Some(0.9)),
            row("b", "2", "the loudest", Some(0.5)),
            row("b", "1", "the silent one", Some(0.4)),
            row("b", "3", "the star", Some(0.9)), // the same object: no pair
            row("c", "1", "the loudest", Some(0.9)),
        ];
        let score = twin_score(&rows, [("a", "b"), ("c", "d")].into_iter()).unwrap();
        assert_eq!((score.both_right, score.pairs), (0.5, 2));
        assert_eq!(twin_score(&rows, [("c", "d")].into_iter()), None);
    }

    #[test]
    fn nulls_are_empty_below_a_thousandth_of_the_pixels() {
        let rows = [
            (0.0, RowKind::NullMuted),
            (0.0316, RowKind::NullMuted),
            (0.0317, RowKind::NullMuted),
            (0.5, RowKind::NullAbsent),
        ]
        .map(|(s, kind)| RowScore {
            kind: Some(kind),
            s: Some(s),
            ..row("a", "", "the loudest", None)
        });
        let null = |n| NullScore {
            s: 0.25,
            n,
            expressions: Vec::new(),
        };
        let score = NullSplitScore::new([4, 4, 3].map(null), &rows).unwrap();
        assert_eq!((score.s, score.empty, score.n), (0.25, 0.5, 4));
        assert_eq!((score.text_normalised, score.audio_swapped), (Some(0.25), None));
        let muted = score.kinds[&RowKind::NullMuted];
        assert!(
            (muted.s - 0.0211).abs() < 1e-9 && (muted.empty - 2.0 / 3.0).abs() < 1e-9,
            "{muted:?}"
        );
        assert_eq!(score.kinds[&RowKind::NullAbsent].empty, 0.0);
    }
}
