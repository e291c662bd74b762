//! Values of options, read from text; errors say what was expected.

/// CPU threads.
pub fn threads(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=1024).contains(n))
        .ok_or_else(|| "expected 1 to 1024 threads".into())
}

/// Frames a second.
pub fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|fps| *fps > 0.0 && *fps <= 240.0)
        .ok_or_else(|| "expected 0 < FPS ≤ 240".into())
}

/// Side of SAM 2's image.
pub fn image_size(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|side: &usize| (64..=4096).contains(side) && side.is_multiple_of(32))
        .ok_or_else(|| "expected a multiple of 32 from 64 to 4096".into())
}

fn numbers<const N: usize>(text: &str) -> Option<[f32; N]> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let numbers: [f32; N] = numbers.ok()?.try_into().ok()?;
    numbers.iter().all(|x| x.is_finite()).then_some(numbers)
}

/// A point and whether it is on the object.
pub fn point(text: &str) -> Result<([f32; 2], bool), String> {
    match numbers(text) {
        Some([x, y, label]) if label == 0.0 || label == 1.0 => Ok(([x, y], label == 1.0)),
        _ => Err("expected X,Y,LABEL with a label of 0 or 1, such as 120,80.5,1".into()),
    }
}

/// A box.
pub fn corners(text: &str) -> Result<[f32; 4], String> {
    match numbers(text) {
        Some([x0, y0, x1, y1]) if x0 < x1 && y0 < y1 => Ok([x0, y0, x1, y1]),
        _ => Err("expected X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1, such as 10,20,110,80".into()),
    }
}

/// Width and height.
pub fn size(text: &str) -> Result<(u32, u32), String> {
    let parsed = text
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    parsed.ok_or_else(|| "expected WIDTHxHEIGHT, such as 224x128".into())
}

/// A number of bytes, with a unit of powers of 1000 or 1024 or without one.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024f64.powi(2),
        "gib" => 1024f64.powi(3),
        "tib" => 1024f64.powi(4),
        _ => return Err("expected a size such as 500MB, 64GB or 1TiB".into()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a size such as 500MB, 64GB or 1TiB")?;
    Ok((number * unit) as u64)
}

/// Runs of a case.
pub fn runs(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=10_000).contains(n))
        .ok_or_else(|| "expected 1 to 10000 runs".into())
}

/// Clicks along a side, or at a time.
pub fn clicks(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=1024).contains(n))
        .ok_or_else(|| "expected 1 to 1024 clicks".into())
}

/// Layers of crops.
pub fn layers(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (0..=4).contains(n))
        .ok_or_else(|| "expected 0 to 4 layers".into())
}

/// A part of a whole.
pub fn fraction(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|x| (0.0..=1.0).contains(x))
        .ok_or_else(|| "expected a number from 0 to 1".into())
}
