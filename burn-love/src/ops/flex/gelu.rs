//! GELU on slices: erf after Abramowitz and Stegun 7.1.26 (|error| ≤ 1.5e-7), exp as a polynomial.

use burn::tensor::{Element, TensorMetadata};
use multiversion::multiversion;

use super::*;

/// Applies GELU on the fast road, or hands the tensor back.
pub(in super::super) fn gelu<B: Backend, const D: usize>(
    x: Tensor<B, D>,
) -> Result<Tensor<B, D>, Tensor<B, D>> {
    if x.dtype() != f32::dtype() {
        return Err(x);
    }
    let x = match cast::<_, Tensor<Flex, D>>(x) {
        Ok(x) => {
            let y = wrap::<Flex, D>(forward(primitive(x)));
            return Ok(cast(y).expect("the input had this type"));
        }
        Err(x) => x,
    };
    let x: Tensor<AutodiffFlex, D> = cast(x)?;
    let x = primitive(x);
    let y = match Gelu
        .prepare::<NoCheckpointing>([x.node.clone()])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(x.primitive.clone(), forward(x.primitive)),
        OpsKind::UnTracked(prep) => prep.finish(forward(x.primitive)),
    };
    Ok(cast(wrap::<AutodiffFlex, D>(y)).expect("the input had this type"))
}

#[derive(Debug)]
struct Gelu;

impl Backward<Flex, 1> for Gelu {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        burn_autodiff::ops::unary::<Flex, _>(ops.parents, ops.node, grads, |grad| backward(ops.state, grad));
    }
}

fn forward(x: FlexTensor) -> FlexTensor {
    let mut x = contiguous(x).expect("the dtype was checked");
    if let Some(values) = x.try_storage_mut::<f32>() {
        values.par_chunks_mut(CHUNK).for_each(gelu_in_place);
        return x;
    }
    let mut y = zeros(x.shape());
    let out = y.storage_mut::<f32>();
    out.par_chunks_mut(CHUNK)
        .zip(slice(&x).par_chunks(CHUNK))
        .for_each(|(out, x)| {
            out.copy_from_slice(x);
            gelu_in_place(out);
        });
    y
}

fn backward(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
    let x = contiguous(x).expect("the dtype was checked");
    let grad = contiguous(grad).expect("a gradient has its tensor's dtype");
    let mut out = zeros(x.shape());
    out.storage_mut::<f32>()
        .par_chunks_mut(CHUNK)
        .zip(slice(&x).par_chunks(CHUNK).zip(slice(&grad).par_chunks(CHUNK)))
        .for_each(|(out, (x, grad))| gelu_gradient(x, grad, out));
    out
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
pub(super) fn gelu_in_place(x: &mut [f32]) {
    for x in x {
        *x *= normal::<{ fused!() }>(*x).0;
    }
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn gelu_gradient(x: &[f32], grad: &[f32], out: &mut [f32]) {
    const INV_SQRT_2PI: f32 = 0.398_942_3;
    for ((x, grad), out) in x.iter().zip(grad).zip(out) {
        let (cdf, exponential) = normal::<{ fused!() }>(*x);
        *out = grad * (cdf + x * exponential * INV_SQRT_2PI);
    }
}

/// The normal distribution function at `x`, and exp(−x²/2), which both directions need.
#[inline(always)]
fn normal<const FUSED: bool>(x: f32) -> (f32, f32) {
    const P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    let exponential = exp::<FUSED>(-0.5 * x * x);
    let t = 1.0 / multiply_add::<FUSED>(P, x.abs(), 1.0);
    let coefficients = [0.254_829_6, -0.284_496_74, 1.421_413_7, -1.453_152, 1.061_405_4];
    let poly = t * polynomial::<FUSED, 5>(t, coefficients);
    let tail = 0.5 * poly * exponential; // 1 − Φ(|x|)
    (if x >= 0.0 { 1.0 - tail } else { tail }, exponential)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    #[test]
    fn forward_and_gradient_equal_the_plain_road() {
        let device = Default::default();
        for dims in [[1, 7], [33, 65], [129, 300]] {
            let x = Tensor::<Flex, 2>::random(dims, Distribution::Normal(0.0, 4.0), &device);
            let weight = Tensor::<Flex, 2>::random(dims, Distribution::Normal(0.0, 1.0), &device);
            let run = |fast: bool| {
                let x = Tensor::<AutodiffFlex, 2>::from_inner(x.clone()).require_grad();
                let y = if fast {
                    gelu(x.clone()).unwrap()
                } else {
                    crate::ops::gelu::plain(x.clone())
                };
                let grads = (y.clone() * Tensor::from_inner(weight.clone())).sum().backward();
                (y.inner().into_data(), x.grad(&grads).unwrap().into_data())
            };
            let ((y, dx), (y0, dx0)) = (run(true), run(false));
            y.assert_approx_eq::<f32>(&y0, Tolerance::absolute(2e-6));
            dx.assert_approx_eq::<f32>(&dx0, Tolerance::absolute(4e-6));
            let direct = gelu(x.clone()).unwrap().into_data();
            direct.assert_eq(&y, true);
        }
    }

    #[test]
    fn a_transposed_input_is_read_in_its_own_order() {
        let x = Tensor::<Flex, 2>::from_data([[-1.0, 0.0, 1.0], [2.0, -3.0, 40.0]], &Default::default());
        let y = gelu(x.clone().transpose()).unwrap().transpose().into_data();
        y.assert_eq(&gelu(x).unwrap().into_data(), true);
    }

    #[test]
    fn extremes_stay_finite() {
        let x = Tensor::<Flex, 1>::from_data([-1e30, -50.0, -0.0, 50.0, 1e30], &Default::default());
        let y = gelu(x).unwrap().into_data().to_vec::<f32>().unwrap();
        assert_eq!(y, [-0.0, -0.0, 0.0, 50.0, 1e30]);
    }
}
