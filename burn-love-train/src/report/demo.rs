//! `report.md` of the demo.

use std::{collections::BTreeSet, time::Duration};

use super::TrainingSummary;
use crate::{
    data::{RefAvs, Row, Split},
    evaluation::Evaluation,
    synth::{Ceiling, Ceilings},
};

/// Everything that the report tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DemoReport {
    /// The command as it was given.
    pub command: String,
    /// The device.
    pub device: String,
    /// Seed of the data and of the training.
    pub seed: u64,
    /// Whether this was the short form that only shows that everything runs.
    pub quick: bool,
    /// What the data set holds.
    pub data: Vec<SplitCount>,
    /// How far symbolic solvers get.
    pub ceilings: Ceilings,
    /// Parameters of the model, and how many of them learn.
    pub parameters: (usize, usize),
    /// The training.
    pub training: TrainingSummary,
    /// Evaluations, the plain one first.
    pub evaluations: Vec<TitledEvaluation>,
    /// Pictures of predictions.
    pub pictures: Vec<Picture>,
    /// How long everything took.
    pub time: Duration,
}

/// Rows of one split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitCount {
    /// The split.
    pub split: Split,
    /// Clips: folders of media.
    pub clips: usize,
    /// Expressions.
    pub rows: usize,
    /// Expressions that refer to nothing.
    pub nulls: usize,
}

/// An evaluation and what it is called.
#[derive(Debug, Clone, PartialEq)]
pub struct TitledEvaluation {
    /// Such as "without sound".
    pub title: String,
    /// Its scores.
    pub evaluation: Evaluation,
}

/// A picture of a prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Where it lies, relative to the report.
    pub path: String,
    /// The expression.
    pub text: String,
    /// Mean IoU of its frames, where there is a label.
    pub j: Option<f64>,
}

/// Counts clips and rows of each split that has any.
pub fn split_counts(data: &RefAvs) -> Vec<SplitCount> {
    Split::ALL
        .into_iter()
        .map(|split| {
            let rows = data.split(split);
            let clips: BTreeSet<&str> = rows.iter().map(|row| row.key()).collect();
            SplitCount {
                split,
                clips: clips.len(),
                rows: rows.len(),
                nulls: rows.iter().filter(|row: &&&Row| row.is_null()).count(),
            }
        })
        .filter(|count| count.rows > 0)
        .collect()
}

/// The report as Markdown.
pub fn demo_report(report: &DemoReport) -> String {
    let mut text = String::from("# SAM2-LOVE: demo\n\n");
    text += &format!(
        "`{}` on {} with seed {}: generated scenes with sound, trained a nano SAM2-LOVE on them, evaluated it, and drew \
         its masks. It took {}.\n\n",
        report.command,
        report.device,
        report.seed,
        clock(report.time.as_secs_f64())
    );
    text += &verdict(report);
    text += &data_section(report);
    text += &training_section(report);
    text += &scores_section(report);
    text += &pictures_section(report);
    text
}

fn verdict(report: &DemoReport) -> String {
    let mut text = String::from("## What the scores are\n\n");
    text += &format!(
        "The model is a nano configuration of {}. Its encoders and its SAM 2 are the shipped ones, which were pre-trained \
         one modality at a time; fusion, prompt encoder and mask decoder were trained here, for {} and {} optimizer steps. \
         **After so short a training it is not a good model, and its scores say nothing about the paper's.** The shipped \
         weights, whose scores stand last, were trained for longer. ",
        millions(report.parameters.0),
        clock(report.training.seconds),
        report.training.steps
    );
    text += "The data are synthetic scenes (LAVS-Synth), not Ref-AVS; published numbers are on other data.\n";
    if report.quick {
        text += "\nThis was the quick form: so few clips and steps that the scores are those of a model that has hardly \
                 learned.\n";
    }
    text.push('\n');
    text
}

fn data_section(report: &DemoReport) -> String {
    let mut text =
        String::from("## Data\n\n| split | clips | expressions | of them null |\n|---|---|---|---|\n");
    for count in &report.data {
        text += &format!(
            "| {} | {} | {} | {} |\n",
            count.split, count.clips, count.rows, count.nulls
        );
    }
    text += "\nHow many expressions symbolic solvers get right, which read the scene graphs instead of files. They are \
             the ceilings for a model with the same inputs (object picked, not mask quality):\n\n";
    let splits: Vec<&String> = report.ceilings.full.splits.keys().collect();
    let names: String = splits.iter().map(|name| format!(" {name} |")).collect();
    text += &format!(
        "| solver | all |{names}\n|---|---|{}\n",
        "---|".repeat(splits.len())
    );
    let ceilings = &report.ceilings;
    for (name, ceiling) in [
        ("frames, sound and text", &ceilings.full),
        ("without sound", &ceilings.deaf),
        ("without text", &ceilings.text_blind),
    ] {
        text += &ceiling_line(name, ceiling, &splits);
    }
    text.push('\n');
    text
}

fn ceiling_line(name: &str, ceiling: &Ceiling, splits: &[&String]) -> String {
    let cells = splits.iter().map(|split| {
        let share = ceiling.splits.get(*split);
        share.map_or(" – |".to_owned(), |share| format!(" {share:.3} |"))
    });
    format!("| {name} | {:.3} |{}\n", ceiling.all, cells.collect::<String>())
}

fn training_section(report: &DemoReport) -> String {
    let training = &report.training;
    let (all, learning) = report.parameters;
    let mut text = format!(
        "## Training\n\n{} optimizer steps in {} epochs, {}; {} of {} learn.\n\n",
        training.steps,
        training.epochs,
        clock(training.seconds),
        millions(learning),
        millions(all)
    );
    text += "| | loss | BCE | DICE | object | J of frame 0 |\n|---|---|---|---|---|---|\n";
    for (name, values) in [("train, last", &training.train), ("valid, last", &training.valid)] {
        let cells: Vec<String> = ["loss", "bce", "dice", "object", "J"]
            .iter()
            .map(|key| values.get(*key).map_or("–".into(), |value| format!("{value:.4}")))
            .collect();
        text += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    if let Some(loss) = training.first_loss {
        text += &format!("\nThe first logged training loss was {loss:.4}.");
    }
    if let Some(j) = training.best_j {
        text += &format!(" The best validation J was {j:.4}; its weights are the ones evaluated.");
    }
    text += "\n\n";
    text
}

fn scores_section(report: &DemoReport) -> String {
    let mut text = String::from("## Scores\n\n");
    if report.evaluations.is_empty() {
        return text + "Nothing was evaluated.\n\n";
    }
    text += "J, F and J&F in %, higher is better; S as a fraction, lower is better (0 also for a model that never finds \
             anything).\n\n";
    for TitledEvaluation { title, evaluation } in &report.evaluations {
        text += &format!(
            "### {title}\n\nProtocol `{}`, {} expressions, {}.\n\n{}\n",
            evaluation.protocol,
            evaluation.rows.len(),
            clock(evaluation.time.as_secs_f64()),
            evaluation.table(false)
        );
        if evaluation.differences.is_some() {
            text += "Against the model with everything: ";
            text += &evaluation.differences_table();
            text.push('\n');
        }
    }
    text + "The files beside this report hold the details, and the published results for orientation.\n\n"
}

fn pictures_section(report: &DemoReport) -> String {
    let mut text = String::from("## Pictures\n\n");
    if report.pictures.is_empty() {
        return text + "None were drawn.\n";
    }
    text += "Red: the model's mask. White line: the label. Frames from left to right, then down.\n\n";
    for picture in &report.pictures {
        let alt = picture.text.replace(['[', ']'], "");
        let path = picture.path.replace(' ', "%20");
        let j = picture
            .j
            .map_or(String::new(), |j| format!(" (J {:.1} %)", 100.0 * j));
        text += &format!("\"{}\"{j}\n\n![{alt}]({path})\n\n", picture.text);
    }
    text
}

fn clock(seconds: f64) -> String {
    match seconds.round() as u64 {
        s if s < 120 => format!("{s} s"),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

fn millions(parameters: usize) -> String {
    format!("{:.2} M parameters", parameters as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_report_still_says_what_it_is() {
        let text = demo_report(&DemoReport::default());
        for words in [
            "it is not a good model",
            "not Ref-AVS",
            "Nothing was evaluated",
            "None were drawn",
        ] {
            assert!(text.contains(words), "{words}");
        }
        assert!(!text.contains("NaN"));
    }

    #[test]
    fn every_input_is_told() {
        let mut ceilings = Ceilings::default();
        ceilings.full.all = 1.0;
        ceilings.deaf.all = 0.555;
        for ceiling in [&mut ceilings.full, &mut ceilings.text_blind] {
            ceiling.splits.insert("test_s".into(), 0.321);
        }
        let report = DemoReport {
            command: "burn-love-cli demo".into(),
            quick: true,
            data: vec![SplitCount {
                split: Split::TestU,
                clips: 7,
                rows: 28,
                nulls: 3,
            }],
            ceilings,
            parameters: (4_000_000, 3_900_000),
            training: TrainingSummary::parse(
                r#"{"step":12,"epoch":0,"split":"train","name":"loss","value":0.875,"time":1.0}"#,
            ),
            pictures: vec![Picture {
                path: "overlays/a b.png".into(),
                text: "the star".into(),
                j: Some(0.25),
            }],
            time: Duration::from_secs(130),
            ..DemoReport::default()
        };
        let text = demo_report(&report);
        for words in [
            "`burn-love-cli demo`",
            "quick form",
            "| test_u | 7 | 28 | 3 |",
            "| without sound | 0.555 | – |",
            "| without text | 0.000 | 0.321 |",
            "12 optimizer steps",
            "| train, last | 0.8750 |",
            "4.00 M parameters",
            "2 min 10 s",
            "\"the star\" (J 25.0 %)\n\n![the star](overlays/a%20b.png)",
        ] {
            assert!(text.contains(words), "{words} in\n{text}");
        }
    }
}
