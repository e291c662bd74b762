//! What can be asked of a video session in vain.

use super::ObjectId;

/// An error of a [`VideoSession`](super::VideoSession); the session stays as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VideoError {
    /// The video has no such frame.
    #[error("expected a frame below {frames}, found {frame}")]
    Frame {
        /// The index given.
        frame: usize,
        /// Length of the video.
        frames: usize,
    },
    /// No prompt was given at all.
    #[error("expected a prompt before tracking, found no object")]
    NoObject,
    /// All prompts of an object were taken back.
    #[error("expected a prompt for object {object}, found none")]
    NoPrompt {
        /// The object.
        object: ObjectId,
    },
    /// No such object.
    #[error("expected one of the objects {known:?}, found {object}")]
    Object {
        /// The object given.
        object: ObjectId,
        /// Those that exist.
        known: Vec<ObjectId>,
    },
    /// A mask that is not one of one image.
    #[error("expected a mask [1, 1, H, W], found {found:?}")]
    MaskShape {
        /// Its shape.
        found: [usize; 4],
    },
    /// A frame that is not one image of the model's size.
    #[error("expected one frame [1, 3, {side}, {side}], found {found:?}")]
    FrameShape {
        /// Side of the model's images.
        side: usize,
        /// The shape given.
        found: [usize; 4],
    },
    /// Features of several images where those of one are asked.
    #[error("expected the features of one image, found those of {found}")]
    Features {
        /// Images given.
        found: usize,
    },
    /// Neither points nor a box.
    #[error("expected a point or a box, found neither")]
    EmptyPrompt,
    /// A box after points: boxes come first.
    #[error("expected a box before any point of the frame, found points that are to be kept")]
    LateBox,
    /// A coordinate that is no number.
    #[error("expected finite coordinates, found {found}")]
    Coordinate {
        /// The value.
        found: f32,
    },
}
