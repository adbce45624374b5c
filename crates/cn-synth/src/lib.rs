//! Synthetic handwriting: stroke skeletons of Chinese numerals, writers, pens.
