//! Solvers that work on scene graphs: how far one gets with everything, without sound, and without text.
//!
//! A solver without a modality is the strongest reasonable guesser: it knows the generator's rules, tells apart all
//! situations that it can perceive, and uses in each the strategy that *turns out* best on the rows themselves. The
//! ceilings so err on the high side.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    SynthConfig, SynthError,
    cast::Cast,
    graph::{ObjectGraph, SceneGraph},
    language::{Hear, Meaning},
    scene::{Ears, referents, voice_of},
    shares::templates,
};
use crate::data::{RefAvs, Split};

/// Accuracy of a solver: the share of rows for which it picks the right object, or nothing where nothing is meant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// On all rows.
    pub all: f64,
    /// On the rows of each split that has any. The solver does not know the split.
    pub splits: BTreeMap<String, f64>,
}

/// Accuracy of the three solvers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// With frames, sound and text.
    pub full: Ceiling,
    /// With frames and text.
    pub deaf: Ceiling,
    /// With frames and sound.
    pub text_blind: Ceiling,
    /// Rows solved.
    pub rows: usize,
}

/// Solves every row of a data set that [`generate`](super::generate) made, from its `metadata.csv` and `lavs/*.json`.
///
/// # Errors
/// When a file is missing or damaged, or a row is not in its clip's scene graph.
pub fn ceilings(root: &Path) -> Result<Ceilings, SynthError> {
    Ok(ceilings_of(&read_graphs(root)?))
}

/// The scene graphs of a data set in metadata order, with the expressions as `metadata.csv` has them.
///
/// # Errors
/// As [`ceilings`].
pub fn read_graphs(root: &Path) -> Result<Vec<SceneGraph>, SynthError> {
    let data = RefAvs::open(root)?;
    let mut graphs: Vec<SceneGraph> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for row in data.rows() {
        let path = root.join("lavs").join(format!("{}.json", row.key()));
        let wrong = |expected: String, found: String| SynthError::Content {
            path: path.clone(),
            expected,
            found,
        };
        let place = match places.get(row.key()) {
            Some(place) => *place,
            None => {
                let bytes = fs::read(&path).map_err(|source| SynthError::Io {
                    path: path.clone(),
                    source,
                })?;
                let graph = serde_json::from_slice(&bytes)
                    .map_err(|e| wrong("a scene graph".into(), e.to_string()))?;
                graphs.push(graph);
                places.insert(row.key(), graphs.len() - 1);
                graphs.len() - 1
            }
        };
        let uids = |graph: &SceneGraph| graph.rows.iter().position(|known| known.uid == row.uid);
        let Some(at) = uids(&graphs[place]) else {
            return Err(wrong(format!("a row {}", row.uid), "none".into()));
        };
        graphs[place].rows[at].expression.clone_from(&row.expression);
    }
    Ok(graphs)
}

/// Solves every row of some scene graphs.
pub fn ceilings_of(graphs: &[SceneGraph]) -> Ceilings {
    let (mut full, mut deaf, mut blind) = (Guesser::default(), Guesser::default(), Guesser::default());
    for graph in graphs {
        let (situation, text_blind) = text_blind_guesses(graph);
        for row in &graph.rows {
            let truth = row.target;
            // A text that is not of the language leaves nothing to go by.
            let meaning = Meaning::parse(&row.expression);
            let all: Vec<u32> = graph.objects.iter().map(|object| object.id).collect();
            let understood = match &meaning {
                Some(meaning) => ids(graph, referents(meaning, &graph.items(), &graph.voices())),
                None => all.clone(),
            };
            full.add(graph.split, "full", truth, &[understood]);
            let (seen, guesses) = match &meaning {
                Some(meaning) => deaf_guesses(graph, meaning),
                None => (String::new(), vec![all]),
            };
            deaf.add(graph.split, &seen, truth, &guesses);
            blind.add(graph.split, &situation, truth, &text_blind);
        }
    }
    Ceilings {
        rows: full.rows(),
        full: full.finish(),
        deaf: deaf.finish(),
        text_blind: blind.finish(),
    }
}

/// A guess is a set of objects among which one is drawn; the empty set says that nothing is meant.
type Guess = Vec<u32>;

/// Scores every strategy in every situation, then keeps the best of each situation.
#[derive(Default)]
struct Guesser {
    situations: BTreeMap<String, Vec<BTreeMap<Split, f64>>>,
    counts: BTreeMap<Split, usize>,
}

impl Guesser {
    fn add(&mut self, split: Split, situation: &str, truth: Option<u32>, guesses: &[Guess]) {
        *self.counts.entry(split).or_default() += 1;
        let scores = self.situations.entry(situation.into()).or_default();
        scores.resize(guesses.len().max(scores.len()), BTreeMap::new());
        for (score, guess) in scores.iter_mut().zip(guesses) {
            *score.entry(split).or_default() += match truth {
                None => f64::from(u8::from(guess.is_empty())),
                Some(id) if guess.contains(&id) => 1.0 / guess.len() as f64,
                Some(_) => 0.0,
            };
        }
    }

    fn rows(&self) -> usize {
        self.counts.values().sum()
    }

    fn finish(self) -> Ceiling {
        let mut right: BTreeMap<Split, f64> = BTreeMap::new();
        for strategies in self.situations.values() {
            let sum = |scores: &BTreeMap<Split, f64>| scores.values().sum::<f64>();
            let best = strategies.iter().max_by(|a, b| sum(a).total_cmp(&sum(b)));
            for (split, score) in best.into_iter().flatten() {
                *right.entry(*split).or_default() += score;
            }
        }
        let share =
            |split: &Split, count: usize| right.get(split).copied().unwrap_or(0.0) / count.max(1) as f64;
        Ceiling {
            all: right.values().sum::<f64>() / self.rows().max(1) as f64,
            splits: self
                .counts
                .iter()
                .map(|(split, n)| (split.to_string(), share(split, *n)))
                .collect(),
        }
    }
}

fn ids(graph: &SceneGraph, objects: Vec<usize>) -> Guess {
    objects.into_iter().map(|i| graph.objects[i].id).collect()
}

/// What frames and text leave open: the objects that look as stated, or a favourite among them, or nothing.
fn deaf_guesses(graph: &SceneGraph, meaning: &Meaning) -> (String, Vec<Guess>) {
    let looks = Meaning {
        hear: None,
        ..meaning.clone()
    };
    let candidates = referents(&looks, &graph.items(), &[]);
    if meaning.hear.is_none() || candidates.is_empty() {
        return ("looks decide".into(), vec![ids(graph, candidates)]);
    }
    let situation = format!(
        "{:?}, {} of {} objects",
        meaning.template(),
        candidates.len(),
        graph.objects.len()
    );
    let mut guesses = vec![Vec::new()];
    guesses.extend(favourites(graph, &candidates));
    (situation, guesses)
}

/// All of some objects, and those among them that stand out in the frames.
fn favourites(graph: &SceneGraph, among: &[usize]) -> Vec<Guess> {
    let best = |score: &dyn Fn(&ObjectGraph) -> f64| {
        let scores: Vec<f64> = among.iter().map(|i| score(&graph.objects[*i])).collect();
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        among
            .iter()
            .zip(scores)
            .filter(|(_, score)| *score == most)
            .map(|(i, _)| *i)
            .collect::<Vec<_>>()
    };
    let area = |object: &ObjectGraph| object.frames.iter().map(|frame| frame.area).sum::<f64>();
    let hidden = |object: &ObjectGraph| {
        object
            .frames
            .iter()
            .map(|frame| -frame.visibility)
            .fold(-1.0, f64::max)
    };
    let way = |object: &ObjectGraph| {
        (object.motion.half_axes[0].hypot(object.motion.half_axes[1])) * object.motion.speed.abs()
    };
    let held_out = best(&|object| f64::from(u8::from(object.item.class.is_held_out())));
    [
        among.to_vec(),
        best(&area),
        best(&|object| -area(object)),
        best(&hidden),
        best(&|object| -hidden(object)),
        best(&way),
        best(&|object| -way(object)),
        best(&|object| f64::from(object.id)),
        best(&|object| -f64::from(object.id)),
        held_out,
    ]
    .into_iter()
    .map(|objects| ids(graph, objects))
    .collect()
}

/// What frames and sound suggest: objects that play a part in the sound, or that most expressions could be about.
fn text_blind_guesses(graph: &SceneGraph) -> (String, Vec<Guess>) {
    let (items, voices) = (graph.items(), graph.voices());
    let sounding = items
        .iter()
        .filter(|item| voice_of(item, &voices).is_some())
        .count();
    let strangers = voices.len() - sounding;
    let held_out = items.iter().filter(|item| item.class.is_held_out()).count();
    let situation = format!(
        "{} objects, {held_out} held out, {sounding} sounding, {strangers} strangers",
        items.len()
    );

    let part = |hear| {
        referents(
            &Meaning {
                looks: Vec::new(),
                hear: Some(hear),
            },
            &items,
            &voices,
        )
    };
    let all: Vec<usize> = (0..items.len()).collect();
    let mut guesses = vec![Vec::new()];
    guesses.extend(favourites(graph, &all));
    for hear in Hear::ALL {
        let objects = part(hear);
        // A part that nobody plays is no reason to say that nothing is meant.
        let objects = if objects.is_empty() { all.clone() } else { objects };
        let unseen: Vec<usize> = objects
            .iter()
            .copied()
            .filter(|i| items[*i].class.is_held_out())
            .collect();
        guesses.push(ids(graph, objects));
        guesses.push(ids(graph, if unseen.is_empty() { all.clone() } else { unseen }));
    }
    let cast = Cast {
        objects: items.len(),
        sounding,
    };
    let ears = Ears::new(&items, &voices);
    let mut shares = vec![0.0; items.len()];
    for (template, share) in templates(&SynthConfig::default())
        .into_iter()
        .filter(|(t, _)| cast.affords(*t))
    {
        let targets: Vec<usize> = items
            .iter()
            .map(|item| template.fill(item.class.shape, item.class.surface, item.colour))
            .filter_map(|meaning| ears.minimal_referent(&meaning, &items))
            .collect();
        for target in &targets {
            shares[*target] += share / targets.len() as f64;
        }
    }
    let most = shares.iter().copied().fold(f64::MIN, f64::max);
    guesses.push(ids(
        graph,
        all.into_iter().filter(|i| shares[*i] == most).collect(),
    ));
    (situation, guesses)
}
