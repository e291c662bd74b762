//! Ablations: presets trained with the same seeds and budget, and what each changes of its base.

use serde_json::Value;

use crate::{
    config::Preset,
    evaluation::{ExpressionScore, Interval, intervals_of_differences},
};

/// A preset that was trained with a seed and evaluated.
#[derive(Debug, Clone)]
pub struct AblationRun {
    /// The preset's name.
    pub preset: String,
    /// The seed.
    pub seed: u64,
    /// Its `metrics.json`.
    pub metrics: Value,
    /// Its rows.
    pub expressions: Vec<ExpressionScore>,
}

/// One of the scores that are compared, by its place in `metrics.json`.
struct Score {
    title: &'static str,
    split: &'static str,
    name: &'static str,
    /// Its place in [`Preset::published`].
    published: Option<usize>,
    /// Whether it is shown in percent, rather than as a fraction.
    percent: bool,
}

const SCORES: [Score; 5] = [
    Score {
        title: "Seen J&F",
        split: "test_s",
        name: "JF",
        published: Some(0),
        percent: true,
    },
    Score {
        title: "Unseen J&F",
        split: "test_u",
        name: "JF",
        published: Some(1),
        percent: true,
    },
    Score {
        title: "Mix J&F",
        split: "mix",
        name: "JF",
        published: None,
        percent: true,
    },
    Score {
        title: "Null S",
        split: "test_n",
        name: "S",
        published: None,
        percent: false,
    },
    Score {
        title: "Null empty",
        split: "test_n",
        name: "null_empty",
        published: None,
        percent: true,
    },
];

/// Mean and spread over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of a sample; none of a single value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of the values that are there; nothing where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (!values.is_empty()).then_some(Self {
            mean,
            deviation: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
        })
    }
}

impl Score {
    /// The factor that it is shown with, and decimal places.
    fn units(&self) -> (f64, usize) {
        if self.percent { (100.0, 1) } else { (1.0, 3) }
    }
}

impl AblationRun {
    fn score(&self, score: &Score) -> Option<f64> {
        self.metrics["splits"][score.split][score.name].as_f64()
    }
}

/// A preset's row: for each score its value, and its difference to the base, paired by seed.
struct Row {
    preset: &'static Preset,
    seeds: usize,
    values: Vec<Option<Spread>>,
    differences: Vec<Option<Spread>>,
    /// Of the differences, over clips with all seeds' rows; each row as a batch of its own.
    intervals: Vec<Interval>,
}

/// Runs of presets, in the order in which the presets were asked for.
#[derive(Debug, Clone, Default)]
pub struct Ablation {
    /// The runs.
    pub runs: Vec<AblationRun>,
}

impl Row {
    fn interval(&self, score: &Score) -> Option<&Interval> {
        let same = |interval: &&Interval| (interval.split, interval.score) == (score.split, score.name);
        self.intervals.iter().find(same)
    }
}

impl Ablation {
    fn rows(&self) -> Vec<Row> {
        let mut presets: Vec<&'static Preset> = Vec::new();
        for run in &self.runs {
            let preset = Preset::find(&run.preset);
            presets.extend(preset.filter(|preset| !presets.iter().any(|seen| seen.name == preset.name)));
        }
        presets.into_iter().map(|preset| self.row(preset)).collect()
    }

    fn row(&self, preset: &'static Preset) -> Row {
        let of =
            |name: &str| -> Vec<&AblationRun> { self.runs.iter().filter(|run| run.preset == name).collect() };
        let own = of(preset.name);
        let bases = preset.base.map(of).unwrap_or_default();
        let values =
            |score: &Score| Spread::of(&own.iter().filter_map(|run| run.score(score)).collect::<Vec<_>>());
        let pairs: Vec<(&AblationRun, &AblationRun)> = own
            .iter()
            .filter_map(|run| Some((*run, *bases.iter().find(|base| base.seed == run.seed)?)))
            .collect();
        let difference = |score: &Score| {
            let values = pairs
                .iter()
                .filter_map(|(run, base)| Some(run.score(score)? - base.score(score)?));
            Spread::of(&values.collect::<Vec<_>>())
        };
        let rows = pairs
            .iter()
            .map(|(run, base)| (&*run.expressions, &*base.expressions));
        Row {
            preset,
            seeds: own.len(),
            values: SCORES.iter().map(values).collect(),
            differences: SCORES.iter().map(difference).collect(),
            intervals: intervals_of_differences(&rows.collect::<Vec<_>>()),
        }
    }

    /// The table for people: J&F in percent, S as a fraction, each with its standard deviation over seeds.
    pub fn to_markdown(&self) -> String {
        let rows = self.rows();
        let mut text = String::from(
            "# Ablations\n\nJ&F in percent, higher is better; S as a fraction, lower is better. ± is the ",
        );
        text += "standard deviation over seeds. An empty null has less than 0.1 % of its pixels found, higher is better. ";
        text += "Differences (Δ) are to the base, paired by seed, in brackets 95 % intervals by a bootstrap over clips, each ";
        text += "with the rows of all seeds and each row a batch of its own, so of means that differ a little; published ones are those of the paper, on ";
        text += "Ref-AVS.\n\n| preset | seeds |";
        for score in &SCORES {
            text += &format!(" {} |", score.title);
        }
        text += " base |";
        for score in &SCORES {
            text += &format!(" Δ {} |", score.title);
        }
        text += " published Δ seen | published Δ unseen |\n|---|---|";
        text += &"---|".repeat(2 * SCORES.len() + 3);
        text += "\n";
        for row in &rows {
            text += &format!("| {} | {} |", row.preset.name, row.seeds);
            for (score, value) in SCORES.iter().zip(&row.values) {
                text += &format!(" {} |", shown(score, *value, false));
            }
            text += &format!(" {} |", row.preset.base.unwrap_or("–"));
            for (score, value) in SCORES.iter().zip(&row.differences) {
                text += &format!(" {}", shown(score, *value, true));
                if let Some(interval) = row.interval(score) {
                    let [low, high] = [interval.low, interval.high].map(|value| signed(score, value));
                    text += &format!(" [{low}, {high}]");
                }
                text += " |";
            }
            for place in 0..2 {
                let difference = published_difference(row.preset, place);
                text += &difference.map_or_else(|| " – |".to_owned(), |value| format!(" {value:+.1} |"));
            }
            text += "\n";
        }
        text
    }

    /// The table for programs: fractions, one line for each preset and score.
    pub fn to_csv(&self) -> String {
        let mut text = String::from(
            "preset,base,seeds,score,mean,deviation,difference,difference_deviation,difference_low,difference_high,\
             published_difference\n",
        );
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.6}"));
        for row in self.rows() {
            for (i, score) in SCORES.iter().enumerate() {
                let (value, difference) = (row.values[i], row.differences[i]);
                let published = score
                    .published
                    .and_then(|place| published_difference(row.preset, place));
                let cells = [
                    row.preset.name.to_owned(),
                    row.preset.base.unwrap_or_default().to_owned(),
                    row.seeds.to_string(),
                    score.title.to_owned(),
                    number(value.map(|value| value.mean)),
                    number(value.and_then(|value| value.deviation)),
                    number(difference.map(|value| value.mean)),
                    number(difference.and_then(|value| value.deviation)),
                    number(row.interval(score).map(|interval| interval.low)),
                    number(row.interval(score).map(|interval| interval.high)),
                    number(published.map(|percent| percent / 100.0)),
                ];
                text += &(cells.join(",") + "\n");
            }
        }
        text
    }
}

/// What the paper's preset changes of its base, in percent points.
fn published_difference(preset: &Preset, place: usize) -> Option<f64> {
    let base = Preset::find(preset.base?)?;
    Some(preset.published?[place]? - base.published?[place]?)
}

fn shown(score: &Score, value: Option<Spread>, difference: bool) -> String {
    let Some(Spread { mean, deviation }) = value else {
        return "–".into();
    };
    let (scale, places) = score.units();
    let mut text = match difference {
        true => signed(score, mean),
        false => format!("{:.places$}", scale * mean),
    };
    if let Some(deviation) = deviation {
        text += &format!(" ± {:.places$}", scale * deviation);
    }
    text
}

fn signed(score: &Score, value: f64) -> String {
    let (scale, places) = score.units();
    format!("{:+.places$}", scale * value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;
    use serde_json::json;

    fn run(preset: &str, seed: u64, seen: f64, s: f64) -> AblationRun {
        AblationRun {
            preset: preset.into(),
            seed,
            metrics: json!({"splits": {
                "test_s": {"JF": seen}, "test_u": {"JF": null}, "mix": {"JF": seen / 2.0}, "test_n": {"S": s},
            }}),
            expressions: [("a", seen), ("b", 0.25)]
                .map(|(clip, jf)| ExpressionScore {
                    uid: format!("{clip}_1"),
                    split: Split::TestS,
                    clips: clip.into(),
                    jf: Some(jf),
                    s: None,
                })
                .into(),
        }
    }

    fn ablation() -> Ablation {
        Ablation {
            runs: vec![
                run("paper", 0, 0.5, 0.2),
                run("paper", 1, 0.6, 0.3),
                run("ablation-no-accumulation", 0, 0.46, 0.2),
                run("ablation-no-accumulation", 1, 0.58, 0.2),
                run("ablation-seg-4", 1, 0.55, 0.1),
            ],
        }
    }

    #[test]
    fn differences_are_to_the_right_base_and_paired_by_seed() {
        let csv = ablation().to_csv();
        let line = |start: &str| {
            csv.lines()
                .find(|line| line.starts_with(start))
                .unwrap()
                .to_owned()
        };
        assert_eq!(line("paper,,2,Seen"), "paper,,2,Seen J&F,0.550000,0.070711,,,,,");
        assert_eq!(
            line("ablation-no-accumulation,paper,2,Seen"),
            "ablation-no-accumulation,paper,2,Seen J&F,0.520000,0.084853,-0.030000,0.014142,-0.030000,0.000000,-0.010000"
        );
        // One seed: no deviation, and the pair of that seed.
        assert_eq!(
            line("ablation-seg-4,ablation-no-accumulation,1,Seen"),
            "ablation-seg-4,ablation-no-accumulation,1,Seen J&F,0.550000,,-0.030000,,-0.030000,0.000000,-0.007000"
        );
        // What was not measured stays empty.
        assert_eq!(line("paper,,2,Unseen"), "paper,,2,Unseen J&F,,,,,,,");
    }

    #[test]
    fn the_table_for_people_has_a_row_for_each_preset() {
        let text = ablation().to_markdown();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(rows.len(), 1 + 3);
        assert!(
            rows[2].contains("| 52.0 ± 8.5 |") && rows[2].contains("| -3.0 ± 1.4 [-3.0, +0.0] |"),
            "{}",
            rows[2]
        );
        assert!(rows[2].ends_with("| -1.0 | -0.4 |"), "{}", rows[2]);
        assert!(
            rows[3].contains("| 0.100 |") && rows[3].contains("| -0.100 |"),
            "{}",
            rows[3]
        );
        let columns = |row: &str| row.matches('|').count();
        assert!(rows.iter().all(|row| columns(row) == columns(rows[0])));
    }
}
