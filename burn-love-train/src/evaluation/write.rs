//! An evaluation as files: JSON for programs, Markdown for people, CSV for tables.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{EvalError, Evaluation, Interval, NullSplitScore, PUBLISHED, ReferredScore, SplitScore};
use crate::{data::Split, synth::RowKind};

impl Evaluation {
    /// Writes `metrics.json`, `metrics.md`, `metrics.csv` and `per_expression.csv` into `out`, which is made where it is
    /// not there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, out: &Path) -> Result<(), EvalError> {
        std::fs::create_dir_all(out).map_err(EvalError::io(out))?;
        let json = serde_json::to_string_pretty(&self.to_json()).expect("plain values") + "\n";
        for (name, content) in [
            ("metrics.json", json),
            ("metrics.md", self.to_markdown()),
            ("metrics.csv", self.to_csv()),
            ("per_expression.csv", self.rows_to_csv()),
        ] {
            let path = out.join(name);
            std::fs::write(&path, content).map_err(EvalError::io(&path))?;
        }
        Ok(())
    }

    /// All scores as `metrics.json` holds them: fractions, null where there are no rows.
    pub fn to_json(&self) -> Value {
        let mut splits = Map::new();
        for score in &self.splits {
            splits.insert(score.split.name().into(), score.to_json());
        }
        let has = |split| self.split(split).is_some();
        if has(Split::TestS) || has(Split::TestU) {
            let mix = self.mix();
            let n = [Split::TestS, Split::TestU].map(|split| {
                let score = self.split(split).and_then(|score| score.referred.as_ref());
                score.map_or(0, |score| score.n)
            });
            let mix = json!({
                "J": mix.map(|mix| mix.j), "F": mix.map(|mix| mix.f), "JF": mix.map(|mix| mix.jf),
                "n": n.iter().sum::<usize>(),
            });
            // Behind the two splits that it is the mean of.
            let at = splits.keys().position(|name| name == Split::TestN.name());
            splits.shift_insert(at.unwrap_or(splits.len()), "mix".into(), mix);
        }
        json!({
            "protocol": self.protocol.name(),
            "drop": self.drop.map(super::Modality::name),
            "swap": self.swap_audio.then_some("audio"),
            "synthetic": self.synthetic,
            "threshold": self.threshold,
            "null_threshold": self.null_threshold,
            "batch_size": self.batch_size,
            "seconds": self.time.as_secs_f64(),
            "splits": splits,
            "intervals": self.intervals().iter().map(Interval::to_json).collect::<Vec<_>>(),
            "differences": self.differences.as_ref().map(|differences| json!({
                "against": differences.against,
                "rows": differences.rows,
                "intervals": differences.intervals.iter().map(Interval::to_json).collect::<Vec<_>>(),
            })),
        })
    }

    /// A table beside the published results, and what the numbers are.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from("# Evaluation\n\n");
        let rows = self.rows.len();
        let seconds = self.time.as_secs_f64();
        text += &format!("Protocol `{}`, {rows} expressions, {seconds:.0} s", self.protocol);
        if let Some(modality) = self.drop {
            text += &format!(", without {modality}");
        }
        if self.swap_audio {
            text += ", with swapped sounds";
        }
        text += ". J, F and J&F in %, higher is better; S as a fraction, lower is better.\n\n";
        text += &self.table(true);
        text += if self.synthetic {
            "\n**The evaluated data are synthetic scenes, not Ref-AVS: the published rows are results on other data and \
             stand here for orientation only.**\n"
        } else {
            "\nThe published rows are results on Ref-AVS; they compare only with its full test splits.\n"
        };
        text += &self.details();
        let intervals = self.intervals();
        if !intervals.is_empty() {
            text += "\n## Intervals\n\n95 % intervals of a bootstrap over clips, each expression a batch of its own:\n\n";
            text += &interval_lines(&intervals);
        }
        if let Some(differences) = &self.differences {
            text += &format!("\n## Differences to {}\n\n", differences.against);
            text += &self.differences_table();
        }
        text
    }

    /// What [`Evaluation::compare`] found; nothing before.
    pub fn differences_table(&self) -> String {
        self.differences.as_ref().map_or(String::new(), |differences| {
            format!(
                "This evaluation less that one, {} expressions in pairs, 95 % intervals of a bootstrap over clips, each \
                 expression a batch of its own:\n\n{}",
                differences.rows,
                interval_lines(&differences.intervals)
            )
        })
    }

    /// The table of [`Evaluation::to_markdown`], with or without the published rows.
    pub fn table(&self, published: bool) -> String {
        let mut text = String::from(
            "| method | seen J | F | J&F | unseen J | F | J&F | mix J | F | J&F | null S |\n\
             |---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        let referred = |split| {
            let score = self.split(split).and_then(|score| score.referred.as_ref());
            [score.map(|s| s.j), score.map(|s| s.f), score.map(|s| s.jf)]
        };
        let mix = self.mix();
        let mix = [mix.map(|s| s.j), mix.map(|s| s.f), mix.map(|s| s.jf)];
        let own = [referred(Split::TestS), referred(Split::TestU), mix].concat();
        let own = own.into_iter().map(|value| value.map(|v| 100.0 * v));
        let null = self.split(Split::TestN).and_then(|score| score.null.as_ref());
        text += &line("**this model**", own, null.map(|score| score.s));
        if published {
            for row in PUBLISHED {
                let values = [row.seen, row.unseen, row.mix].concat();
                text += &line(row.method, values.into_iter(), row.s);
            }
        }
        text
    }

    /// What the table has no room for, split by split.
    pub fn details(&self) -> String {
        let mut text = String::new();
        for score in &self.splits {
            text += &format!("\n## {}\n\n", score.split);
            if let Some(score) = &score.referred {
                text += &score.details();
            }
            if let Some(score) = &score.null {
                text += &score.details();
            }
            if score.referred.is_none() && score.null.is_none() {
                text += "No rows.\n";
            }
        }
        text
    }

    /// One line per split, fractions, empty where there is no score.
    fn to_csv(&self) -> String {
        let mut lines = vec![row_of(
            "split,J,F,JF,n,J_frame0,S,S_text_normalised,S_audio_swapped,null_empty,n_null".split(','),
        )];
        for score in &self.splits {
            let (referred, null) = (score.referred.as_ref(), score.null.as_ref());
            let count = |n: Option<usize>| n.unwrap_or(0).to_string();
            lines.push(vec![
                score.split.to_string(),
                number(referred.map(|s| s.j)),
                number(referred.map(|s| s.f)),
                number(referred.map(|s| s.jf)),
                count(referred.map(|s| s.n)),
                number(referred.and_then(|s| s.j_frame0)),
                number(null.map(|s| s.s)),
                number(null.and_then(|s| s.text_normalised)),
                number(null.and_then(|s| s.audio_swapped)),
                number(null.map(|s| s.empty)),
                count(null.map(|s| s.n)),
            ]);
        }
        if let Some(mix) = self.mix() {
            let mut cells = vec![String::new(); 11];
            cells[0] = "mix".into();
            for (cell, value) in cells[1..].iter_mut().zip([mix.j, mix.f, mix.jf]) {
                *cell = number(Some(value));
            }
            lines.push(cells);
        }
        csv_text(&lines)
    }

    /// One line per row.
    fn rows_to_csv(&self) -> String {
        let mut lines = vec![row_of(
            "uid,split,expression,kind,J,F,J_frame0,S,presence,area,clips".split(','),
        )];
        for row in &self.rows {
            lines.push(vec![
                row.uid.clone(),
                row.split.to_string(),
                row.expression.clone(),
                row.kind.map(kind_name).unwrap_or_default(),
                number(row.j),
                number(row.f),
                number(row.j_frame0),
                number(row.s),
                number(Some(row.presence)),
                number(Some(row.area)),
                row.clips.clone(),
            ]);
        }
        csv_text(&lines)
    }
}

impl Interval {
    fn to_json(&self) -> Value {
        json!({"split": self.split, "score": self.score, "mean": self.mean, "low": self.low, "high": self.high})
    }
}

fn interval_lines(intervals: &[Interval]) -> String {
    let line = |interval: &Interval| {
        let (digits, unit) = if interval.score == "S" {
            (3, 1.0)
        } else {
            (1, 100.0)
        };
        let name = if interval.score == "S" { "S" } else { "J&F" };
        let [mean, low, high] = [interval.mean, interval.low, interval.high].map(|value| value * unit);
        format!(
            "- {} {name}: {mean:.digits$} [{low:.digits$}, {high:.digits$}]\n",
            interval.split
        )
    };
    intervals.iter().map(line).collect()
}

impl SplitScore {
    fn to_json(&self) -> Value {
        let mut fields = Map::new();
        let referred = self.referred.as_ref();
        let null = self.null.as_ref();
        if self.split != Split::TestN {
            fields.insert("J".into(), json!(referred.map(|s| s.j)));
            fields.insert("F".into(), json!(referred.map(|s| s.f)));
            fields.insert("JF".into(), json!(referred.map(|s| s.jf)));
            fields.insert("n".into(), json!(referred.map_or(0, |s| s.n)));
            fields.insert("J_frame0".into(), json!(referred.and_then(|s| s.j_frame0)));
            if let Some(score) = referred.filter(|s| !s.kinds.is_empty()) {
                let kinds = score
                    .kinds
                    .iter()
                    .map(|(kind, score)| (kind, json!({"J": score.j, "n": score.n})));
                fields.insert("kinds".into(), kinds_json(kinds));
            }
            if let Some(twins) = referred.and_then(|s| s.twins) {
                let twins = json!({"both_right": twins.both_right, "pairs": twins.pairs});
                fields.insert("twins".into(), twins);
            }
        }
        if self.split == Split::TestN || null.is_some() {
            fields.insert("S".into(), json!(null.map(|s| s.s)));
            let count = if self.split == Split::TestN { "n" } else { "n_null" };
            fields.insert(count.into(), json!(null.map_or(0, |s| s.n)));
            fields.insert("null_empty".into(), json!(null.map(|s| s.empty)));
            let text = null.and_then(|s| s.text_normalised);
            fields.insert("S_text_normalised".into(), json!(text));
            let audio = null.and_then(|s| s.audio_swapped);
            fields.insert("S_audio_swapped".into(), json!(audio));
            if let Some(score) = null.filter(|s| !s.kinds.is_empty()) {
                let kinds = score
                    .kinds
                    .iter()
                    .map(|(kind, score)| (kind, json!({"S": score.s, "empty": score.empty, "n": score.n})));
                fields.insert("null_kinds".into(), kinds_json(kinds));
            }
        }
        Value::Object(fields)
    }
}

impl ReferredScore {
    fn details(&self) -> String {
        let percent = |value: f64| format!("{:.1}", 100.0 * value);
        let mut text = format!(
            "- {} expressions: J {}, F {}, J&F {}\n",
            self.n,
            percent(self.j),
            percent(self.f),
            percent(self.jf)
        );
        if let Some(j) = self.j_frame0 {
            text += &format!(
                "- J of the first frame, where the object is seen: {}\n",
                percent(j)
            );
        }
        for (kind, score) in &self.kinds {
            let (name, mean) = (kind_name(*kind), percent(score.j));
            text += &format!("- J of `{name}` expressions: {mean} ({})\n", score.n);
        }
        if let Some(twins) = self.twins {
            text += &format!(
                "- both right in {} % of {} pairs with the same frames and text, other sound, other object (J ≥ 0.5 \
                 each)\n",
                percent(twins.both_right),
                twins.pairs
            );
        }
        text
    }
}

impl NullSplitScore {
    fn details(&self) -> String {
        let mut text = format!("- {} expressions that refer to nothing: S {:.3}", self.n, self.s);
        if let Some(s) = self.text_normalised {
            text += &format!("; with normalised text {s:.3}");
        }
        if let Some(s) = self.audio_swapped {
            text += &format!("; with another clip's sound {s:.3}");
        }
        text += &format!(
            "; {:.1} % are empty (less than 0.1 % of the pixels found)\n",
            100.0 * self.empty
        );
        for (kind, score) in &self.kinds {
            text += &format!(
                "- mean S of `{}`: {:.3}, {:.1} % empty ({})\n",
                kind_name(*kind),
                score.s,
                100.0 * score.empty,
                score.n
            );
        }
        text
    }
}

/// The kind's name in scene graphs.
fn kind_name(kind: RowKind) -> String {
    let name = serde_json::to_value(kind).expect("a plain value");
    name.as_str().unwrap_or_default().to_owned()
}

fn kinds_json<'a>(kinds: impl Iterator<Item = (&'a RowKind, Value)>) -> Value {
    Value::Object(kinds.map(|(kind, score)| (kind_name(*kind), score)).collect())
}

fn line(method: &str, values: impl Iterator<Item = Option<f64>>, s: Option<f64>) -> String {
    let cell = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
    };
    let cells: Vec<String> = values.map(|value| cell(value, 1)).collect();
    format!("| {method} | {} | {} |\n", cells.join(" | "), cell(s, 3))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.6}"))
}

fn row_of<'a>(cells: impl Iterator<Item = &'a str>) -> Vec<String> {
    cells.map(str::to_owned).collect()
}

fn csv_text(lines: &[Vec<String>]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for line in lines {
        writer.write_record(line).expect("lines of one length, in memory");
    }
    let bytes = writer.into_inner().expect("in memory");
    String::from_utf8(bytes).expect("made of text")
}
