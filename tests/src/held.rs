//! A GPU that one test holds at a time.

use std::sync::MutexGuard;

use burn_love::ops::{ProductPrecision, set_product_precision};

/// The right to use the GPU; behind it, products are as they were before.
pub struct Held {
    _alone: MutexGuard<'static, ()>,
}

impl Held {
    pub(crate) fn new(alone: MutexGuard<'static, ()>) -> Self {
        Self { _alone: alone }
    }

    /// Settles what is multiplied in meanwhile.
    pub(crate) fn multiply_in(&mut self, precision: ProductPrecision) {
        set_product_precision(precision);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        set_product_precision(ProductPrecision::default());
    }
}
