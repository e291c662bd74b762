//! A GPU that one test holds at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_love::ops::{ProductPrecision, set_product_precision};

/// The right to use a GPU; behind it, products are as they were before.
pub struct Held {
    _alone: MutexGuard<'static, ()>,
}

impl Held {
    /// Waits for the test before, and settles what is multiplied in meanwhile: that is the same for all GPUs.
    pub(crate) fn multiplying_in(precision: ProductPrecision) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        set_product_precision(precision);
        Self { _alone: alone }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        set_product_precision(ProductPrecision::default());
    }
}
