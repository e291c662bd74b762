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
    /// Mean S of rows of each kind, where scene graphs tell it.
    pub kinds: BTreeMap<RowKind, KindScore>,
}

/// Mean over rows of one kind, each row as a batch of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KindScore {
    /// Mean J, or mean S of rows that refer to nothing.
    pub mean: f64,
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
            j_frame0: (!first.is_empty()).then(|| first.iter().sum::<f64>() / first.len() as f64),
            kinds: kinds(rows, |row| row.j),
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
            kinds: kinds(rows, |row| row.s),
        })
    }
}

fn kinds(rows: &[RowScore], pick: fn(&RowScore) -> Option<f64>) -> BTreeMap<RowKind, KindScore> {
    let mut kinds: BTreeMap<RowKind, KindScore> = BTreeMap::new();
    for (kind, value) in rows.iter().filter_map(|row| Some((row.kind?, pick(row)?))) {
        let score = kinds.entry(kind).or_default();
        score.mean += value;
        score.n += 1;
    }
    for score in kinds.values_mut() {
        score.mean /= score.n as f64;
    }
    kinds
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
}
