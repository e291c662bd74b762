//! Loading a model takes its own memory and that of a tensor, not that of the file once more.
//!
//! One test in a process of its own: what is measured is the process's.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, backend::Backend};
use burn_love::{
    sam2::{Sam2, Sam2Config},
    weights::{Allow, Sam2File, Shapes, preset_shapes},
};
use serde_json::{Map, json};

type Cpu = burn_flex::Flex;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A file of the shapes, each value the position it has among all of them.
fn write(path: &Path, shapes: &Shapes) -> std::io::Result<()> {
    let mut end = 0;
    let mut header = Map::new();
    for (key, shape) in shapes {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        header.insert(key.clone(), entry);
    }
    let header = serde_json::to_vec(&header)?;
    let mut file = std::io::BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for i in 0..end / 4 {
        file.write_all(&(i as f32).to_le_bytes())?;
    }
    file.flush()
}

/// The most memory that the process has used, in bytes.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(1024 * kilobytes)
}

#[derive(Default)]
struct Sum(f64);

impl<B: Backend> ModuleVisitor<B> for Sum {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let data = param.val().into_data();
        let values = data.as_slice::<f32>().expect("f32 weights");
        self.0 += values.iter().map(|value| f64::from(*value)).sum::<f64>();
    }
}

#[test]
fn a_model_is_loaded_in_its_own_memory() {
    use std::io::stderr;
    // By hand, with 2 GB of disk and memory to spare: BURN_LOVE_MEMORY_PRESET=sam2.1-hiera-large; and with
    // BURN_LOVE_MEMORY_FILE=FILE a checkpoint of that preset in any format, whose values are not known here.
    let preset = std::env::var("BURN_LOVE_MEMORY_PRESET").unwrap_or_else(|_| "sam2.1-hiera-tiny".into());
    let Some(before) = peak() else {
        writeln!(stderr(), "skipped: no /proc/self/status on this system").ok();
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let given = std::env::var_os("BURN_LOVE_MEMORY_FILE").map(PathBuf::from);
    let path = given
        .clone()
        .unwrap_or_else(|| folder.path().join("weights.safetensors"));
    let shapes = preset_shapes::<Cpu>(&preset).expect("a preset");
    if given.is_none() {
        write(&path, &shapes).unwrap();
    }
    let file_size = fs::metadata(&path).unwrap().len();
    let largest = shapes
        .values()
        .map(|shape| 4 * shape.iter().product::<usize>())
        .max();
    let largest = largest.expect("a model has tensors") as u64;

    let began = std::time::Instant::now();
    let file = Sam2File::open(&path).unwrap();
    let config = Sam2Config::preset(&preset).expect("a preset");
    let (model, _): (Sam2<Cpu>, _) = file
        .load_into(config.init(&Default::default()), Allow::default())
        .unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let used = peak().unwrap() - before;
    let ratio = used as f64 / file_size as f64;
    writeln!(
        stderr(),
        "{preset}: a file of {file_size} bytes in {seconds:.2} s and {used} bytes ({ratio:.2} of the file)"
    )
    .ok();
    // A second copy of the file would exceed it by far; the process itself and what the allocator keeps do not.
    let bound = file_size * 3 / 2 + 4 * largest;
    assert!(
        used <= bound,
        "{used} bytes for a file of {file_size}: expected at most {bound}"
    );
    if given.is_some() {
        return;
    }
    // The values arrived: each number once, whatever the layout.
    let count = (shapes
        .values()
        .map(|shape| shape.iter().product::<usize>())
        .sum::<usize>()) as u64;
    let expected: f64 = (0..count).map(|i| f64::from(i as f32)).sum();
    let mut sum = Sum::default();
    model.visit(&mut sum);
    assert!(
        ((sum.0 - expected) / expected).abs() < 1e-9,
        "{} and {expected}",
        sum.0
    );
}
