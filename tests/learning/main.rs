//! Does it learn, and does it resume? Real files, the real loop, at the smallest scale that still means something.

mod data;
mod overfit;
mod resume;
