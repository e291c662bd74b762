//! A reader of the pickles that `torch.save` writes for state dicts, and of nothing else.
//!
//! A pickle is a program: unpickling may import and call anything. This reader knows the few functions that a
//! state dict calls, builds descriptions of their results, and refuses every other name; nothing is executed.
//! All containers lie in arenas and refer to each other by index, so that no input can nest deep enough to
//! exhaust the stack.

mod contents;
mod machine;

pub(super) use contents::{Described, described, number, state_dict, texts, truth};
pub(super) use machine::StoredTensor;
