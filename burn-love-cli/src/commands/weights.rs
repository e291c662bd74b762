//! `weights`: what a weights file holds, and weights from one file format to another.

use std::{collections::BTreeMap, path::Path};

use burn_love::weights::{
    Allow, EncoderFile, EncoderPart, Family, Fit, Format, LoadReport, Sam2File, Selection, Shapes,
    TensorSource, WeightsError, WeightsFile, compare, keys, preset_shapes, shapes_of, write_safetensors,
    write_safetensors_f16, write_torch,
};
use burn_love_train::{
    config::{Source, resolve},
    shipped,
    training::is_elsewhere,
};
use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};

use crate::{
    args::{ConvertArgs, Global, InspectArgs, LOVE},
    device::Outline,
    error::CliError,
    output, printer,
};

/// Runs `weights inspect`.
pub fn inspect(args: &InspectArgs, global: &Global) -> Result<(), CliError> {
    let file = shipped::open(&args.file)?;
    let family = Family::of(&file);
    let mut outline = outline(&file, family);
    outline.encoder = encoder(&args.file)?;
    // SAM 2 as a file of its own, or as a part of SAM2-LOVE.
    let fit = match family {
        Some(Family::Sam2 | Family::Sam2HuggingFace) => {
            let file = Sam2File::new(shipped::open(&args.file)?)?;
            Some(Fit::of::<Outline>(&file.shapes()))
        }
        Some(Family::Love) => Some(Fit::of::<Outline>(&part(&file.shapes(), "sam2."))),
        _ => None,
    };
    if args.json {
        let mut report = outline.to_json(&args.file, fit.as_ref());
        if global.verbose > 0 {
            report["list"] = tensors(&file)
                .map(|(key, dtype, shape)| json!({"name": key, "dtype": dtype, "shape": shape}))
                .collect();
        }
        printer::data(serde_json::to_string_pretty(&report).expect("plain values"));
        return Ok(());
    }
    printer::data(outline.to_table(&args.file, fit.as_ref()));
    if global.verbose > 0 {
        let mut table = Table::new();
        table.load_preset(NOTHING);
        for (key, dtype, shape) in tensors(&file) {
            table.add_row([key.to_owned(), dtype, format!("{shape:?}")]);
        }
        printer::data(format_args!("\n{table}"));
    }
    Ok(())
}

/// Runs `weights convert`.
pub fn convert(args: &ConvertArgs, global: &Global) -> Result<(), CliError> {
    let format = match args.output.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => Format::Safetensors,
        Some("pt") => Format::Torch,
        _ => {
            return Err(CliError::input(format!(
                "{}: expected a name that ends in .safetensors or .pt",
                args.output.display()
            )));
        }
    };
    if format == Format::Torch && args.f16 {
        let message = format!(
            "{}: expected .safetensors beside --f16, found .pt",
            args.output.display()
        );
        return Err(CliError::input(message));
    }
    if args.learned && args.model != LOVE {
        let message = format!("--learned: expected --model {LOVE}, found {}", args.model);
        return Err(CliError::input(message));
    }
    output::prepare_file(&args.output, global.overwrite)?;
    let allow = Allow {
        missing: args.allow_missing,
        unused: args.allow_unused,
    };
    let converted = Models::open(args)?;
    let reports = converted.compare(allow).map_err(refusal)?;
    let mut selection = Selection::default();
    for (source, report) in converted.sources().zip(&reports) {
        selection = selection.and(source, &report.applied);
    }
    let config = converted.config();
    match format {
        Format::Safetensors if args.f16 => write_safetensors_f16(&args.output, &selection, config)?,
        Format::Safetensors => write_safetensors(&args.output, &selection, config)?,
        Format::Torch => write_torch(&args.output, &selection)?,
    }
    let mut report = LoadReport::default();
    for one in reports {
        report.applied.extend(one.applied);
        report.missing.extend(one.missing);
        report.unused.extend(one.unused);
    }
    print(&report, args, converted.family());
    Ok(())
}

/// The models that a file holds, with the shapes that they are to have.
enum Models {
    Sam2(Box<Sam2File>, Shapes),
    /// An encoder, or both towers of CLIP.
    Encoders(Vec<(EncoderFile, Shapes)>),
    /// SAM2-LOVE, or what learned of it.
    Love {
        file: Box<WeightsFile>,
        shapes: Shapes,
        /// Tensors of the file that are in others, too.
        left_out: Vec<String>,
    },
}

impl Models {
    fn open(args: &ConvertArgs) -> Result<Self, CliError> {
        let file = shipped::open(&args.input)?;
        if args.model == LOVE {
            return Self::love(args, file);
        }
        let encoders: Vec<EncoderPart> = EncoderPart::within(&file);
        let open = |part: &EncoderPart| EncoderFile::new(shipped::open(&args.input)?, *part);
        let opened = encoders.iter().map(open);
        let opened = opened.collect::<Result<Vec<_>, WeightsError>>()?;
        let sized: Option<Vec<_>> = opened
            .into_iter()
            .map(|encoder| {
                let shapes = encoder.expected::<Outline>(&args.model)?;
                Some((encoder, shapes))
            })
            .collect();
        match (sized, preset_shapes::<Outline>(&args.model)) {
            (Some(sized), _) if !sized.is_empty() => Ok(Self::Encoders(sized)),
            (_, Some(expected)) => Ok(Self::Sam2(Box::new(Sam2File::new(file)?), expected)),
            (_, None) => {
                let found =
                    Family::of(&file).map_or_else(|| "others".to_owned(), |family| family.to_string());
                let message = format!(
                    "{}: expected weights of {}, found weights of {found}",
                    args.input.display(),
                    args.model
                );
                Err(CliError::input(message).hint("weights inspect names the model"))
            }
        }
    }

    /// SAM2-LOVE as the config inside its file says, or what learned of it.
    fn love(args: &ConvertArgs, file: WeightsFile) -> Result<Self, CliError> {
        let Some(toml) = file.config() else {
            let message = format!("{}: expected a config inside, found none", args.input.display());
            return Err(CliError::input(message).hint("checkpoints of `train` have one"));
        };
        let config = resolve(&[Source::Embedded {
            path: args.input.clone(),
            toml: toml.into(),
        }])?;
        let mut shapes = shapes_of(&config.model.init::<Outline>(&Default::default()), keys::love);
        let mut left_out = Vec::new();
        if args.learned {
            let all = shapes.keys().cloned();
            left_out.extend(all.filter(|key| is_elsewhere(&config, key)));
            left_out.iter().for_each(|key| {
                shapes.remove(key);
            });
        }
        Ok(Self::Love {
            file: Box::new(file),
            shapes,
            left_out,
        })
    }

    fn compare(&self, allow: Allow) -> Result<Vec<LoadReport>, WeightsError> {
        match self {
            Self::Love {
                file,
                shapes,
                left_out,
            } => {
                let mut report = compare(shapes, &**file, file.path())?;
                report.unused.retain(|key| !left_out.contains(key));
                Ok(vec![report.accept(file.path(), allow)?])
            }
            Self::Sam2(file, expected) => Ok(vec![file.compare::<Outline>(expected, allow)?]),
            Self::Encoders(files) => files
                .iter()
                .map(|(file, expected)| file.compare::<Outline>(expected, allow))
                .collect(),
        }
    }

    fn sources(&self) -> Box<dyn Iterator<Item = &dyn TensorSource> + '_> {
        match self {
            Self::Sam2(file, _) => Box::new(std::iter::once(&**file as &dyn TensorSource)),
            Self::Encoders(files) => Box::new(files.iter().map(|(file, _)| file as &dyn TensorSource)),
            Self::Love { file, .. } => Box::new(std::iter::once(&**file as &dyn TensorSource)),
        }
    }

    fn family(&self) -> Family {
        match self {
            Self::Sam2(file, _) => file.family(),
            Self::Encoders(files) => files[0].0.family(),
            Self::Love { .. } => Family::Love,
        }
    }

    /// The config inside the file, which only our own have.
    fn config(&self) -> Option<&str> {
        match self {
            Self::Love { file, .. } => file.config(),
            Self::Sam2(..) | Self::Encoders(_) => None,
        }
    }
}

/// Adds the flags that leave tensors out, where no other model is the better advice.
fn refusal(error: WeightsError) -> CliError {
    let partly = matches!(&error, WeightsError::Keys { fits, .. } if fits.is_empty());
    let error = CliError::from(error);
    if partly {
        return error.hint("--allow-missing and --allow-unused leave out what only one side has");
    }
    error
}

fn print(report: &LoadReport, args: &ConvertArgs, family: Family) {
    if args.json {
        let value = json!({
            "model": args.model,
            "family": family.id(),
            "applied": report.applied.len(),
            "missing": report.missing,
            "unused": report.unused,
            "out": args.output.display().to_string(),
        });
        printer::data(serde_json::to_string_pretty(&value).expect("plain values"));
        return;
    }
    for (what, keys) in [("missing", &report.missing), ("unused", &report.unused)] {
        keys.iter()
            .for_each(|key| printer::note(format_args!("{what}: {key}")));
    }
    printer::data(format_args!(
        "{} of {family}: {} applied, {} missing, {} unused: {}",
        args.model,
        report.applied.len(),
        report.missing.len(),
        report.unused.len(),
        args.output.display()
    ));
}

/// What can be said of a file without reading values.
struct Contents {
    format: Format,
    family: Option<Family>,
    tensors: usize,
    parameters: usize,
    dtypes: BTreeMap<String, usize>,
    config: bool,
    /// Named sizes of an encoder; none where it is no encoder, an empty name where none fits.
    encoder: Option<&'static str>,
}

fn outline(file: &WeightsFile, family: Option<Family>) -> Contents {
    let mut contents = Contents {
        format: file.format(),
        family,
        tensors: 0,
        parameters: 0,
        dtypes: BTreeMap::new(),
        config: file.config().is_some(),
        encoder: None,
    };
    for (_, dtype, shape) in tensors(file) {
        contents.tensors += 1;
        contents.parameters += shape.iter().product::<usize>();
        *contents.dtypes.entry(dtype).or_default() += 1;
    }
    contents
}

/// Named sizes of the encoder, or of a tower of CLIP, that a file holds.
fn encoder(path: &Path) -> Result<Option<&'static str>, WeightsError> {
    let file = shipped::open(path)?;
    let mut names = Vec::new();
    for part in EncoderPart::within(&file) {
        names.push(EncoderFile::new(shipped::open(path)?, part)?.preset::<Outline>());
    }
    if names.is_empty() {
        return Ok(None);
    }
    // Towers of different models make no preset: CLIP ViT-B/32 has the text tower of B/16.
    let first = names.first().copied().flatten();
    let one = first.filter(|_| names.iter().all(|name| *name == first));
    Ok(Some(one.unwrap_or_default()))
}

impl Contents {
    fn to_json(&self, path: &Path, fit: Option<&Fit>) -> Value {
        let format = match self.format {
            Format::Safetensors => "safetensors",
            Format::Torch => "torch",
        };
        let (preset, part_of) = match fit {
            Some(Fit::Whole(name)) => (Some(name), Vec::new()),
            Some(Fit::Part(names)) => (None, names.clone()),
            None => (self.encoder.as_ref().filter(|name| !name.is_empty()), Vec::new()),
        };
        json!({
            "path": path.display().to_string(),
            "format": format,
            "family": self.family.map(Family::id),
            "preset": preset,
            "part_of": part_of,
            "tensors": self.tensors,
            "parameters": self.parameters,
            "dtypes": self.dtypes,
            "config": self.config,
        })
    }

    fn to_table(&self, path: &Path, fit: Option<&Fit>) -> Table {
        let mut table = Table::new();
        table.load_preset(NOTHING);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("file", path.display().to_string());
        row("format", self.format.to_string());
        row(
            "family",
            self.family
                .map_or_else(|| "unknown".to_owned(), |family| family.to_string()),
        );
        match fit {
            Some(Fit::Whole(name)) => row("SAM 2", (*name).to_owned()),
            Some(Fit::Part(names)) if !names.is_empty() => {
                row("SAM 2", format!("a part of {}", names.join(", ")));
            }
            Some(Fit::Part(_)) => row("SAM 2", "no preset".to_owned()),
            None => {}
        }
        match self.encoder {
            Some("") => row("encoder", "no preset".to_owned()),
            Some(name) => row("encoder", name.to_owned()),
            None => {}
        }
        row("tensors", self.tensors.to_string());
        row("parameters", self.parameters.to_string());
        let dtypes = self
            .dtypes
            .iter()
            .map(|(dtype, tensors)| format!("{dtype} ({tensors})"));
        row("types", dtypes.collect::<Vec<_>>().join(", "));
        row("config", if self.config { "inside" } else { "none" }.to_owned());
        table
    }
}

/// Name, type and shape of each tensor.
fn tensors(file: &WeightsFile) -> impl Iterator<Item = (&str, String, Vec<usize>)> {
    file.keys().into_iter().filter_map(|key| {
        let info = file.info(key)?;
        Some((key, info.dtype.to_string(), info.shape))
    })
}

/// The tensors below a prefix, without it.
fn part(shapes: &Shapes, prefix: &str) -> Shapes {
    shapes
        .iter()
        .filter_map(|(key, shape)| Some((key.strip_prefix(prefix)?.to_owned(), shape.clone())))
        .collect()
}
