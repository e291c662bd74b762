//! Copies of views into their own order: runs where the last dimension lies together, tiles where another one does.

use burn::tensor::{Element, Shape, TensorMetadata};
use burn_flex::Layout;

use super::*;

/// Side of a tile of which both rows and columns stay in a core's first cache.
const TILE: usize = 16;

/// Outermost rows that are too few to be shared: their insides are.
const FEW: usize = 8;

/// Permutes on the fast road, or hands the tensor back.
pub(in super::super) fn permute<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    axes: [usize; D],
) -> Result<Tensor<B, D>, Tensor<B, D>> {
    if x.dtype() != f32::dtype() {
        return Err(x);
    }
    let x = match cast::<_, Tensor<Flex, D>>(x) {
        Ok(x) => {
            let y = wrap::<Flex, D>(permuted(primitive(x), &axes));
            return Ok(same_type(cast(y)));
        }
        Err(x) => x,
    };
    let x = primitive(cast::<_, Tensor<AutodiffFlex, D>>(x)?);
    let y = permuted(x.primitive, &axes);
    let y = match Permute
        .prepare::<NoCheckpointing>([x.node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let mut inverse = vec![0; D];
            axes.iter().enumerate().for_each(|(i, axis)| inverse[*axis] = i);
            prep.finish(inverse, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    };
    Ok(same_type(cast(wrap::<AutodiffFlex, D>(y))))
}

#[derive(Debug)]
struct Permute;

impl Backward<Flex, 1> for Permute {
    type State = Vec<usize>;

    fn backward(self, ops: Ops<Vec<usize>, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        burn_autodiff::ops::unary::<Flex, _>(ops.parents, ops.node, grads, |grad| permuted(grad, &ops.state));
    }
}

/// `x` with its dimensions in the order of `axes`, copied unless it lies so.
pub(super) fn permuted(x: FlexTensor, axes: &[usize]) -> FlexTensor {
    let x = x.permute(axes);
    if x.is_contiguous() || x.shape().num_elements() == 0 {
        return x;
    }
    if !x.layout().has_positive_strides() {
        return x.to_contiguous();
    }
    let dimensions = dimensions(&x.shape(), x.layout().strides());
    if matches!(dimensions[..], [] | [Dimension { from: 1, .. }]) {
        // It lies so; only the strides of dimensions of one element say otherwise.
        let strides = Layout::contiguous(x.shape()).strides().to_vec();
        let layout = Layout::new(x.shape(), strides, x.layout().start_offset());
        return x.with_layout(layout);
    }
    let mut y = zeros(x.shape());
    let source = &x.storage::<f32>()[x.layout().start_offset()..];
    copy(source, &dimensions, y.storage_mut());
    y
}

/// One dimension of a copy.
#[derive(Clone, Copy)]
struct Dimension {
    size: usize,
    /// Step in the source.
    from: usize,
    /// Step in the copy.
    to: usize,
}

/// The dimensions of a copy, outermost first: without those of one element, neighbours joined where they can be.
fn dimensions(shape: &Shape, strides: &[isize]) -> Vec<Dimension> {
    let mut joined: Vec<Dimension> = Vec::with_capacity(strides.len());
    for (size, stride) in shape.iter().zip(strides) {
        let (size, from) = (*size, *stride as usize);
        match joined.last_mut() {
            _ if size == 1 => {}
            Some(outer) if outer.from == size * from => {
                outer.size *= size;
                outer.from = from;
            }
            _ => joined.push(Dimension { size, from, to: 1 }),
        }
    }
    let mut to = 1;
    for dimension in joined.iter_mut().rev() {
        dimension.to = to;
        to *= dimension.size;
    }
    joined
}

/// Fills `out` from `source`, in pieces of the outermost dimension.
fn copy(source: &[f32], dimensions: &[Dimension], out: &mut [f32]) {
    let Some((outer, inner)) = dimensions.split_first() else {
        out.copy_from_slice(&source[..out.len()]);
        return;
    };
    // Whether the outermost dimension makes the tiles together with the last one; pieces then hold whole tiles.
    let tiled = inner.last().is_some_and(|last| last.from != 1)
        && closest(&dimensions[..dimensions.len() - 1]) == Some(0);
    if !tiled && outer.size < FEW && outer.to > CHUNK {
        let pieces = out.par_chunks_mut(outer.to).enumerate();
        pieces.for_each(|(i, out)| copy(&source[i * outer.from..], inner, out));
        return;
    }
    let rows = (CHUNK / outer.to).max(1);
    let rows = if tiled { rows.next_multiple_of(TILE) } else { rows };
    let rows = rows.min(outer.size);
    out.par_chunks_mut(rows * outer.to)
        .enumerate()
        .for_each(|(i, out)| {
            let mut piece = vec![Dimension {
                size: out.len() / outer.to,
                ..*outer
            }];
            piece.extend_from_slice(inner);
            let source = &source[i * rows * outer.from..];
            match piece.pop().expect("there is an outermost dimension") {
                run if run.from == 1 => copy_runs(source, &piece, run.size, out),
                last => match closest(&piece) {
                    Some(i) => {
                        let close = piece.remove(i);
                        copy_planes(source, &piece, [close, last], out);
                    }
                    None => copy_tile(source, [ONE, last], out),
                },
            }
        });
}

/// Of dimensions without the last, the one whose values lie closest together in the source.
fn closest(dimensions: &[Dimension]) -> Option<usize> {
    (0..dimensions.len()).min_by_key(|i| (dimensions[*i].from == 0, dimensions[*i].from))
}

const ONE: Dimension = Dimension {
    size: 1,
    from: 0,
    to: 0,
};

fn copy_runs(source: &[f32], outer: &[Dimension], run: usize, out: &mut [f32]) {
    match outer {
        [] => out[..run].copy_from_slice(&source[..run]),
        [first, rest @ ..] => {
            for i in 0..first.size {
                copy_runs(&source[i * first.from..], rest, run, &mut out[i * first.to..]);
            }
        }
    }
}

fn copy_planes(source: &[f32], outer: &[Dimension], plane: [Dimension; 2], out: &mut [f32]) {
    let [rows, columns] = plane;
    match outer {
        [] => {
            for row in (0..rows.size).step_by(TILE) {
                for column in (0..columns.size).step_by(TILE) {
                    let size = |all: Dimension, start: usize| Dimension {
                        size: TILE.min(all.size - start),
                        ..all
                    };
                    copy_tile(
                        &source[row * rows.from + column * columns.from..],
                        [size(rows, row), size(columns, column)],
                        &mut out[row * rows.to + column * columns.to..],
                    );
                }
            }
        }
        [first, rest @ ..] => {
            for i in 0..first.size {
                copy_planes(&source[i * first.from..], rest, plane, &mut out[i * first.to..]);
            }
        }
    }
}

fn copy_tile(source: &[f32], [rows, columns]: [Dimension; 2], out: &mut [f32]) {
    for row in 0..rows.size {
        let source = &source[row * rows.from..];
        let out = &mut out[row * rows.to..][..columns.size];
        for (column, out) in out.iter_mut().enumerate() {
            *out = source[column * columns.from];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    fn random<const D: usize>(dims: [usize; D]) -> Tensor<Flex, D> {
        Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Default::default())
    }

    /// The fast road and Burn's, values and gradients.
    fn compare<const D: usize>(view: Tensor<Flex, D>, axes: [usize; D]) {
        let plain = |x: Tensor<AutodiffFlex, D>| x.permute(axes.map(|axis| axis as isize));
        let upstream = Tensor::from_inner(random(plain(Tensor::from_inner(view.clone())).dims()));
        let run = |fast: bool| {
            let x = Tensor::<AutodiffFlex, D>::from_inner(view.clone()).require_grad();
            let y = if fast {
                permute(x.clone(), axes).expect("f32 on the CPU")
            } else {
                plain(x.clone())
            };
            let grads = (y.clone() * upstream.clone()).sum().backward();
            [
                y.inner().into_data(),
                x.grad(&grads).expect("a gradient").into_data(),
            ]
        };
        let ([y, dx], [y0, dx0]) = (run(true), run(false));
        y.assert_eq(&y0, true);
        dx.assert_eq(&dx0, true);
        permute(view, axes)
            .expect("f32 on the CPU")
            .into_data()
            .assert_eq(&y0, true);
    }

    #[test]
    fn values_and_gradients_equal_those_of_burn() {
        compare(random([5, 7]), [1, 0]);
        compare(random([300, 130]), [1, 0]);
        compare(random([2, 3, 40, 50]), [0, 2, 3, 1]);
        compare(random([1, 33, 40, 3]), [0, 3, 1, 2]);
        compare(random([2, 3, 8, 5, 8, 9]), [0, 1, 3, 2, 4, 5]);
        compare(random([70, 3, 5]), [2, 1, 0]);
        compare(random([4, 1, 5]), [0, 1, 2]);
        compare(random([2, 3, 40, 900]), [1, 0, 2, 3]);
        compare(random([2, 40, 30, 50]), [0, 2, 3, 1]);
        compare(random([3, 1, 20, 30]), [0, 2, 1, 3]);
        compare(random([20000, 3]), [1, 0]);
        compare(random([3, 20000]), [1, 0]);
        compare(random([9]), [0]);
        compare(random([0, 3]), [1, 0]);
    }

    #[test]
    fn views_are_read_where_they_begin() {
        let x = random([6, 20, 30]);
        compare(x.clone().slice([1..5, 3..17, 2..29]), [0, 1, 2]);
        compare(x.clone().slice([1..5, 3..17, 2..29]), [2, 0, 1]);
        compare(x.clone().slice([1..2, 3..4, 2..3]), [2, 0, 1]);
        compare(x.clone().slice([1..2, 3..4]), [1, 0, 2]);
        compare(x.clone().flip([1]), [1, 0, 2]);
        compare(x.clone().narrow(0, 2, 1).expand([4, 20, 30]), [0, 1, 2]);
        compare(x.narrow(2, 2, 1).expand([6, 20, 7]), [1, 2, 0]);
    }
}
