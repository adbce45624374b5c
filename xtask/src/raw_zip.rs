//! Zip archives made by hand, in which every field can lie: for those who must not believe them.

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: Option<u32>,
    /// Stated size of the data unpacked, where that is another one.
    pub(crate) unpacked: Option<u32>,
}

/// A stored file.
pub(crate) fn file(name: &str, data: &[u8]) -> Entry {
    Entry {
        name: name.into(),
        data: data.into(),
        mode: 0o100_644,
        flags: 1 << 11, // The name is UTF-8.
        method: 0,
        crc: None,
        unpacked: None,
    }
}

/// A symbolic link.
pub(crate) fn link(name: &str, to: &str) -> Entry {
    Entry { mode: 0o120_777, ..file(name, to.as_bytes()) }
}

/// The checksum of zip and PNG.
pub(crate) fn crc32(data: &[u8]) -> u32 {
    !data
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1))))
}

/// Local headers, directory and end record, after APPNOTE 4.3; `count` is what the end record says.
pub(crate) fn archive_with_count(entries: &[Entry], count: Option<u16>) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = out.len() as u32;
        let size = entry.data.len() as u32;
        let crc = entry.crc.unwrap_or_else(|| crc32(&entry.data));
        let mut common = vec![20, 0];
        common.extend(entry.flags.to_le_bytes());
        common.extend(entry.method.to_le_bytes());
        common.extend([0; 2]);
        common.extend(0x5101_u16.to_le_bytes()); // 1 August 2020.
        common.extend(crc.to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend(entry.unpacked.unwrap_or(size).to_le_bytes());
        common.extend((entry.name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(&entry.name);
        out.extend(&entry.data);
        directory.extend(b"PK\x01\x02");
        directory.extend([20, 3]); // Made on Unix: the mode counts.
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&entry.name);
    }
    let count = count.unwrap_or(entries.len() as u16).to_le_bytes();
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count);
    out.extend(count);
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// The same with an end record that tells the truth.
pub(crate) fn archive(entries: &[Entry]) -> Vec<u8> {
    archive_with_count(entries, None)
}
