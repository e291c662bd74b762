use super::*;

/// Fractions between -1 and 1 that follow no simple pattern: their sums depend on their order.
pub(in super::super) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(count)
    .collect()
}

/// A matrix by rows, by columns, or with gaps both ways.
fn matrix(values: &[f32], rows: usize, columns: usize, order: usize) -> Matrix<'_> {
    match order {
        0 => Matrix::dense(values, rows, columns),
        1 => Matrix::dense(values, columns, rows).transposed(),
        _ => Matrix::strided(values, [rows, columns], [2 * columns, 2]),
    }
}

fn at(matrix: Matrix<'_>, row: usize, column: usize) -> f64 {
    f64::from(matrix.storage[row * matrix.row_stride + column * matrix.column_stride])
}

/// A buffer that is used again: what packing leaves out shows.
fn stale() -> Vec<f32> {
    LEFT.set(vec![f32::NAN; 1 << 18]);
    vec![f32::NAN; 1 << 18]
}

/// `1 + left·right/2`, and `bias + left·right/2`.
#[allow(unsafe_code, reason = "see `multiply`")]
fn products(kernel: &'static Kernel, left: Matrix<'_>, right: Matrix<'_>, bias: &[f32]) -> [Vec<f32>; 2] {
    let panels = Panels::pack(kernel, right, 0.5, stale(), false);
    let mut added = vec![1.0; left.rows * right.columns];
    multiply_into(left, &panels, &mut added, true);
    let mut fresh = vec![f32::NAN; left.rows * right.columns];
    // SAFETY: it holds values.
    unsafe {
        let out = Output::new(maybe(&mut fresh), right.columns);
        multiply(left, &panels, out, Start::Row(bias));
    }
    [added, fresh]
}

/// What a sum is rounded to, of terms of such a size in all.
const ROUNDING: f64 = 1.0 / (1 << 22) as f64;

#[test]
fn every_kernel_gives_sums_of_products() {
    for [rows, depth, columns] in [
        [1, 1, 1],
        [5, 3, 16],
        [8, 70, 48],
        [16, 32, 32],
        [17, 600, 131],
        [29, 1100, 97],
        [150, 33, 40],
        [150, 600, 40],
    ] {
        let (a, b) = (numbers(2 * rows * depth, 1), numbers(2 * depth * columns, 2));
        let bias = numbers(columns, 3);
        for order in 0..3 {
            let right = matrix(&b, depth, columns, order);
            for kernel in Kernel::usable() {
                let left = matrix(&a, rows, depth, if kernel.packs_left() { order } else { 0 });
                let [added, fresh] = products(kernel, left, right, &bias);
                for (i, (added, fresh)) in added.iter().zip(&fresh).enumerate() {
                    let (row, column) = (i / columns, i % columns);
                    let terms = (0..depth).map(|k| 0.5 * at(left, row, k) * at(right, k, column));
                    let (sum, size) = terms.fold((0.0, 1.0), |(sum, size), x| (sum + x, size + x.abs()));
                    for (found, start) in [(*added, 1.0), (*fresh, bias[column])] {
                        let error = (f64::from(found) - f64::from(start) - sum).abs();
                        assert!(
                            error < ROUNDING * size,
                            "{}, {rows}·{depth}·{columns}, order {order}, [{row}, {column}]: off by {error:e}",
                            kernel.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
#[allow(clippy::print_stderr, reason = "says what was not compared")]
fn kernels_of_vectors_give_the_same_sums() {
    let kernels: Vec<_> = Kernel::usable().filter(|kernel| !kernel.packs_left()).collect();
    if kernels.len() < 2 {
        eprintln!("not compared: this processor has {} of them", kernels.len());
    }
    for [rows, depth, columns] in [[1, 1, 1], [5, 3, 16], [8, 70, 48], [17, 600, 131], [29, 1100, 97]] {
        let (a, b) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
        let bias = numbers(columns, 3);
        for order in 0..2 {
            let (left, right) = (Matrix::dense(&a, rows, depth), matrix(&b, depth, columns, order));
            let found: Vec<_> = kernels
                .iter()
                .map(|kernel| products(kernel, left, right, &bias))
                .collect();
            assert!(
                found.windows(2).all(|pair| pair[0] == pair[1]),
                "{rows}·{depth}·{columns}, order {order}"
            );
        }
    }
}

/// Products of bf16 in threes are no worse than fused multiply-adds: their errors' mean square over many sums says so.
#[test]
#[cfg(target_arch = "x86_64")]
#[allow(clippy::print_stderr, reason = "a test that skips itself says so")]
fn tiles_are_as_exact_as_vectors() {
    let find = |packs: bool| Kernel::usable().find(|kernel| kernel.packs_left() == packs);
    let (Some(tiles), Some(vectors)) = (find(true), find(false)) else {
        eprintln!("skipped: this processor has no tiles");
        return;
    };
    for depth in [8, 64, 1000] {
        let (rows, columns) = (64, 64);
        let (a, b) = (numbers(rows * depth, depth as u64), numbers(depth * columns, 2));
        // Sizes from 2⁻⁶⁰ to 2⁶⁶, the same for all terms of a sum.
        let scaled: Vec<_> = a
            .iter()
            .enumerate()
            .map(|(i, x)| x * 2f32.powi((i / depth) as i32 * 2 - 60))
            .collect();
        let (left, right) = (
            Matrix::dense(&scaled, rows, depth),
            Matrix::dense(&b, depth, columns),
        );
        let error = |kernel| {
            let panels = Panels::pack(kernel, right, 1.0, stale(), false);
            let mut out = vec![f32::NAN; rows * columns];
            multiply_into(left, &panels, &mut out, false);
            let errors = out.iter().enumerate().map(|(i, found)| {
                let (row, column) = (i / columns, i % columns);
                let sum: f64 = (0..depth).map(|k| at(left, row, k) * at(right, k, column)).sum();
                ((f64::from(*found) - sum) * 2f64.powi(60 - 2 * row as i32)).powi(2)
            });
            errors.sum::<f64>().sqrt()
        };
        let (tiles, vectors) = (error(tiles), error(vectors));
        assert!(tiles <= vectors, "{depth} terms: {tiles:e}, vectors {vectors:e}");
    }
}

/// As gradients are now and then; where the kernel has no such numbers they count as zero.
#[test]
fn tiny_numbers_do_not_spoil_sums() {
    /// What may be lost of a term, whose factors are below 1: of each of its two numbers a part, and six products.
    const LOST: f64 = 8.0 * f32::MIN_POSITIVE as f64;
    let [rows, depth, columns] = [40, 70, 48];
    let tiny: Vec<_> = numbers(2 * rows.max(columns) * depth, 1)
        .into_iter()
        .enumerate()
        .map(|(i, x)| (f64::from(x) * 2f64.powi(-90 - (i % 60) as i32)) as f32)
        .collect();
    let usual = numbers(2 * rows.max(columns) * depth, 2);
    for kernel in Kernel::usable() {
        for order in 0..3 {
            for (a, b) in [(&tiny, &usual), (&usual, &tiny)] {
                let left = matrix(a, rows, depth, if kernel.packs_left() { order } else { 0 });
                let right = matrix(b, depth, columns, order);
                let panels = Panels::pack(kernel, right, 1.0, stale(), false);
                let mut out = vec![f32::NAN; rows * columns];
                multiply_into(left, &panels, &mut out, false);
                for (i, found) in out.iter().enumerate() {
                    let (row, column) = (i / columns, i % columns);
                    let terms = (0..depth).map(|k| at(left, row, k) * at(right, k, column));
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                    let error = (f64::from(*found) - sum).abs();
                    assert!(
                        error <= depth as f64 * (size * f64::from(f32::EPSILON) / 2.0 + LOST),
                        "{}, order {order}, [{row}, {column}]: {found:e}, not {sum:e}",
                        kernel.name
                    );
                }
            }
        }
    }
}

/// Tiles round the upper part of such a number to infinity.
#[test]
fn numbers_too_large_for_tiles_do_not_pass_as_others() {
    for kernel in Kernel::usable().filter(|kernel| kernel.packs_left()) {
        let (mut a, b) = (numbers(40 * 70, 1), numbers(70 * 48, 2));
        a[3 * 70 + 69] = f32::MAX;
        let panels = Panels::pack(kernel, Matrix::dense(&b, 70, 48), 1.0, stale(), false);
        let mut out = vec![0.0; 40 * 48];
        multiply_into(Matrix::dense(&a, 40, 70), &panels, &mut out, false);
        for (i, x) in out.iter().enumerate() {
            assert_eq!(
                x.is_finite(),
                i / 48 != 3,
                "{}, [{}, {}]",
                kernel.name,
                i / 48,
                i % 48
            );
        }
    }
}

#[test]
fn what_is_no_number_is_not_lost() {
    let [rows, depth, columns] = [40, 70, 48];
    // Where a term of order 0, 1 and 2 lies.
    let place = |row: usize, column: usize, [rows, columns]: [usize; 2], order: usize| match order {
        0 => row * columns + column,
        1 => column * rows + row,
        _ => 2 * (row * columns + column),
    };
    for kernel in Kernel::usable() {
        for odd in [f32::NAN, -f32::NAN, f32::from_bits(0x7fff_ffff), f32::INFINITY] {
            for order in 0..3 {
                let (usual, other) = (numbers(2 * rows * depth, 1), numbers(2 * depth * columns, 2));
                let left_order = if kernel.packs_left() { order } else { 0 };
                let product = |a: &[f32], b: &[f32]| {
                    let panels = Panels::pack(kernel, matrix(b, depth, columns, order), 1.0, stale(), false);
                    let mut out = vec![0.0; rows * columns];
                    multiply_into(matrix(a, rows, depth, left_order), &panels, &mut out, false);
                    out
                };
                let (mut a, mut b) = (usual.clone(), other.clone());
                a[place(3, 69, [rows, depth], left_order)] = odd;
                b[place(68, 33, [depth, columns], order)] = odd;
                let (left, right) = (product(&a, &other), product(&usual, &b));
                for i in 0..rows * columns {
                    let found = [left[i].is_finite(), right[i].is_finite()];
                    let expected = [i / columns != 3, i % columns != 33];
                    assert_eq!(
                        found,
                        expected,
                        "{}, {odd}, order {order}, [{}, {}]",
                        kernel.name,
                        i / columns,
                        i % columns
                    );
                }
            }
        }
    }
}
