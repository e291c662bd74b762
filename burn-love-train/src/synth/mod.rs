//! Synthetic language-aided audio-visual scenes.
