//! Huffman codes, and the bits of a scan.

use super::{BadReason, RST, Stop, damaged};

/// Codes of at most this length are looked up at once.
const LOOKUP: u32 = 9;

/// Huffman codes in the order of their lengths (annex C).
pub(super) struct HuffmanTable {
    /// Length and symbol by the next bits, 0 where the code is longer.
    lookup: [(u8, u8); 1 << LOOKUP],
    /// Of each length: its first code, how many there are, and the place of the first symbol.
    lengths: [(u32, u32, usize); 16],
    symbols: Vec<u8>,
}

impl HuffmanTable {
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, BadReason> {
        let mut codes = Self { lookup: [(0, 0); 1 << LOOKUP], lengths: [(0, 0, 0); 16], symbols: symbols.to_vec() };
        let (mut code, mut place) = (0_u32, 0);
        for (i, &n) in counts.iter().enumerate() {
            let (length, n) = (i as u32 + 1, u32::from(n));
            if code + n > 1 << length {
                return Err(damaged("more codes than their length allows"));
            }
            codes.lengths[i] = (code, n, place);
            let free = LOOKUP.checked_sub(length);
            for (j, &symbol) in symbols[place..place + n as usize].iter().enumerate() {
                if let Some(free) = free {
                    let first = (code as usize + j) << free;
                    codes.lookup[first..first + (1 << free)].fill((length as u8, symbol));
                }
            }
            place += n as usize;
            code = (code + n) << 1;
        }
        Ok(codes)
    }

    /// The symbol whose code these 16 bits begin with, and its length.
    fn symbol(&self, next: u32) -> Option<(u32, u8)> {
        let (length, symbol) = self.lookup[(next >> (16 - LOOKUP)) as usize];
        if length > 0 {
            return Some((length.into(), symbol));
        }
        (LOOKUP + 1..=16).find_map(|length| {
            let (first, n, place) = self.lengths[length as usize - 1];
            let within = (next >> (16 - length)).checked_sub(first).filter(|within| *within < n)?;
            Some((length, self.symbols[place + within as usize]))
        })
    }
}

/// The bits of a scan up to the next marker.
pub(super) struct Bits<'a> {
    /// What was not read yet.
    pub(super) bytes: &'a [u8],
    /// The last bits are the next ones.
    buffer: u64,
    n: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, buffer: 0, n: 0 }
    }

    /// Reads as many bytes as there is room for, and as there are before the next marker.
    fn fill(&mut self) {
        while self.n <= 32 {
            // Most often no marker is near.
            if let Some((next, rest)) = self.bytes.split_first_chunk::<4>()
                && !next.contains(&0xFF)
            {
                (self.buffer, self.bytes) = (self.buffer << 32 | u64::from(u32::from_be_bytes(*next)), rest);
                self.n += 32;
                return;
            }
            let (byte, rest) = match self.bytes {
                [0xFF, rest @ ..] => {
                    let fill = rest.iter().take_while(|byte| **byte == 0xFF).count();
                    let [0, rest @ ..] = &rest[fill..] else { return };
                    (0xFF, rest)
                }
                [byte, rest @ ..] => (*byte, rest),
                [] => return,
            };
            (self.buffer, self.n, self.bytes) = (self.buffer << 8 | u64::from(byte), self.n + 8, rest);
        }
    }

    pub(super) fn symbol(&mut self, codes: &HuffmanTable) -> Result<u8, Stop> {
        if self.n < 16 {
            self.fill();
        }
        let next = if self.n < 16 { self.buffer << (16 - self.n) } else { self.buffer >> (self.n - 16) };
        match codes.symbol((next & 0xFFFF) as u32) {
            Some((length, symbol)) if length <= self.n => {
                self.n -= length;
                Ok(symbol)
            }
            None if self.n >= 16 => Err(Stop::WrongCode),
            _ => Err(Stop::NoData),
        }
    }

    pub(super) fn take(&mut self, n: u8) -> Result<u32, Stop> {
        let n = u32::from(n);
        if self.n < n {
            self.fill();
        }
        self.n = self.n.checked_sub(n).ok_or(Stop::NoData)?;
        Ok((self.buffer >> self.n) as u32 & ((1 << n) - 1))
    }

    /// Goes on behind the next restart, which must be the next marker.
    pub(super) fn restart(&mut self) -> Result<(), Stop> {
        self.end()?;
        let fill = self.bytes.iter().take_while(|byte| **byte == 0xFF).count();
        match &self.bytes[fill..] {
            [marker, rest @ ..] if RST.contains(marker) => self.bytes = rest,
            _ => return Err(Stop::NoData),
        }
        Ok(())
    }

    /// Passes what fills up the last byte, and bytes of zeros or ones, to the next marker.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        loop {
            self.n -= self.n % 8;
            self.fill();
            if self.n == 0 {
                return Ok(());
            }
            while self.n > 0 {
                self.n -= 8;
                if !matches!(self.buffer >> self.n & 0xFF, 0 | 0xFF) {
                    return Err(Stop::TooMuch);
                }
            }
        }
    }
}
