//! What the clips of a split are to say: shares of templates, twins and nulls.
//!
//! Templates are drawn by how far they lag behind their share, so that a split of any size follows the shares closely,
//! and positive and null rows use the same words equally often.

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use serde::{Deserialize, Serialize};

use super::{
    SynthConfig,
    language::{Hear, Kind, Template},
};
use crate::data::Split;

const SHAPE: Template = Template::vision(true, false, false);
const SURFACE: Template = Template::vision(false, true, false);
const COLOUR: Template = Template::vision(false, false, true);

/// Shares of the templates in percent: vision 25, audio 30, audio and vision 30, time 15.
const SHARES: [(Template, f64); 19] = [
    (SHAPE, 5.0),
    (SURFACE, 4.0),
    (COLOUR, 4.0),
    (Template::vision(true, false, true), 4.0),
    (Template::vision(true, true, false), 5.0),
    (Template::vision(false, true, true), 3.0),
    (Template::sound(Hear::Loudest), 9.0),
    (Template::sound(Hear::Quietest), 7.0),
    (Template::sound(Hear::Sounding), 6.0),
    (Template::sound(Hear::Silent), 8.0),
    (SHAPE.with(Hear::Sounding), 6.0),
    (SURFACE.with(Hear::Sounding), 5.4),
    (COLOUR.with(Hear::Sounding), 5.0),
    (SHAPE.with(Hear::Silent), 5.0),
    (SURFACE.with(Hear::Silent), 4.6),
    (COLOUR.with(Hear::Silent), 4.0),
    (Template::sound(Hear::Longest), 5.0),
    (Template::sound(Hear::Shortest), 5.0),
    (Template::sound(Hear::Throughout), 5.0),
];

/// Shares of the order templates beside [`SHARES`], where they are asked for.
const ORDER_SHARES: [(Template, f64); 2] = [
    (Template::sound(Hear::First), 6.0),
    (Template::sound(Hear::Last), 6.0),
];

/// Of the null rows that state a look and a sound, this share names an absent look; the others a look of objects
/// whose sound is not as stated. With it the three sorts of nulls together use each template as positive rows do.
const ABSENT_SHARE: f64 = 0.3;

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

/// How many objects a scene has, and how many of them sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    /// Objects.
    pub objects: usize,
    /// Objects that sound at some time.
    pub sounding: usize,
}

/// All casts with their weights.
const CASTS: [(Cast, f64); 8] = [
    (
        Cast {
            objects: 2,
            sounding: 1,
        },
        5.0,
    ),
    (
        Cast {
            objects: 2,
            sounding: 2,
        },
        5.0,
    ),
    (
        Cast {
            objects: 3,
            sounding: 1,
        },
        15.0,
    ),
    (
        Cast {
            objects: 3,
            sounding: 2,
        },
        20.0,
    ),
    (
        Cast {
            objects: 3,
            sounding: 3,
        },
        5.0,
    ),
    (
        Cast {
            objects: 4,
            sounding: 1,
        },
        13.0,
    ),
    (
        Cast {
            objects: 4,
            sounding: 2,
        },
        22.0,
    ),
    (
        Cast {
            objects: 4,
            sounding: 3,
        },
        15.0,
    ),
];

impl Cast {
    fn silent(self) -> usize {
        self.objects - self.sounding
    }

    /// Whether a scene with this cast can have a minimal expression of the template.
    pub fn affords(self, template: Template) -> bool {
        match template.hear {
            None => self.objects > 2 || template.count() < 2,
            Some(Hear::Sounding) if template.has_looks() => self.sounding >= 2 && self.silent() >= 1,
            Some(Hear::Silent) if template.has_looks() => self.silent() >= 2 && self.sounding >= 1,
            Some(Hear::Sounding) => self.sounding == 1,
            Some(Hear::Silent) => self.silent() == 1,
            Some(Hear::Throughout) => self.sounding >= 1,
            Some(_) => self.sounding >= 2,
        }
    }

    /// Whether a scene with this cast can make the template refer to nothing for this cause.
    fn affords_null(self, template: Template, cause: NullCause) -> bool {
        match (cause, template.hear) {
            (NullCause::Absent, Some(Hear::Silent)) => self.silent() >= 1,
            (NullCause::Absent, _) => true,
            (NullCause::Silent, Some(Hear::Silent)) if !template.has_looks() => self.silent() == 0,
            (NullCause::Silent, Some(Hear::Throughout)) => self.sounding >= 1,
            (NullCause::Silent, _) => self.sounding >= 2 && self.silent() >= 2,
            (NullCause::Muted | NullCause::Swapped, _) => self.affords(template),
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

/// Draws templates by how far each lags behind its share.
struct Shares {
    entries: Vec<(Template, f64, f64)>,
    drawn: f64,
}

impl Shares {
    fn new(weights: impl IntoIterator<Item = (Template, f64)>) -> Self {
        let entries: Vec<_> = weights.into_iter().filter(|(_, weight)| *weight > 0.0).collect();
        let sum: f64 = entries.iter().map(|(_, weight)| weight).sum();
        Self {
            entries: entries
                .into_iter()
                .map(|(t, weight)| (t, weight / sum, 0.0))
                .collect(),
            drawn: 0.0,
        }
    }

    /// Those that null rows of a cause are drawn from.
    fn of_null(all: &[(Template, f64)], cause: NullCause) -> Self {
        Self::new(all.iter().map(|(template, weight)| {
            let presence =
                matches!(template.hear, Some(Hear::Sounding | Hear::Silent)) && template.has_looks();
            let share = match (cause, template.hear) {
                (NullCause::Absent, None) => 1.0,
                (NullCause::Absent, _) if presence => ABSENT_SHARE,
                (NullCause::Silent, _) if presence => 1.0 - ABSENT_SHARE,
                (NullCause::Silent, Some(Hear::Silent | Hear::Throughout)) => 1.0,
                (NullCause::Muted | NullCause::Swapped, Some(Hear::Silent | Hear::Throughout)) => 0.0,
                (NullCause::Muted | NullCause::Swapped, Some(_)) if !presence => 1.0,
                _ => 0.0,
            };
            (*template, weight * share)
        }))
    }

    fn draw(&mut self, rng: &mut impl Rng, allowed: impl Fn(Template) -> bool) -> Option<Template> {
        const AHEAD: f64 = 6.0;
        let lag = |(_, share, count): &(Template, f64, f64)| {
            (share * (self.drawn + AHEAD) - count).max(1e-3 * share)
        };
        let open: Vec<usize> = (0..self.entries.len())
            .filter(|i| allowed(self.entries[*i].0))
            .collect();
        let chosen = *open.choose_weighted(rng, |i| lag(&self.entries[*i])).ok()?;
        let template = self.entries[chosen].0;
        self.count(template);
        Some(template)
    }

    /// Takes note of a row of the template.
    fn count(&mut self, template: Template) {
        for entry in self.entries.iter_mut().filter(|entry| entry.0 == template) {
            entry.2 += 1.0;
            self.drawn += 1.0;
        }
    }
}

/// Whether a clip that has `rows` may have another one of `template`.
fn fits_beside(template: Template, rows: &[Demand]) -> bool {
    let same = rows.iter().filter(|row| row.template == template).count();
    // With a sound, two looks of the same sort would need more objects than there are.
    same < if template.hear.is_none() { 2 } else { 1 }
}

/// The templates that positive rows are drawn from, with their shares.
pub fn templates(config: &SynthConfig) -> Vec<(Template, f64)> {
    let order = ORDER_SHARES.iter().filter(|_| config.order_expressions);
    SHARES.iter().chain(order).copied().collect()
}

fn choose_cast(rng: &mut impl Rng, fits: impl Fn(Cast) -> bool) -> Cast {
    let open: Vec<_> = CASTS.iter().filter(|(cast, _)| fits(*cast)).collect();
    let chosen = open.choose_weighted(rng, |(_, weight)| *weight);
    chosen.map_or(
        Cast {
            objects: 4,
            sounding: 2,
        },
        |(cast, _)| *cast,
    )
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
                    .entries
                    .iter()
                    .filter(|(t, ..)| cast.affords_null(*t, NullCause::Silent));
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
