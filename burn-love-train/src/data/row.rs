//! One line of `metadata.csv`.

use super::Split;

/// One expression about one clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The video that the clip was made from.
    pub vid: String,
    /// Name of the row: `{key}_{category}_{number}`.
    pub uid: String,
    /// Where the row belongs.
    pub split: Split,
    /// Which object of the clip the expression refers to.
    pub fid: String,
    /// The referring expression.
    pub expression: String,
}

impl Row {
    /// The folder of the clip's media and masks: the uid without its last two `_` parts.
    pub fn key(&self) -> &str {
        key_of(&self.uid).unwrap_or(&self.uid)
    }

    /// Whether the expression refers to nothing in the clip.
    ///
    /// The media of such rows are copies of the video's, muted or with another sound, under a key of their own.
    pub fn is_null(&self) -> bool {
        let key = self.key();
        key != self.vid && key.starts_with("null_")
    }
}

/// The key that a uid begins with, if it has three parts.
pub(super) fn key_of(uid: &str) -> Option<&str> {
    uid.rsplitn(3, '_').nth(2).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(vid: &str, uid: &str) -> Row {
        Row {
            vid: vid.into(),
            uid: uid.into(),
            split: Split::Train,
            fid: "0".into(),
            expression: "x".into(),
        }
    }

    #[test]
    fn keys_may_hold_underscores_and_dashes() {
        let plain = row(
            "--iSerV5DbY_68000_78000",
            "--iSerV5DbY_68000_78000_emergency-car_1",
        );
        assert_eq!(plain.key(), "--iSerV5DbY_68000_78000");
        assert!(!plain.is_null());
        let muted = row(
            "-9k2Z_hxYpU_155000_165000",
            "null_m--9k2Z_hxYpU_155000_165000_null_1",
        );
        assert_eq!(muted.key(), "null_m--9k2Z_hxYpU_155000_165000");
        assert!(muted.is_null());
        assert_eq!(key_of("a_b"), None);
    }
}
