//! Finding objects, sounds and expressions that meet a unit's plan, by trying scenes until one does.

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};

use super::{
    SynthConfig,
    cast::Cast,
    class::{Class, Shape, Surface},
    language::{Hear, Meaning, Template},
    plan::{Demand, NullCause, Unit, UnitPlan, plan_again},
    scene::{Classes, Ears, Item, Voice, random_items, random_voices, voice_of},
};

/// Scenes that are tried for one plan.
const SCENES: usize = 1200;

/// Plans that are tried for one unit.
const PLANS: usize = 150;

/// A row of a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct RowDraft {
    /// What it says.
    pub meaning: Meaning,
    /// How it says it.
    pub expression: String,
    /// Index of the item that it refers to.
    pub target: Option<usize>,
    /// Why it refers to nothing.
    pub null: Option<NullCause>,
}

/// A clip of a unit: its sounds and rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipDraft {
    /// What is heard.
    pub voices: Vec<Voice>,
    /// What is said.
    pub rows: Vec<RowDraft>,
    /// [`NullCause::Muted`] or [`NullCause::Swapped`], if the clip's sound is not its scene's.
    pub deprived: Option<NullCause>,
}

/// The scene of a unit and its clips.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitDraft {
    /// What is seen in every clip.
    pub items: Vec<Item>,
    /// One or two clips.
    pub clips: Vec<ClipDraft>,
}

/// Builds a unit. `None` if no scene was found that meets its plan, nor a similar one. With [`Classes::Unseen`] every
/// target is of a held-out class.
pub fn compose(
    config: &SynthConfig,
    plan: &UnitPlan,
    classes: Classes,
    rng: &mut impl Rng,
) -> Option<UnitDraft> {
    let mut plan = plan.clone();
    for _ in 0..PLANS {
        for _ in 0..SCENES {
            if let Some(draft) = attempt(&plan.unit, plan.cast, classes, rng) {
                return Some(draft);
            }
        }
        plan = plan_again(config, &plan, rng);
    }
    None
}

fn attempt(unit: &Unit, cast: Cast, classes: Classes, rng: &mut impl Rng) -> Option<UnitDraft> {
    let items = random_items(cast.objects, classes, rng);
    let whole = random_voices(&sounding(&items, cast.sounding, rng), rng);
    let clips = match unit {
        Unit::Single(demands) => {
            let rows = Stage::new(&items, &[&whole], classes).rows(demands, rng)?;
            vec![ClipDraft {
                rows: rows.into_iter().flatten().collect(),
                voices: whole,
                deprived: None,
            }]
        }
        Unit::Twins(demands) => {
            let other = random_voices(&sounding(&items, cast.sounding, rng), rng);
            let mut rows = Stage::new(&items, &[&whole, &other], classes).rows(demands, rng)?;
            let second = rows.iter_mut().map(Vec::pop).collect::<Option<Vec<_>>>()?;
            let first = rows.into_iter().flatten().collect();
            let clip = |(voices, rows)| ClipDraft {
                voices,
                rows,
                deprived: None,
            };
            [whole, other]
                .into_iter()
                .zip([first, second])
                .map(clip)
                .collect()
        }
        Unit::Deprived {
            rows,
            cause,
            nulls,
            seen,
        } => {
            let rows: Vec<RowDraft> = Stage::new(&items, &[&whole], classes)
                .rows(rows, rng)?
                .into_iter()
                .flatten()
                .collect();
            let voices = replacement(&items, *cause, rng);
            let turned = rows[..*nulls].iter().map(|row| RowDraft {
                target: None,
                null: Some(*cause),
                ..row.clone()
            });
            let seen = Stage::new(&items, &[&voices], classes)
                .rows(seen, rng)?
                .into_iter()
                .flatten();
            let deprived = ClipDraft {
                rows: turned.chain(seen).collect(),
                voices,
                deprived: Some(*cause),
            };
            vec![
                ClipDraft {
                    voices: whole,
                    rows,
                    deprived: None,
                },
                deprived,
            ]
        }
        Unit::Alone { rows, cause } => {
            let voices = replacement(&items, *cause, rng);
            let row = |demand: &Demand| {
                let meaning = Meaning {
                    looks: Vec::new(),
                    hear: demand.template.hear,
                };
                RowDraft {
                    expression: meaning.phrase(rng),
                    meaning,
                    target: None,
                    null: Some(*cause),
                }
            };
            let rows: Vec<RowDraft> = rows.iter().map(row).collect();
            let stage = Stage::new(&items, &[&voices], classes);
            if rows.iter().any(|row| stage.matching(&row.meaning) > 0) {
                return None;
            }
            vec![ClipDraft {
                voices,
                rows,
                deprived: Some(*cause),
            }]
        }
    };
    Some(UnitDraft { items, clips })
}

/// Classes of `count` of the items.
fn sounding(items: &[Item], count: usize, rng: &mut impl Rng) -> Vec<Class> {
    items.choose_multiple(rng, count).map(|item| item.class).collect()
}

/// The sound of a deprived clip: none, or that of one or two objects whose shape is not in the scene.
fn replacement(items: &[Item], cause: NullCause, rng: &mut impl Rng) -> Vec<Voice> {
    if cause == NullCause::Muted {
        return Vec::new();
    }
    let mut strangers: Vec<Class> = Shape::ALL
        .iter()
        .filter(|shape| items.iter().all(|item| item.class.shape != **shape))
        .flat_map(|shape| {
            Surface::ALL.iter().map(|surface| Class {
                shape: *shape,
                surface: *surface,
            })
        })
        .filter(|class| !class.is_held_out())
        .collect();
    strangers.shuffle(rng);
    strangers.truncate(rng.random_range(1..=2));
    random_voices(&strangers, rng)
}

/// Items with one set of sounds, or with the two of twins.
struct Stage<'a> {
    items: &'a [Item],
    voices: Vec<&'a [Voice]>,
    ears: Vec<Ears>,
    classes: Classes,
}

impl<'a> Stage<'a> {
    fn new(items: &'a [Item], voices: &[&'a [Voice]], classes: Classes) -> Self {
        let ears = voices.iter().map(|voices| Ears::new(items, voices)).collect();
        Self {
            items,
            voices: voices.to_vec(),
            ears,
            classes,
        }
    }

    /// A row per demand and set of sounds, all of different meanings.
    fn rows(&self, demands: &[Demand], rng: &mut impl Rng) -> Option<Vec<Vec<RowDraft>>> {
        let mut said: Vec<Meaning> = Vec::new();
        // How often each item is a target, in each set of sounds.
        let mut uses = vec![vec![0; self.items.len()]; self.voices.len()];
        let mut rows = Vec::new();
        for demand in demands {
            let (meaning, targets) = match demand.null {
                None => self.positive(demand.template, &said, &uses, rng)?,
                Some(NullCause::Absent) => {
                    (self.absent(demand.template, rng)?, vec![None; self.voices.len()])
                }
                Some(_) => (
                    self.silent(demand.template, &said, rng)?,
                    vec![None; self.voices.len()],
                ),
            };
            if said.contains(&meaning) {
                return None;
            }
            for (uses, target) in uses.iter_mut().zip(targets.iter().flatten()) {
                uses[*target] += 1;
            }
            let expression = meaning.phrase(rng);
            let row = |target: &Option<usize>| RowDraft {
                meaning: meaning.clone(),
                expression: expression.clone(),
                target: *target,
                null: demand.null,
            };
            rows.push(targets.iter().map(row).collect());
            said.push(meaning);
        }
        Some(rows)
    }

    /// The template filled with each item's looks.
    fn fillings(&self, template: Template, said: &[Meaning]) -> Vec<Meaning> {
        let mut fillings: Vec<Meaning> = self
            .items
            .iter()
            .map(|item| template.fill(item.class.shape, item.class.surface, item.colour))
            .filter(|meaning| !said.contains(meaning))
            .collect();
        fillings.sort();
        fillings.dedup();
        fillings
    }

    /// An expression that refers to one object, minimally; to different ones under different sounds. Objects that
    /// have not been referred to come first.
    fn positive(
        &self,
        template: Template,
        said: &[Meaning],
        uses: &[Vec<usize>],
        rng: &mut impl Rng,
    ) -> Option<(Meaning, Vec<Option<usize>>)> {
        let mut options: Vec<(usize, Meaning, Vec<usize>)> = Vec::new();
        for meaning in self.fillings(template, said) {
            let targets: Option<Vec<usize>> = self
                .ears
                .iter()
                .map(|ears| ears.minimal_referent(&meaning, self.items))
                .collect();
            let Some(targets) = targets else { continue };
            let known =
                |target: &usize| self.classes == Classes::Unseen && !self.items[*target].class.is_held_out();
            if targets.iter().any(known) || targets.len() > 1 && targets[0] == targets[1] {
                continue;
            }
            let used = targets.iter().zip(uses).map(|(target, uses)| uses[*target]).sum();
            options.push((used, meaning, targets));
        }
        let least = options.iter().map(|(used, ..)| *used).min()?;
        options.retain(|(used, ..)| *used == least);
        let (_, meaning, targets) = options.choose(rng)?.clone();
        Some((meaning, targets.into_iter().map(Some).collect()))
    }

    /// How many items an expression refers to, under the first set of sounds.
    fn matching(&self, meaning: &Meaning) -> u32 {
        self.ears[0].referents(meaning, self.items).count_ones()
    }

    /// An expression about a look that the scene lacks, worded as a positive one of another scene.
    fn absent(&self, template: Template, rng: &mut impl Rng) -> Option<Meaning> {
        let donor = random_items(4, self.classes, rng);
        let item = donor.choose(rng)?;
        let meaning = template.fill(item.class.shape, item.class.surface, item.colour);
        let looks = Meaning {
            hear: None,
            ..meaning.clone()
        };
        let partly = looks
            .looks
            .iter()
            .any(|look| self.items.iter().any(|item| item.looks(*look)));
        let near = looks.looks.len() < 2 || partly;
        (near && self.matching(&looks) == 0).then_some(meaning)
    }

    /// An expression about objects that are there but not heard as stated.
    fn silent(&self, template: Template, said: &[Meaning], rng: &mut impl Rng) -> Option<Meaning> {
        let voices = self.voices[0];
        let sounding = self
            .items
            .iter()
            .filter(|item| voice_of(item, voices).is_some())
            .count();
        let held = match template.hear {
            Some(Hear::Silent) => self.items.len() - sounding,
            _ => sounding,
        };
        // Seen alone, the scene looks as for a positive row: several objects with the look, several heard so.
        let plausible = |meaning: &Meaning| {
            let looks = Meaning {
                hear: None,
                ..meaning.clone()
            };
            !template.has_looks() || held >= 2 && self.matching(&looks) >= 2
        };
        let clear = |item: &Item| voice_of(item, voices).is_none_or(|voice| voice.duration() <= 7);
        if template.hear == Some(Hear::Throughout) && !self.items.iter().all(clear) {
            return None;
        }
        let options: Vec<Meaning> = self
            .fillings(template, said)
            .into_iter()
            .filter(|meaning| self.matching(meaning) == 0 && plausible(meaning))
            .collect();
        options.choose(rng).cloned()
    }
}
