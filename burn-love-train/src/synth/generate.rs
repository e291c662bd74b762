//! From a config to files.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use image::{ExtendedColorType, GrayImage, ImageEncoder, Luma, RgbImage, codecs};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{
    SynthConfig, SynthError, SynthSummary,
    compose::{ClipDraft, UnitDraft, compose},
    graph::{ObjectGraph, RowGraph, RowKind, SceneGraph, SoundGraph},
    motion::random_paths,
    paint, plan,
    plan::{NullCause, Unit, UnitPlan},
    raster::visibility,
    scene::{Classes, SECONDS, Voice},
    sound, unnamed,
};
use crate::data::Split;

/// Quality of the JPEG frames.
const JPEG_QUALITY: u8 = 95;

/// A unit's scene graphs, each with the index of its clip in the split.
struct UnitGraphs {
    split: Split,
    first_clip: usize,
    clips: usize,
    graphs: Vec<(usize, SceneGraph)>,
}

/// Writes a data set into `out`; `progress` is told (clips done, all clips) after each.
///
/// `metadata.csv` is written last: where it is, everything is.
///
/// # Errors
/// When the config is out of range, a clip's constraints cannot be met, or a file cannot be written.
pub fn generate(
    config: &SynthConfig,
    out: &Path,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<SynthSummary, SynthError> {
    config.validate()?;
    let (done, bytes) = (Mutex::new(0), AtomicU64::new(0));
    let units: Vec<UnitGraphs> = plans(config)
        .into_par_iter()
        .map(|(split, plan)| {
            let unit = unit_graphs(config, split, &plan)?;
            bytes.fetch_add(write_unit(config, &unit, out)?, Ordering::Relaxed);
            if let Ok(mut done) = done.lock() {
                *done += unit.clips;
                progress(*done, config.total());
            }
            Ok(unit)
        })
        .collect::<Result<_, SynthError>>()?;

    let graphs: Vec<&SceneGraph> = units
        .iter()
        .flat_map(|unit| unit.graphs.iter().map(|(_, graph)| graph))
        .collect();
    let table = metadata(&graphs);
    write(&out.join("metadata.csv"), &table)?;
    Ok(SynthSummary {
        clips: config.total(),
        folders: graphs.len(),
        rows: graphs.iter().map(|graph| graph.rows.len()).sum(),
        nulls: graphs
            .iter()
            .flat_map(|graph| &graph.rows)
            .filter(|row| row.target.is_none())
            .count(),
        twins: graphs.iter().filter(|graph| graph.twin.is_some()).count() / 2,
        bytes: bytes.into_inner() + table.len() as u64,
    })
}

/// The scene graphs that [`generate`] would write, in metadata order, without any file.
///
/// # Errors
/// As [`generate`], but for the files.
pub fn scenes(config: &SynthConfig) -> Result<Vec<SceneGraph>, SynthError> {
    config.validate()?;
    let units: Vec<UnitGraphs> = plans(config)
        .into_par_iter()
        .map(|(split, plan)| unit_graphs(config, split, &plan))
        .collect::<Result<_, SynthError>>()?;
    Ok(units
        .into_iter()
        .flat_map(|unit| unit.graphs)
        .map(|(_, graph)| graph)
        .collect())
}

fn plans(config: &SynthConfig) -> Vec<(Split, UnitPlan)> {
    let plan = |split: Split| plan::plan(config, split, &mut seeded(config.seed, split, "plan", 0));
    Split::ALL
        .into_iter()
        .flat_map(|split| plan(split).into_iter().map(move |unit| (split, unit)))
        .collect()
}

/// A generator for one purpose of one clip.
fn seeded(seed: u64, split: Split, purpose: &str, clip: usize) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(format!("lavs-synth 1/{seed}/{split}/{purpose}/{clip}"));
    ChaCha8Rng::from_seed(hash.finalize().into())
}

fn clip_key(split: Split, clip: usize) -> String {
    let name = match split {
        Split::Train => "train",
        Split::Val => "val",
        Split::TestS => "seen",
        Split::TestU => "unseen",
        Split::TestN => "null",
    };
    format!("lavs-{name}-{clip:05}")
}

fn unit_graphs(config: &SynthConfig, split: Split, plan: &UnitPlan) -> Result<UnitGraphs, SynthError> {
    let classes = if split == Split::TestU {
        Classes::Unseen
    } else {
        Classes::Seen
    };
    let mut rng = seeded(config.seed, split, "scene", plan.first_clip);
    let draft = compose(config, plan, classes, &mut rng).ok_or_else(|| SynthError::Unsatisfiable {
        split,
        clip: plan.first_clip,
        expected: format!(
            "{} objects, {} of them sounding",
            plan.cast.objects, plan.cast.sounding
        ),
    })?;
    let percent = if split == Split::Train {
        config.unnamed_percent
    } else {
        0
    };
    let of_items = &mut seeded(config.seed, split, "unnamed", plan.first_clip);
    let unnamed = unnamed::draw(&draft, percent, of_items);
    let outlines = draft.items.iter().zip(&unnamed);
    let outlines: Vec<_> = outlines
        .map(|(item, unnamed)| unnamed::outline(item, *unnamed))
        .collect();
    let paths = random_paths(&outlines, config.width, config.height, &mut rng);
    let seen = visibility(&outlines, &paths, config.width, config.height);
    let objects: Vec<ObjectGraph> = draft
        .items
        .iter()
        .zip(unnamed)
        .zip(paths)
        .zip(seen)
        .zip(1..)
        .map(|((((item, unnamed), motion), frames), id)| ObjectGraph {
            id,
            item: *item,
            unnamed,
            motion,
            frames,
        })
        .collect();
    let graphs = (0..draft.clips.len())
        .flat_map(|number| {
            let clip = plan.first_clip + number;
            clip_graphs(config, split, plan, &draft, number, &objects)
                .into_iter()
                .map(move |graph| (clip, graph))
        })
        .collect();
    Ok(UnitGraphs {
        split,
        first_clip: plan.first_clip,
        clips: draft.clips.len(),
        graphs,
    })
}

/// The scene graph of a clip and of its null copies.
fn clip_graphs(
    config: &SynthConfig,
    split: Split,
    plan: &UnitPlan,
    draft: &UnitDraft,
    number: usize,
    objects: &[ObjectGraph],
) -> Vec<SceneGraph> {
    let clip: &ClipDraft = &draft.clips[number];
    let vid = clip_key(split, plan.first_clip + number);
    let causes = [
        NullCause::Absent,
        NullCause::Silent,
        NullCause::Muted,
        NullCause::Swapped,
    ]
    .map(Some);
    let twin = matches!(plan.unit, Unit::Twins(_)).then(|| clip_key(split, plan.first_clip + 1 - number));
    let whole = (clip.deprived.is_some() && number > 0).then(|| clip_key(split, plan.first_clip));
    let graph = |null: Option<NullCause>| {
        let key = null.map_or(vid.clone(), |cause| format!("null_{}-{vid}", cause.letter()));
        let row = |(i, row): (usize, &super::compose::RowDraft)| {
            let category = row
                .target
                .map_or("null".into(), |target| draft.items[target].class.name());
            RowGraph {
                uid: format!("{key}_{category}_{}", i + 1),
                kind: RowKind::new(row.meaning.template().kind(), row.null),
                expression: row.expression.clone(),
                meaning: row.meaning.clone(),
                target: row.target.map(|target| objects[target].id),
            }
        };
        let rows: Vec<RowGraph> = clip
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.null == null)
            .map(row)
            .collect();
        let owner = |class| objects.iter().find(|object| object.item.class == class);
        (!rows.is_empty()).then(|| SceneGraph {
            key: key.clone(),
            vid: vid.clone(),
            split,
            width: config.width,
            height: config.height,
            objects: objects.to_vec(),
            sounds: clip
                .voices
                .iter()
                .map(|voice| {
                    let owner = owner(voice.class);
                    let unnamed = owner.and_then(|object| object.unnamed);
                    SoundGraph {
                        voice: Voice {
                            unnamed,
                            ..voice.clone()
                        },
                        object: owner.map(|object| object.id),
                    }
                })
                .collect(),
            twin: if null.is_none() { twin.clone() } else { None },
            whole: whole.clone(),
            muted: clip.deprived == Some(NullCause::Muted),
            swapped: clip.deprived == Some(NullCause::Swapped),
            rows,
        })
    };
    std::iter::once(None).chain(causes).filter_map(graph).collect()
}

/// Renders a unit once and writes it for each of its graphs. Gives the bytes written.
fn write_unit(config: &SynthConfig, unit: &UnitGraphs, out: &Path) -> Result<u64, SynthError> {
    let Some((_, scene)) = unit.graphs.first() else {
        return Ok(0);
    };
    let pictures = paint::frames(
        scene,
        &mut seeded(config.seed, unit.split, "paint", unit.first_clip),
    );
    let frames: Vec<Vec<u8>> = pictures
        .iter()
        .map(|frame| jpeg(frame, out))
        .collect::<Result<_, _>>()?;
    let mut written = 0;
    for (clip, graph) in &unit.graphs {
        let media = out.join("media").join(&graph.key);
        for (t, bytes) in frames.iter().enumerate() {
            written += write(&media.join("frames").join(format!("{t}.jpg")), bytes)?;
        }
        let path = media.join("audio.wav");
        let mut rng = seeded(config.seed, unit.split, "sound", *clip);
        let wav = sound::wav(&sound::mix(&graph.voices(), &mut rng))
            .map_err(|error| content(&path, "a sound", error.to_string()))?;
        written += write(&path, &wav)?;
        written += write_masks(graph, out)?;
        let path = out.join("lavs").join(format!("{}.json", graph.key));
        let json = serde_json::to_vec_pretty(graph)
            .map_err(|error| content(&path, "a scene graph", error.to_string()))?;
        written += write(&path, &json)?;
    }
    Ok(written)
}

fn write_masks(graph: &SceneGraph, out: &Path) -> Result<u64, SynthError> {
    let mut targets: Vec<u32> = graph.rows.iter().filter_map(|row| row.target).collect();
    targets.sort_unstable();
    targets.dedup();
    let mut written = 0;
    for t in 0..if targets.is_empty() { 0 } else { SECONDS } {
        let owners = graph.owners(t);
        for target in &targets {
            let object = graph.objects.iter().position(|object| object.id == *target);
            let mask = GrayImage::from_fn(graph.width, graph.height, |x, y| {
                let owner = owners[(y * graph.width + x) as usize];
                Luma([if owner.is_some() && owner == object {
                    255
                } else {
                    0
                }])
            });
            let folder = out.join("gt_mask").join(&graph.key).join(format!("fid_{target}"));
            written += write(&folder.join(format!("{t:05}.png")), &png(&mask, out)?)?;
        }
    }
    Ok(written)
}

fn metadata(graphs: &[&SceneGraph]) -> Vec<u8> {
    let mut rows: Vec<(usize, &str, [String; 5])> = Vec::new();
    for graph in graphs {
        for row in &graph.rows {
            let number = row
                .uid
                .rsplit('_')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            let fid = row.target.unwrap_or(0).to_string();
            let split = graph.split.to_string();
            let fields = [
                graph.vid.clone(),
                row.uid.clone(),
                split,
                fid,
                row.expression.clone(),
            ];
            rows.push((number, &graph.vid, fields));
        }
    }
    // A clip's rows stand together whether or not they refer to something; clips keep their order.
    let mut table = String::from("vid,uid,split,fid,exp\n");
    let mut from = 0;
    while from < rows.len() {
        let same = rows[from..]
            .iter()
            .take_while(|row| row.1 == rows[from].1)
            .count();
        rows[from..from + same].sort_by_key(|row| row.0);
        for (.., fields) in &rows[from..from + same] {
            table.push_str(&fields.join(","));
            table.push('\n');
        }
        from += same;
    }
    table.into_bytes()
}

fn jpeg(frame: &RgbImage, path: &Path) -> Result<Vec<u8>, SynthError> {
    let mut bytes = Vec::new();
    codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
        .encode_image(frame)
        .map_err(|error| content(path, "a frame", error.to_string()))?;
    Ok(bytes)
}

fn png(mask: &GrayImage, path: &Path) -> Result<Vec<u8>, SynthError> {
    let mut bytes = Vec::new();
    codecs::png::PngEncoder::new(&mut bytes)
        .write_image(mask, mask.width(), mask.height(), ExtendedColorType::L8)
        .map_err(|error| content(path, "a mask", error.to_string()))?;
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<u64, SynthError> {
    let io = |source| SynthError::Io {
        path: path.into(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    fs::write(path, bytes).map_err(io)?;
    Ok(bytes.len() as u64)
}

fn content(path: &Path, expected: &str, found: String) -> SynthError {
    SynthError::Content {
        path: path.into(),
        expected: expected.into(),
        found,
    }
}
