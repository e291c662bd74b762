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

/// Held by a test that trains: the backend's random generator belongs to the process, so one training at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Generates scenes and keeps `clips` of them, each with two expressions for different objects that are in the first
/// frame, and with a null.
pub fn few_clips(root: &Path, clips: usize, size: (u32, u32)) -> RefAvs {
    let config = SynthConfig {
        train: 8 * clips.max(8),
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
    let mut nulls = Vec::new();
    for row in data.split(Split::Train) {
        if row.is_null() {
            nulls.push(row.clone());
        } else {
            by_clip.entry(row.key().to_owned()).or_default().push(row.clone());
        }
    }
    let visible = |row: &Row| {
        let frame = data.frame(row, 0).expect("a frame");
        let mask = data.mask(row, 0, frame.dimensions()).expect("a mask");
        mask.pixels().filter(|pixel| pixel.0[0] > 0).count() * 50 > (size.0 * size.1) as usize
    };
    let mut kept: Vec<Row> = Vec::new();
    for rows in by_clip.values() {
        let shown: Vec<&Row> = rows.iter().filter(|row| visible(row)).collect();
        let Some(first) = shown.first() else { continue };
        let Some(other) = shown.iter().find(|row| row.fid != first.fid) else {
            continue;
        };
        kept.extend([(*first).clone(), (*other).clone()]);
        if kept.len() == 2 * clips {
            break;
        }
    }
    assert_eq!(
        kept.len(),
        2 * clips,
        "the generator gives clips with two visible objects"
    );
    assert!(nulls.len() >= clips, "the generator gives nulls");
    kept.extend(nulls.into_iter().take(clips));
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
        init_from: None,
        interrupter: Default::default(),
        listener: Arc::new(|event: &TrainEvent| report(event)),
        dashboard: false,
    }
}

#[allow(clippy::print_stdout, reason = "a test's log, shown when it fails")]
fn report(event: &TrainEvent) {
    println!("{event}");
}
