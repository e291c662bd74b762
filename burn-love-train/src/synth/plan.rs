//! What the clips of a split are to say: templates by their shares, twins and nulls.
//!
//! Positive and null rows use the same words equally often.

use rand::{Rng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use super::{
    SynthConfig,
    cast::{Cast, choose_cast},
    language::{Hear, Kind, Template},
    shares::{Shares, templates},
};
use crate::data::Split;

/// Share of null rows in train and val.
const NULL_SHARE: f64 = 0.12;

/// Share of clips that are twins.
const TWIN_SHARE: f64 = 0.4;

/// Why an expression refers to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullCause {
    /// Nothing in the frames looks like that.
    Absent,
    /// What looks like that does not sound (or keep silent) as stated.
    Silent,
    /// The sound was taken away.
    Muted,
    /// The sound is another clip's.
    Swapped,
}

impl NullCause {
    /// The letter in the key of null clips: `null_{letter}-…`.
    pub fn letter(self) -> char {
        match self {
            Self::Absent => 'a',
            Self::Silent => 's',
            Self::Muted => 'm',
            Self::Swapped => 'c',
        }
    }
}

/// One row that a unit must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Sorts of predicates.
    pub template: Template,
    /// `None` for rows that refer to an object.
    pub null: Option<NullCause>,
}

/// Clips that share their frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// One clip.
    Single(Vec<Demand>),
    /// Two clips with the same frames and text, whose rows refer to different objects.
    Twins(Vec<Demand>),
    /// A clip, and the same with its sound taken away or replaced: the first `nulls` rows of the clip refer to
    /// nothing there; its other rows are `seen`.
    Deprived {
        /// Rows of the whole clip.
        rows: Vec<Demand>,
        /// Muted or swapped.
        cause: NullCause,
        /// How many rows of the whole clip turn null.
        nulls: usize,
        /// Vision rows of the deprived clip.
        seen: Vec<Demand>,
    },
    /// A clip of the null split without its own sound; every row refers to nothing.
    Alone {
        /// All rows.
        rows: Vec<Demand>,
        /// Muted or swapped.
        cause: NullCause,
    },
}

impl Unit {
    /// Rows of the first clip.
    fn rows(&self) -> &[Demand] {
        match self {
            Self::Single(rows)
            | Self::Twins(rows)
            | Self::Deprived { rows, .. }
            | Self::Alone { rows, .. } => rows,
        }
    }

    /// How many clips the unit makes.
    pub fn clips(&self) -> usize {
        match self {
            Self::Single(_) | Self::Alone { .. } => 1,
            Self::Twins(_) | Self::Deprived { .. } => 2,
        }
    }
}

/// A unit with its cast and the index of its first clip in the split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPlan {
    /// Index of the first clip.
    pub first_clip: usize,
    /// Objects and sounds.
    pub cast: Cast,
    /// Rows.
    pub unit: Unit,
}

/// Whether a clip that has `rows` may have another one of `template`.
fn fits_beside(template: Template, rows: &[Demand]) -> bool {
    let same = rows.iter().filter(|row| row.template == template).count();
    // With a sound, two looks of the same sort would need more objects than there are.
    same < if template.hear.is_none() { 2 } else { 1 }
}

struct Planner<'a, R> {
    rng: &'a mut R,
    positive: Shares,
    absent: Shares,
    silent: Shares,
    deprived: Shares,
    rows: usize,
}

impl<'a, R: Rng> Planner<'a, R> {
    fn new(config: &SynthConfig, rng: &'a mut R) -> Self {
        let all = templates(config);
        Self {
            rng,
            positive: Shares::new(all.iter().copied()),
            absent: Shares::of_null(&all, NullCause::Absent),
            silent: Shares::of_null(&all, NullCause::Silent),
            deprived: Shares::of_null(&all, NullCause::Muted),
            rows: config.expressions_per_clip,
        }
    }

    fn fill(&mut self, rows: &mut Vec<Demand>, cast: Cast, count: usize, allowed: impl Fn(Template) -> bool) {
        for _ in 0..count {
            let fits = |t| allowed(t) && cast.affords(t) && fits_beside(t, rows);
            if let Some(template) = self.positive.draw(self.rng, fits) {
                rows.push(Demand { template, null: None });
            }
        }
    }

    /// A clip with null rows for the given causes, positive ones otherwise.
    fn single(&mut self, causes: &[NullCause]) -> (Cast, Unit) {
        let mut rows: Vec<Demand> = Vec::new();
        let mut cast = None;
        let silent = causes.iter().filter(|cause| **cause == NullCause::Silent).count();
        for cause in causes {
            let fits = |t: Template| {
                fits_beside(t, &rows) && cast.is_none_or(|cast: Cast| cast.affords_null(t, *cause))
            };
            let shares = if *cause == NullCause::Absent {
                &mut self.absent
            } else {
                &mut self.silent
            };
            let Some(template) = shares.draw(self.rng, fits) else {
                continue;
            };
            rows.push(Demand {
                template,
                null: Some(*cause),
            });
            // Later nulls of the clip must find room in the cast too.
            let afford = |cast: Cast| {
                let others = self
                    .silent
                    .templates()
                    .filter(|t| cast.affords_null(*t, NullCause::Silent));
                cast.affords_null(template, *cause) && others.count() >= silent
            };
            cast = Some(match cast {
                Some(cast) => cast,
                None => choose_cast(self.rng, afford),
            });
        }
        let cast = match cast {
            Some(cast) => cast,
            None => {
                let first = self.positive.draw(self.rng, |_| true);
                rows.extend(first.map(|template| Demand { template, null: None }));
                choose_cast(self.rng, |cast| first.is_none_or(|t| cast.affords(t)))
            }
        };
        let missing = self.rows.saturating_sub(rows.len());
        self.fill(&mut rows, cast, missing, |_| true);
        rows.shuffle(self.rng);
        (cast, Unit::Single(rows))
    }

    fn twins(&mut self) -> (Cast, Unit) {
        let first = self.positive.draw(self.rng, |t| t.hear.is_some());
        let mut rows: Vec<Demand> = first
            .map(|template| Demand { template, null: None })
            .into_iter()
            .collect();
        // Two objects leave too little to tell apart four times.
        let cast = choose_cast(self.rng, |cast| {
            cast.objects > 2 && first.is_none_or(|t| cast.affords(t))
        });
        let missing = self.rows.saturating_sub(rows.len());
        self.fill(&mut rows, cast, missing, |t| t.hear.is_some());
        // Each row stands in both clips.
        rows.iter().for_each(|row| self.positive.count(row.template));
        (cast, Unit::Twins(rows))
    }

    fn deprived(&mut self, cause: NullCause, most: usize) -> (Cast, Unit) {
        let mut rows: Vec<Demand> = Vec::new();
        let mut cast = Cast {
            objects: 4,
            sounding: 2,
        };
        for _ in 0..most {
            // "The sounding object" needs a scene with one sound, where no other such row has its place.
            let single_sound = |t: Template| t == Template::sound(Hear::Sounding);
            let fits = |t: Template| {
                (self.rows == 1 || single_sound(t) == (most == 1))
                    && fits_beside(t, &rows)
                    && (rows.is_empty() || cast.affords(t))
            };
            let Some(template) = self.deprived.draw(self.rng, fits) else {
                break;
            };
            if rows.is_empty() {
                cast = choose_cast(self.rng, |cast| cast.objects > 2 && cast.affords(template));
            }
            self.positive.count(template);
            rows.push(Demand { template, null: None });
        }
        let nulls = rows.len();
        let missing = self.rows.saturating_sub(nulls);
        self.fill(&mut rows, cast, missing, |_| true);
        let mut seen = Vec::new();
        self.fill(&mut seen, cast, missing, |t| t.hear.is_none());
        (
            cast,
            Unit::Deprived {
                rows,
                cause,
                nulls,
                seen,
            },
        )
    }

    fn alone(&mut self, cause: NullCause) -> (Cast, Unit) {
        let mut rows: Vec<Demand> = Vec::new();
        for _ in 0..self.rows {
            let fits = |t| fits_beside(t, &rows);
            let Some(template) = self.deprived.draw(self.rng, fits) else {
                break;
            };
            rows.push(Demand {
                template,
                null: Some(cause),
            });
        }
        (choose_cast(self.rng, |_| true), Unit::Alone { rows, cause })
    }
}

/// Plans the clips of a split.
pub fn plan(config: &SynthConfig, split: Split, rng: &mut impl Rng) -> Vec<UnitPlan> {
    let (clips, rows) = (config.clips(split), config.expressions_per_clip);
    let mut planner = Planner::new(config, rng);
    let units = match split {
        Split::TestN => null_split(&mut planner, clips),
        Split::TestS | Split::TestU => mixed_split(&mut planner, clips, 0),
        Split::Train | Split::Val => {
            let nulls = (NULL_SHARE * (clips * rows) as f64).round() as usize;
            mixed_split(&mut planner, clips, nulls)
        }
    };
    let mut first_clip = 0;
    let mut placed = Vec::new();
    for (cast, unit) in units {
        let count = unit.clips();
        placed.push(UnitPlan {
            first_clip,
            cast,
            unit,
        });
        first_clip += count;
    }
    placed
}

/// Another plan for the same clips with as many rows of each sort, for where no scene meets the first.
pub fn plan_again(config: &SynthConfig, plan: &UnitPlan, rng: &mut impl Rng) -> UnitPlan {
    let mut planner = Planner::new(config, rng);
    let kinds = |rows: &[Demand]| {
        let mut kinds: Vec<Kind> = rows
            .iter()
            .filter(|row| row.null.is_none())
            .map(|row| row.template.kind())
            .collect();
        kinds.sort_unstable();
        kinds
    };
    let mut fresh = || match &plan.unit {
        Unit::Single(rows) => planner.single(&rows.iter().filter_map(|row| row.null).collect::<Vec<_>>()),
        Unit::Twins(_) => planner.twins(),
        Unit::Deprived { cause, nulls, .. } => planner.deprived(*cause, *nulls),
        Unit::Alone { cause, .. } => planner.alone(*cause),
    };
    // Rows keep their kinds if a few draws can arrange it, so that what is hard to find is not left out.
    let wanted = kinds(plan.unit.rows());
    let drawn = (0..500)
        .map(|_| fresh())
        .find(|(_, unit)| kinds(unit.rows()) == wanted);
    let (cast, unit) = drawn.unwrap_or_else(fresh);
    UnitPlan {
        first_clip: plan.first_clip,
        cast,
        unit,
    }
}

fn null_split(planner: &mut Planner<'_, impl Rng>, clips: usize) -> Vec<(Cast, Unit)> {
    let mut units = Vec::new();
    for clip in 0..clips {
        // Every third clip is deprived of its sound, muted and swapped in turn; the others hold the other two thirds.
        units.push(match (clip % 3, clip % 6) {
            (1, at) => planner.alone(if at == 1 {
                NullCause::Muted
            } else {
                NullCause::Swapped
            }),
            _ => {
                let both = [NullCause::Absent, NullCause::Silent];
                let causes: Vec<_> = (0..planner.rows).map(|row| both[(row + clip) % 2]).collect();
                planner.single(&causes)
            }
        });
    }
    units
}

fn mixed_split(planner: &mut Planner<'_, impl Rng>, clips: usize, nulls: usize) -> Vec<(Cast, Unit)> {
    enum Slot {
        Twins,
        Deprived(NullCause, usize),
        Single(Vec<NullCause>),
    }
    let twins = ((TWIN_SHARE / 2.0 * clips as f64).round() as usize).min(clips / 2);
    let mut slots: Vec<Slot> = (0..twins).map(|_| Slot::Twins).collect();
    let mut singles = clips - 2 * twins;

    // Half of a deprived clip's rows turn null, at most; in every third clip only one.
    let (mut turned, half) = (nulls / 3, planner.rows.div_ceil(2));
    for number in 0.. {
        if turned == 0 || singles < 2 {
            break;
        }
        let cause = if number % 2 == 0 {
            NullCause::Muted
        } else {
            NullCause::Swapped
        };
        let most = if number % 3 == 2 { 1 } else { half.min(turned) };
        slots.push(Slot::Deprived(cause, most));
        turned -= most;
        singles -= 2;
    }

    // What is left of the nulls goes to the single clips, as evenly as can be.
    let rest = (nulls - nulls / 3 + turned).min(singles * planner.rows);
    let mut causes: Vec<NullCause> = (0..rest)
        .map(|i| {
            if i % 2 == 0 {
                NullCause::Absent
            } else {
                NullCause::Silent
            }
        })
        .collect();
    causes.shuffle(planner.rng);
    for i in 0..singles {
        slots.push(Slot::Single(
            causes[i * rest / singles..(i + 1) * rest / singles].to_vec(),
        ));
    }

    // Shares even out along the way, so every sort of clip must come along all the way.
    slots.shuffle(planner.rng);
    slots
        .into_iter()
        .map(|slot| match slot {
            Slot::Twins => planner.twins(),
            Slot::Deprived(cause, most) => planner.deprived(cause, most),
            Slot::Single(causes) => planner.single(&causes),
        })
        .collect()
}
