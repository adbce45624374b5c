//! SHA-256 digests.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::load::len_of;

/// A SHA-256 digest; shown as 64 lower-case hexadecimal digits.
///
/// ```
/// let digest = cn_data::Digest::of(b"abc");
/// assert!(digest.to_string().starts_with("ba7816bf8f01cfea"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a file, a part at a time.
    ///
    /// # Errors
    ///
    /// If it cannot be read; a pipe or a device, which may have no end, is none.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        len_of(path)?;
        let (mut file, mut hash, mut part) = (fs::File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut part)? {
                0 => return Ok(Self(hash.finalize().into())),
                n => hash.update(&part[..n]),
            }
        }
    }

    /// The digest whose 32 bytes these are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits; `None` if `text` is anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The digest of the whole content: of the text that has a line `<digest>  <path>` for each file.
///
/// Lines are in byte order of the path, each ended by one line feed: what `sha256sum` prints for the files, sorted.
/// Independent of the archive that the files came in and of the order given here.
///
/// ```
/// use cn_data::{Digest, content_sha256};
///
/// let files = [("b.png", Digest::of(b"2")), ("a.png", Digest::of(b"1"))];
/// let listing = format!("{}  a.png\n{}  b.png\n", files[1].1, files[0].1);
/// assert_eq!(content_sha256(files), Digest::of(listing.as_bytes()));
/// ```
pub fn content_sha256<'a>(files: impl IntoIterator<Item = (&'a str, Digest)>) -> Digest {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable();
    let mut listing = String::with_capacity(files.len() * 100);
    for (path, digest) in files {
        use fmt::Write as _;
        writeln!(listing, "{digest}  {path}").expect("writing to a string cannot fail");
    }
    Digest::of(listing.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip() {
        let digest = Digest::of(b"x");
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        for bad in ["", "zz", &"g".repeat(64), &"a".repeat(63), &"+1".repeat(32)] {
            assert_eq!(Digest::from_hex(bad), None, "{bad}");
        }
    }
}
