//! A few clips to learn by heart.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use burn_love_train::{
    config::{Config, Source, resolve},
    data::{RefAvs, Row, Split},
    synth::{SynthConfig, generate},
    training::{TrainEvent, TrainRun},
};

/// Held by a test that trains or draws random numbers: the backend's generator belongs to the process, so one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Generates scenes and keeps `clips` of them, each with two expressions for different objects that are in the first
/// frame, and with a null: the same frames, and a sentence or a sound that refers to nothing.
pub fn few_clips(root: &Path, clips: usize, size: (u32, u32)) -> RefAvs {
    let config = SynthConfig {
        // Few clips have all three.
        train: 24 * clips.max(4),
        val: 0,
        test_seen: 0,
        test_unseen: 0,
        test_null: 0,
        width: size.0,
        height: size.1,
        ..SynthConfig::default()
    };
    generate(&config, root, &|_, _| {}).expect("scenes can be generated");
    let data = RefAvs::open(root).expect("the generator writes the layout");
    let mut by_clip: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in data.split(Split::Train) {
        by_clip.entry(row.vid.clone()).or_default().push(row.clone());
    }
    let visible = |row: &Row| {
        let frame = data.frame(row, 0).expect("a frame");
        let mask = data.mask(row, 0, frame.dimensions()).expect("a mask");
        mask.pixels().filter(|pixel| pixel.0[0] > 0).count() * 50 > (size.0 * size.1) as usize
    };
    let mut kept: Vec<Row> = Vec::new();
    for rows in by_clip.values() {
        let null = rows.iter().find(|row| row.is_null());
        let mut shown = rows.iter().filter(|row| !row.is_null() && visible(row));
        let first = shown.next();
        let other = shown.find(|row| first.is_some_and(|first| row.fid != first.fid));
        if let (Some(first), Some(other), Some(null)) = (first, other, null) {
            kept.extend([first, other, null].map(Row::clone));
        }
        if kept.len() == 3 * clips {
            break;
        }
    }
    assert_eq!(
        kept.len(),
        3 * clips,
        "the generator gives clips with two visible objects and a null"
    );
    let mut table = String::from("vid,uid,split,fid,exp\n");
    for row in &kept {
        table += &format!(
            "{},{},train,{},\"{}\"\n",
            row.vid, row.uid, row.fid, row.expression
        );
    }
    std::fs::write(root.join("metadata.csv"), table).expect("a writable folder");
    RefAvs::open(root).expect("the table is complete")
}

/// The nano preset with `settings` on top.
pub fn config(settings: &[&str]) -> Config {
    let sources: Vec<_> = std::iter::once(Source::Preset("nano".into()))
        .chain(settings.iter().map(|set| Source::Set((*set).into())))
        .collect();
    resolve(&sources).expect("a valid config")
}

/// A run that prints its log lines when the test fails.
pub fn run(config: &Config, data: &RefAvs, out: &Path, resume: bool) -> TrainRun {
    std::fs::create_dir_all(out).expect("a writable folder");
    TrainRun {
        config: config.clone(),
        data: data.clone(),
        skip: Vec::new(),
        out: out.into(),
        resume,
        features: None,
        interrupter: Default::default(),
        listener: Arc::new(|event: &TrainEvent| report(event)),
        dashboard: false,
    }
}

#[allow(clippy::print_stdout, reason = "a test's log, shown when it fails")]
fn report(event: &TrainEvent) {
    println!("{event}");
}
