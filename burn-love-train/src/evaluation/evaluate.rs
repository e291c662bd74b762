//! The loop over rows: clip by clip, in metadata order.

use std::{collections::BTreeMap, time::Instant};

use burn::prelude::*;
use burn_love::love::{Sam2Love, Trainable};
use image::RgbImage;
use rayon::prelude::*;

use super::{
    EvalError, EvalOptions, Evaluation, NullSplitScore, Protocol, ReferredScore, RowScore, SplitScore,
    answers::{Answer, Asker, Variant, normalised, text},
    dump::dump,
    scenes::Scenes,
};
use crate::{
    config::Config,
    data::{RefAvs, Row, Split},
    features::ModelFeatures,
    inference::ready,
    metrics::{Official, OfficialNull, iou, label_256_colour, label_native},
    samples::Preparer,
    threads::receive,
};

/// Bytes of stack for a worker: models are large values, and without optimisation they are moved often.
const STACK: usize = 32 << 20;

/// Predicts and scores every row of the options' splits; `progress` is told (rows done, all rows).
///
/// Rows go in metadata order, since the official scores depend on the protocol's batches. Consecutive rows about one
/// clip share its frames' features. Rows that refer to nothing count for S, in whatever split they are, and the others
/// for J and F.
///
/// # Errors
/// If a file of a row cannot be used, a dump cannot be written, or sounds are to be swapped in a split of one clip.
pub fn evaluate<B: Backend>(
    model: &Sam2Love<B>,
    config: &Config,
    data: &RefAvs,
    options: &EvalOptions,
    device: &B::Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation, EvalError> {
    let start = Instant::now();
    if let Some(folder) = &options.dump {
        std::fs::create_dir_all(folder).map_err(EvalError::io(folder))?;
    }
    let model = ready(model);
    let cache = options.features.clone();
    let asker = Asker {
        features: cache.map(|cache| ModelFeatures::new(cache, &model, &Trainable::NOTHING, device)),
        model,
        preparer: Preparer::new(config)?,
        data,
        options,
        device,
    };
    let mut evaluation = Evaluation {
        differences: None,
        protocol: options.protocol,
        drop: options.drop,
        swap_audio: options.swap_audio,
        synthetic: false,
        threshold: config.eval.threshold,
        null_threshold: config.eval.null_threshold,
        batch_size: match options.protocol {
            Protocol::Official => config.eval.batch_size,
            Protocol::PerExpression => 1,
        },
        splits: Vec::new(),
        rows: Vec::new(),
        time: start.elapsed(),
    };
    let all: usize = options.splits.iter().map(|split| data.split(*split).len()).sum();
    progress(0, all);
    for split in &options.splits {
        let rows = data.split(*split);
        let scenes = Scenes::read(data, &rows);
        let mut judge = Judge::new(&evaluation);
        let clips: Vec<Clip<'_, '_>> = clips(&rows).collect();
        let answered = |clip: &Clip<'_, '_>, answered: Answered| -> Result<(), EvalError> {
            judge.clip(clip, &answered, options, &scenes)?;
            progress(evaluation.rows.len() + judge.rows.len(), all);
            Ok(())
        };
        answer_all(&asker, &rows, &clips, answered)?;
        evaluation.synthetic |= scenes.synthetic;
        let (score, rows) = judge.finish(*split, &scenes);
        evaluation.splits.push(score);
        evaluation.rows.extend(rows);
    }
    evaluation.time = start.elapsed();
    Ok(evaluation)
}

/// Consecutive rows about one clip.
struct Clip<'a, 'r> {
    rows: &'a [&'r Row],
    /// Index of the first one in the split.
    first: usize,
}

fn clips<'a, 'r>(rows: &'a [&'r Row]) -> impl Iterator<Item = Clip<'a, 'r>> {
    let mut first = 0;
    rows.chunk_by(|a, b| a.key() == b.key()).map(move |rows| {
        let clip = Clip { rows, first };
        first += rows.len();
        clip
    })
}

/// What the model answered about a clip, and what is right.
struct Answered {
    frames: usize,
    questions: Vec<(usize, Variant)>,
    answers: Vec<Answer>,
    /// `[T, H, W]` of each object that the rows refer to.
    labels: BTreeMap<String, Vec<bool>>,
}

impl Answered {
    /// The answer about a row, if it was asked in this way.
    fn get(&self, row: usize, variant: Variant) -> Option<&Answer> {
        let at = self
            .questions
            .iter()
            .position(|question| *question == (row, variant))?;
        Some(&self.answers[at])
    }
}

/// Answers all clips of a split, on as many threads as the options say, and hands them over in order.
fn answer_all<B: Backend>(
    asker: &Asker<'_, B>,
    split: &[&Row],
    clips: &[Clip<'_, '_>],
    mut answered: impl FnMut(&Clip<'_, '_>, Answered) -> Result<(), EvalError>,
) -> Result<(), EvalError> {
    let workers = asker.options.workers.min(clips.len());
    if workers <= 1 {
        return clips
            .iter()
            .try_for_each(|clip| answered(clip, answer(asker, split, clip)?));
    }
    std::thread::scope(|scope| {
        // Each worker takes every n-th clip and waits until its last result is taken: order without a heap of results.
        let results: Vec<_> = (0..workers)
            .map(|worker| {
                let (send, answers) = std::sync::mpsc::sync_channel(0);
                let asker = asker.clone();
                let work = move || {
                    for clip in clips.iter().skip(worker).step_by(workers) {
                        if send.send(answer(&asker, split, clip)).is_err() {
                            return; // another clip failed
                        }
                    }
                };
                std::thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, work)
                    .expect("a system that can start threads");
                answers
            })
            .collect();
        clips.iter().enumerate().try_for_each(|(i, clip)| {
            let result = receive(&results[i % workers]).expect("a worker answers all its clips");
            answered(clip, result?)
        })
    })
}

/// Asks about the rows of one clip.
fn answer<B: Backend>(
    asker: &Asker<'_, B>,
    split: &[&Row],
    clip: &Clip<'_, '_>,
) -> Result<Answered, EvalError> {
    let files = asker.data.frame_files(clip.rows[0])?;
    let frames = files.frames()?;
    let other = other_clip(split, clip.first);
    let mut questions = Vec::new();
    for (i, row) in clip.rows.iter().enumerate() {
        questions.push((i, Variant::AsIs));
        if is_plain(asker.options) && refers_to_nothing(row) {
            if normalised(&row.expression) != row.expression {
                questions.push((i, Variant::TextNormalised));
            }
            if other.is_some() {
                questions.push((i, Variant::AudioSwapped));
            }
        }
    }
    Ok(Answered {
        frames: frames.len(),
        answers: asker.ask(clip.rows, &files, &frames, &questions, other)?,
        questions,
        labels: labels(asker, clip.rows, &frames)?,
    })
}

/// The labels of each object that the rows refer to.
fn labels<B: Backend>(
    asker: &Asker<'_, B>,
    rows: &[&Row],
    frames: &[RgbImage],
) -> Result<BTreeMap<String, Vec<bool>>, EvalError> {
    let (data, size) = (asker.data, frames[0].dimensions());
    let mut labels = BTreeMap::new();
    for row in rows.iter().filter(|row| !refers_to_nothing(row)) {
        if labels.contains_key(&row.fid) {
            continue;
        }
        let label = (0..frames.len())
            .into_par_iter()
            .map(|t| match asker.options.protocol {
                Protocol::Official => Ok(label_256_colour(&data.mask_image(row, t, size)?)),
                Protocol::PerExpression => Ok(label_native(&data.mask(row, t, size)?)),
            })
            .collect::<Result<Vec<_>, EvalError>>()?;
        labels.insert(row.fid.clone(), label.concat());
    }
    Ok(labels)
}

/// Scores one split.
struct Judge {
    threshold: f32,
    official: Official,
    nulls: [OfficialNull; 3],
    rows: Vec<RowScore>,
}

impl Judge {
    fn new(evaluation: &Evaluation) -> Self {
        let null = || {
            OfficialNull::with_batch(evaluation.batch_size).with_threshold(evaluation.null_threshold as f32)
        };
        Self {
            threshold: evaluation.threshold as f32,
            official: Official::with_batch(evaluation.batch_size).with_threshold(evaluation.threshold as f32),
            nulls: [null(), null(), null()],
            rows: Vec::new(),
        }
    }

    /// Scores the rows of one clip.
    fn clip(
        &mut self,
        clip: &Clip<'_, '_>,
        answered: &Answered,
        options: &EvalOptions,
        scenes: &Scenes,
    ) -> Result<(), EvalError> {
        for (i, row) in clip.rows.iter().enumerate() {
            let as_is = answered.get(i, Variant::AsIs).expect("every row is asked about");
            if let Some(folder) = &options.dump {
                let probability = as_is.dumped.as_ref().unwrap_or(&as_is.probability);
                dump(folder, &row.uid, probability, &as_is.presence)?;
            }
            let mut score = self.row(row, as_is, text(options, row, Variant::AsIs), scenes);
            if refers_to_nothing(row) {
                score.s = Some(self.nulls[0].push(&as_is.probability));
                if is_plain(options) {
                    let same = answered.get(i, Variant::TextNormalised).unwrap_or(as_is);
                    self.nulls[1].push(&same.probability);
                }
                if let Some(swapped) = answered.get(i, Variant::AudioSwapped) {
                    self.nulls[2].push(&swapped.probability);
                }
            } else {
                let label = &answered.labels[&row.fid];
                let own = self.official.push(&as_is.probability, label, answered.frames);
                (score.j, score.f) = (Some(own.j), Some(own.f));
                let pixels = label.len() / answered.frames;
                if label[..pixels].contains(&true) {
                    let predicted = as_is.probability[..pixels].iter().map(|p| *p > self.threshold);
                    score.j_frame0 = Some(iou(&predicted.collect::<Vec<_>>(), &label[..pixels]));
                }
            }
            self.rows.push(score);
        }
        Ok(())
    }

    fn row(&self, row: &Row, answer: &Answer, expression: String, scenes: &Scenes) -> RowScore {
        let predicted = answer.probability.iter().filter(|p| **p > self.threshold).count();
        let presence: f64 = answer.presence.iter().map(|p| f64::from(*p)).sum();
        RowScore {
            uid: row.uid.clone(),
            key: row.key().into(),
            clips: scenes.clips(row).into(),
            fid: row.fid.clone(),
            split: row.split,
            expression,
            kind: scenes.kind(row),
            j: None,
            f: None,
            j_frame0: None,
            s: None,
            presence: presence / answer.presence.len() as f64,
            area: predicted as f64 / answer.probability.len() as f64,
        }
    }

    fn finish(self, split: Split, scenes: &Scenes) -> (SplitScore, Vec<RowScore>) {
        let score = SplitScore {
            split,
            referred: ReferredScore::new(&self.official.finish(), &self.rows, scenes.twins()),
            null: NullSplitScore::new(self.nulls.map(OfficialNull::finish), &self.rows),
        };
        (score, self.rows)
    }
}

/// Whether null rows are asked about in all three ways.
fn is_plain(options: &EvalOptions) -> bool {
    options.protocol == Protocol::Official && options.drop.is_none() && !options.swap_audio
}

/// Every row of `test_n` does, whatever its key.
fn refers_to_nothing(row: &Row) -> bool {
    row.split == Split::TestN || row.is_null()
}

/// The next row of the split with other media, from which a sound can be taken.
fn other_clip<'r>(rows: &[&'r Row], first: usize) -> Option<&'r Row> {
    let own = rows[first];
    let others = rows[first..].iter().chain(&rows[..first]);
    let mut others = others.filter(|row| row.key() != own.key() && row.vid != own.vid);
    others.next().copied()
}
