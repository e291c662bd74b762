//! Attention's kernels: an online softmax over tiles of keys.
//!
//! Dao 2023, FlashAttention-2, in f32 without tensor cores: 16 × 16 threads hold a tile of up to 64 queries by 64 keys, up
//! to four by four scores each, and the tile's output.

use cubecl::prelude::*;

use super::{
    WIDE,
    lanes::{LANES, ROWS, most_of_lanes, sum_of_lanes},
};

/// Threads of a cube along each axis.
pub(super) const SIDE: usize = 16;
/// Keys of a tile.
pub(super) const KEYS: usize = 64;
/// Keys of a thread.
const EACH: usize = KEYS / SIDE;
/// Row of the tile's weights in vectors, odd so that rows start in different banks.
const WEIGHTS: usize = KEYS / WIDE + 1;
/// Below every score, above minus infinity: differences stay finite.
const NEVER: f32 = -3.0e38;
/// Most vectors of the output's row that a thread holds.
const COLUMNS: usize = 4;

/// Sizes that a kernel is compiled for, in vectors of [`WIDE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sizes {
    /// Queries of a thread.
    pub(super) queries: usize,
    /// Values' rows that are staged at a time.
    pub(super) staged: usize,
    /// Width of a staged slice of queries and keys.
    pub(super) slice: usize,
    /// Such slices in a head.
    pub(super) slices: usize,
    /// Columns of the output of one thread.
    pub(super) columns: usize,
    /// Whether keys may be ignored: those whose bias is negative, which takes the place of their scores.
    pub(super) biased: bool,
    /// Whether partial results are written.
    pub(super) partial: bool,
}

impl Sizes {
    /// The largest tiles that fit into `shared` bytes of a cube's memory, if any do.
    pub(super) fn fit(dh: usize, dv: usize, biased: bool, shared: usize) -> Option<Self> {
        let width = dh / WIDE;
        let slice = (3..=8).rev().find(|n| width.is_multiple_of(*n)).unwrap_or(8);
        let sizes = |(queries, staged)| Self {
            queries,
            staged,
            slice,
            slices: width.div_ceil(slice),
            columns: (dv / WIDE).div_ceil(SIDE),
            biased,
            partial: false,
        };
        let mut tiles = [(4, 16), (2, 16), (1, 16), (1, 8)].into_iter().map(sizes);
        tiles.find(|sizes| sizes.columns <= COLUMNS && sizes.shared() <= shared)
    }

    /// Queries of a tile.
    pub(super) const fn tile(&self) -> usize {
        SIDE * self.queries
    }

    /// Row of the queries in vectors, odd.
    const fn query_pitch(&self) -> usize {
        (self.slice * self.slices) | 1
    }

    /// Row of a slice of keys in vectors, odd.
    const fn key_pitch(&self) -> usize {
        self.slice | 1
    }

    /// Row of the values in vectors.
    const fn value_pitch(&self) -> usize {
        self.columns * SIDE
    }

    /// Vectors that hold a slice of keys or of values.
    fn stage(&self) -> usize {
        (KEYS * self.key_pitch()).max(self.staged * self.value_pitch())
    }

    /// Threads that share a row of weights.
    const fn sharers(&self) -> usize {
        SIDE / self.queries
    }

    /// Bytes of a cube's shared memory.
    fn shared(&self) -> usize {
        let vectors = self.tile() * (self.query_pitch() + WEIGHTS) + self.stage();
        4 * (WIDE * vectors + 2 * self.tile() + SIDE * SIDE)
    }
}

/// Attention of one tile of queries of one head to its part of the keys: x counts tiles, y heads of all entries, z parts.
/// Where there are several parts, `output` gets sums of weighted values, and `sums` the maxima and denominators of the rows.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "a kernel's bindings")]
pub(super) fn tiles<N: Size>(
    query: &Tensor<Vector<f32, N>>,
    key: &Tensor<Vector<f32, N>>,
    value: &Tensor<Vector<f32, N>>,
    bias: &Tensor<f32>,
    output: &mut Tensor<Vector<f32, N>>,
    sums: &mut Array<f32>,
    scale: f32,
    tiles_of_a_part: u32,
    #[comptime] sizes: Sizes,
) {
    let x = UNIT_POS_X as usize;
    let y = UNIT_POS_Y as usize;
    let unit = y * SIDE + x;
    let heads = query.shape(1);
    let entry = CUBE_POS_Y as usize;
    let (b, h) = (entry / heads, entry % heads);
    let part = CUBE_POS_Z as usize;
    let first = CUBE_POS_X as usize * comptime!(sizes.tile());
    let queries_in = query.shape(2);
    let keys_in = key.shape(2);
    let query_start = b * query.stride(0) + h * query.stride(1);
    let key_start = b * key.stride(0) + h * key.stride(1);
    let value_start = b * value.stride(0) + h * value.stride(1);
    let query_width = query.shape(3) / WIDE;
    let value_width = value.shape(3) / WIDE;

    let query_pitch = comptime!(sizes.query_pitch());
    let key_pitch = comptime!(sizes.key_pitch());
    let value_pitch = comptime!(sizes.value_pitch());
    let columns = comptime!(sizes.columns);
    let slice = comptime!(sizes.slice);
    let rows = comptime!(sizes.queries);
    let sharers = comptime!(sizes.sharers());
    let units = comptime!(SIDE * SIDE);

    let mut queries = SharedMemory::<Vector<f32, N>>::new(comptime!(sizes.tile() * sizes.query_pitch()));
    let mut stage = SharedMemory::<Vector<f32, N>>::new(comptime!(sizes.stage()));
    let mut weights = SharedMemory::<Vector<f32, N>>::new(comptime!(sizes.tile() * WEIGHTS));
    let mut maxima = SharedMemory::<f32>::new(comptime!(sizes.tile()));
    let mut rescale = SharedMemory::<f32>::new(comptime!(sizes.tile()));
    let mut reduced = SharedMemory::<f32>::new(comptime!(SIDE * SIDE));

    // Queries, scaled.
    let row_width = comptime!(sizes.slice * sizes.slices);
    for i in range_stepped(unit, comptime!(sizes.tile() * sizes.slice * sizes.slices), units) {
        let row = i / row_width;
        let d = i % row_width;
        let mut read = Vector::new(0.0f32);
        if first + row < queries_in && d < query_width {
            read = query[(query_start + (first + row) * query.stride(2)) / WIDE + d];
        }
        queries[row * query_pitch + d] = read * Vector::new(scale);
    }
    if unit < comptime!(sizes.tile()) {
        maxima[unit] = NEVER;
    }

    let mut out = Array::<Vector<f32, N>>::new(comptime!(sizes.queries * sizes.columns));
    #[unroll]
    for i in 0..comptime!(sizes.queries * sizes.columns) {
        out[i] = Vector::new(0.0f32);
    }
    // The threads that share a row of weights, and what the first of them keeps of it.
    let row = unit / sharers;
    let share = unit % sharers;
    let mut denominator = 0.0f32;

    let begin = part * tiles_of_a_part as usize;
    let all = keys_in.div_ceil(KEYS);
    let mut end = begin + tiles_of_a_part as usize;
    if end > all {
        end = all;
    }
    for tile in begin..end {
        let first_key = tile * KEYS;

        // Scores of the queries y, y + 16, … and the four keys behind 4x.
        let mut scores = Array::<f32>::new(comptime!(sizes.queries * EACH));
        #[unroll]
        for i in 0..comptime!(sizes.queries * EACH) {
            scores[i] = 0.0f32;
        }
        for at in 0..comptime!(sizes.slices) {
            sync_cube();
            for i in range_stepped(unit, comptime!(KEYS * sizes.slice), units) {
                let key_row = i / slice;
                let d = i % slice;
                let from = at * slice + d;
                let mut read = Vector::new(0.0f32);
                if first_key + key_row < keys_in && from < query_width {
                    read = key[(key_start + (first_key + key_row) * key.stride(2)) / WIDE + from];
                }
                // The four keys of a thread lie 16 rows apart: neighbours read neighbouring rows.
                let place = (key_row % EACH) * SIDE + key_row / EACH;
                stage[place * key_pitch + d] = read;
            }
            sync_cube();
            #[unroll]
            for d in 0..slice {
                let mut k = Array::<Vector<f32, N>>::new(EACH);
                #[unroll]
                for j in 0..EACH {
                    k[j] = stage[(x + SIDE * j) * key_pitch + d];
                }
                #[unroll]
                for i in 0..rows {
                    let q = queries[(y + SIDE * i) * query_pitch + at * slice + d];
                    #[unroll]
                    for j in 0..EACH {
                        let kj = k[j];
                        #[unroll]
                        for e in 0..WIDE {
                            scores[i * EACH + j] += q[e] * kj[e];
                        }
                    }
                }
            }
        }
        #[unroll]
        for i in 0..rows {
            let mut four = Vector::<f32, N>::empty();
            #[unroll]
            for j in 0..EACH {
                let position = first_key + x * EACH + j;
                let mut score = scores[i * EACH + j];
                if comptime!(sizes.biased) && position < keys_in {
                    let ignored = bias[b * bias.stride(0) + position];
                    if ignored < 0.0 {
                        score = ignored;
                    }
                }
                if position >= keys_in {
                    score = NEVER;
                }
                four[j] = score;
            }
            weights[(y + SIDE * i) * WEIGHTS + x] = four;
        }
        sync_cube();

        // Softmax.
        let before = maxima[row];
        let mut most = before;
        #[unroll]
        for c in 0..rows {
            let four = weights[row * WEIGHTS + share + sharers * c];
            #[unroll]
            for e in 0..WIDE {
                most = max(most, four[e]);
            }
        }
        reduced[unit] = most;
        sync_cube();
        #[unroll]
        for e in 0..sharers {
            most = max(most, reduced[row * sharers + e]);
        }
        let mut sum = 0.0f32;
        #[unroll]
        for c in 0..rows {
            let place = row * WEIGHTS + share + sharers * c;
            let four = (weights[place] - Vector::new(most)).exp();
            weights[place] = four;
            #[unroll]
            for e in 0..WIDE {
                sum += four[e];
            }
        }
        let kept = (before - most).exp();
        if share == 0 {
            maxima[row] = most;
            rescale[row] = kept;
        }
        sync_cube();
        reduced[unit] = sum;
        #[unroll]
        for i in 0..rows {
            let kept = Vector::new(rescale[y + SIDE * i]);
            #[unroll]
            for j in 0..columns {
                out[i * columns + j] *= kept;
            }
        }

        // Weighted values.
        for group in 0..comptime!(KEYS / sizes.staged) {
            let from = first_key + group * comptime!(sizes.staged);
            for i in range_stepped(unit, comptime!(sizes.staged * sizes.value_pitch()), units) {
                let value_row = i / value_pitch;
                let d = i % value_pitch;
                let mut read = Vector::new(0.0f32);
                if from + value_row < keys_in && d < value_width {
                    read = value[(value_start + (from + value_row) * value.stride(2)) / WIDE + d];
                }
                stage[i] = read;
            }
            sync_cube();
            #[unroll]
            for four in 0..comptime!(sizes.staged / WIDE) {
                let mut p = Array::<Vector<f32, N>>::new(rows);
                #[unroll]
                for i in 0..rows {
                    p[i] = weights[(y + SIDE * i) * WEIGHTS + group * comptime!(sizes.staged / WIDE) + four];
                }
                #[unroll]
                for e in 0..WIDE {
                    #[unroll]
                    for j in 0..columns {
                        let v = stage[(four * WIDE + e) * value_pitch + x + SIDE * j];
                        #[unroll]
                        for i in 0..rows {
                            let pi = p[i];
                            out[i * columns + j] += Vector::new(pi[e]) * v;
                        }
                    }
                }
            }
            sync_cube();
        }
        if share == 0 {
            let mut sum = 0.0f32;
            #[unroll]
            for e in 0..sharers {
                sum += reduced[unit + e];
            }
            denominator = denominator * kept + sum;
        }
    }

    let batches = query.shape(0);
    if comptime!(sizes.partial) {
        if share == 0 && first + row < queries_in {
            let all = batches * heads * queries_in;
            let at = part * 2 * all + entry * queries_in + first + row;
            sums[at] = maxima[row];
            sums[at + all] = denominator;
        }
    } else if share == 0 {
        rescale[row] = 1.0f32 / denominator;
    }
    sync_cube();
    let batch = part * batches + b;
    #[unroll]
    for i in 0..rows {
        let row = first + y + SIDE * i;
        if row < queries_in {
            let start = (batch * output.stride(0) + h * output.stride(1) + row * output.stride(2)) / WIDE;
            #[unroll]
            for j in 0..columns {
                let d = x + SIDE * j;
                if d < value_width {
                    if comptime!(sizes.partial) {
                        output[start + d] = out[i * columns + j];
                    } else {
                        output[start + d] = out[i * columns + j] * Vector::new(rescale[y + SIDE * i]);
                    }
                }
            }
        }
    }
}

/// Joins what the parts of the keys gave: each thread one vector of the output.
#[cube(launch_unchecked)]
pub(super) fn join<N: Size>(
    parts: &Array<Vector<f32, N>>,
    sums: &Array<f32>,
    output: &mut Tensor<Vector<f32, N>>,
    count: u32,
) {
    let width = output.shape(3) / WIDE;
    let (heads, rows) = (output.shape(1), output.shape(2));
    let all = output.shape(0) * heads * rows;
    if ABSOLUTE_POS >= all * width {
        terminate!();
    }
    let row = ABSOLUTE_POS / width;
    let d = ABSOLUTE_POS % width;
    let mut most = sums[row];
    for part in 1..count as usize {
        most = max(most, sums[part * 2 * all + row]);
    }
    let mut sum = 0.0f32;
    let mut joined = Vector::new(0.0f32);
    for part in 0..count as usize {
        let at = part * 2 * all + row;
        let weight = (sums[at] - most).exp();
        sum += weight * sums[at + all];
        joined += parts[(part * all + row) * width + d] * Vector::new(weight);
    }
    let l = row % rows;
    let h = (row / rows) % heads;
    let b = row / (rows * heads);
    let start = (b * output.stride(0) + h * output.stride(1) + l * output.stride(2)) / WIDE;
    output[start + d] = joined / Vector::new(sum);
}

/// The softmax of each row of unscaled scores `[B, heads, Lq, Lk]`, in place.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "a kernel's bindings")]
pub(super) fn weigh(
    scores: &mut Array<f32>,
    bias: &Tensor<f32>,
    scale: f32,
    keys: u32,
    rows: u32,
    rows_of_an_entry: u32,
    #[comptime] biased: bool,
) {
    let lane = UNIT_POS_X as usize;
    let slot = UNIT_POS_Y as usize;
    let row = CUBE_POS * ROWS + slot;
    let mut shared = SharedMemory::<f32>::new(comptime!(LANES * ROWS));
    // A row behind the last has no keys.
    let mut end = keys as usize;
    if row >= rows as usize {
        end = 0;
    }
    let start = row * keys as usize;
    let b = row / rows_of_an_entry as usize;
    let mut most = f32::new(NEVER);
    for k in range_stepped(lane, end, LANES) {
        let mut score = scores[start + k] * scale;
        if comptime!(biased) {
            let ignored = bias[b * bias.stride(0) + k];
            if ignored < 0.0 {
                score = ignored;
            }
        }
        scores[start + k] = score;
        most = max(most, score);
    }
    let most = most_of_lanes(most, &mut shared, lane, slot);
    let mut sum = 0.0f32;
    for k in range_stepped(lane, end, LANES) {
        let weight = (scores[start + k] - most).exp();
        scores[start + k] = weight;
        sum += weight;
    }
    let sum = sum_of_lanes(sum, &mut shared, lane, slot);
    for k in range_stepped(lane, end, LANES) {
        scores[start + k] /= sum;
    }
}

/// Gradients of the unscaled scores, in place of those of the weights: `P·(dP − Σ P·dP)·scale`, none of ignored keys.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "a kernel's bindings")]
pub(super) fn through_softmax(
    slopes: &mut Array<f32>,
    weights: &Array<f32>,
    bias: &Tensor<f32>,
    scale: f32,
    keys: u32,
    rows: u32,
    rows_of_an_entry: u32,
    #[comptime] biased: bool,
) {
    let lane = UNIT_POS_X as usize;
    let slot = UNIT_POS_Y as usize;
    let row = CUBE_POS * ROWS + slot;
    let mut shared = SharedMemory::<f32>::new(comptime!(LANES * ROWS));
    // A row behind the last has no keys.
    let mut end = keys as usize;
    if row >= rows as usize {
        end = 0;
    }
    let start = row * keys as usize;
    let b = row / rows_of_an_entry as usize;
    let mut dot = 0.0f32;
    for k in range_stepped(lane, end, LANES) {
        dot += weights[start + k] * slopes[start + k];
    }
    let dot = sum_of_lanes(dot, &mut shared, lane, slot);
    for k in range_stepped(lane, end, LANES) {
        let mut slope = weights[start + k] * (slopes[start + k] - dot) * scale;
        if comptime!(biased) && bias[b * bias.stride(0) + k] < 0.0 {
            slope = 0.0f32;
        }
        slopes[start + k] = slope;
    }
}
