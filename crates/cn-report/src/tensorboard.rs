//! TensorBoard's event files: records of length, masked CRC-32C and a protocol buffer.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::picture::Picture;

/// How TensorBoard knows its files.
const PREFIX: &str = "events.out.tfevents.";

/// A file `events.out.tfevents.*` that TensorBoard reads, beside others of the same run.
///
/// Events are gathered in memory; [`EventFile::flush`] appends them to the file.
///
/// ```
/// use cn_report::EventFile;
///
/// let folder = std::env::temp_dir().join(format!("events-{}", std::process::id()));
/// std::fs::create_dir_all(&folder)?;
/// let mut events = EventFile::new(&folder, 1_767_225_600.0);
/// events.scalar(1_767_225_600.5, 10, "loss/train", 0.25);
/// events.flush()?;
/// assert!(events.path().is_file());
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    pending: Vec<u8>,
}

impl EventFile {
    /// A new file in `folder`, named after the time in seconds since 1970; nothing is written yet.
    #[must_use]
    pub fn new(folder: &Path, wall_time: f64) -> Self {
        let name = |i: u32| folder.join(format!("{PREFIX}{:010}.cn.{i}", wall_time as u64));
        let path = (0..).map(name).find(|path| !path.exists()).expect("there are more numbers than files");
        let mut event = Message::default();
        event.double(1, wall_time);
        event.bytes(3, b"brain.Event:2");
        Self { path, pending: record(&event.0) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A run that goes on at this step: what other files of it say of this and later steps was not kept.
    pub fn restart(&mut self, wall_time: f64, step: u64) {
        let mut start = Message::default();
        start.varint(1, 1); // SessionLog.START
        let mut event = Message::default();
        event.double(1, wall_time);
        event.varint(2, step);
        event.bytes(7, &start.0);
        self.pending.extend(record(&event.0));
    }

    /// Whether other files of events lie beside this one, from before.
    #[must_use]
    pub fn has_elders(&self) -> bool {
        let entries = self.path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
        entries.into_iter().flatten().flatten().any(|entry| entry.path() != self.path && Self::is_one(&entry.path()))
    }

    /// Whether a file is one of events, by its name.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
    }

    /// A number; one that is not finite is kept as it is.
    pub fn scalar(&mut self, wall_time: f64, step: u64, tag: &str, value: f64) {
        let mut message = Message::default();
        message.bytes(1, tag.as_bytes());
        message.float(2, value as f32);
        self.event(wall_time, step, &message);
    }

    /// A picture.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded as a PNG.
    pub fn image(&mut self, wall_time: f64, step: u64, tag: &str, picture: &Picture) -> Result<()> {
        let mut image = Message::default();
        image.varint(1, u64::from(picture.height()));
        image.varint(2, u64::from(picture.width()));
        image.varint(3, 3); // RGB
        image.bytes(4, &picture.to_png()?);
        let mut message = Message::default();
        message.bytes(1, tag.as_bytes());
        message.bytes(4, &image.0);
        self.event(wall_time, step, &message);
        Ok(())
    }

    /// Appends what was gathered.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        let file = OpenOptions::new().append(true).create(true).open(&self.path);
        let written = file.and_then(|mut file| file.write_all(&self.pending));
        let bytes = Some(self.pending.len() as u64);
        written.map_err(|source| Error::Write { path: self.path.clone(), bytes, source })?;
        self.pending.clear();
        Ok(())
    }

    fn event(&mut self, wall_time: f64, step: u64, value: &Message) {
        let mut summary = Message::default();
        summary.bytes(1, &value.0);
        let mut event = Message::default();
        event.double(1, wall_time);
        event.varint(2, step);
        event.bytes(5, &summary.0);
        self.pending.extend(record(&event.0));
    }
}

/// `length, crc(length), data, crc(data)`, little-endian.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked_crc(data).to_le_bytes());
    bytes
}

/// TensorFlow's mask, so that checksums of data that hold checksums stay good.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli) with the reflected polynomial.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let step = |crc: u32, byte: &u8| TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8);
    !data.iter().fold(!0, step)
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

/// A protocol buffer, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u8, value: f64) {
        self.0.push(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, value: &[u8]) {
        self.0.push(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u8, value: f32) {
        self.0.push(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn bytes_are_those_of_tensorboard() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::new(folder.path(), 1_700_000_000.0);
        events.scalar(1_700_000_000.5, 300, "loss/train", 0.25);
        events.flush().unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/events.json");
        let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let hex: String = std::fs::read(events.path()).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden["hex"].as_str().unwrap());
    }

    #[test]
    fn files_of_one_second_have_names_of_their_own_and_grow() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = EventFile::new(folder.path(), 5.0);
        first.flush().unwrap();
        let second = EventFile::new(folder.path(), 5.0);
        assert_ne!(first.path(), second.path());
        let before = std::fs::metadata(first.path()).unwrap().len();
        first.image(6.0, 1, "confusion", &Picture::blank(3, 2)).unwrap();
        first.flush().unwrap();
        assert!(std::fs::metadata(first.path()).unwrap().len() > before);
        // summary.proto: the value's tag is 1 and its image 4, of which height is 1, width 2, colours 3, the PNG 4.
        let bytes = std::fs::read(first.path()).unwrap();
        let tag = b"\x0a\x09confusion\x22";
        let at = bytes.windows(tag.len()).position(|window| window == tag).expect("the tag, then an image") + tag.len();
        let image = &bytes[at + usize::from(bytes[at] > 127) + 1..];
        assert_eq!(image[..7], [0x08, 2, 0x10, 3, 0x18, 3, 0x22]);
        let png = &image[7 + usize::from(image[7] > 127) + 1..];
        assert_eq!(png[..4], *b"\x89PNG");
    }
}
