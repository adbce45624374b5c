//! Whether a JPEG holds every block of its image.
//!
//! Decoders take zeros for the codes that are missing before a marker, and show grey in their place. Here the codes are
//! read, and the blocks counted, of sequential and progressive frames with Huffman codes (ITU T.81, annexes B, F and G);
//! nothing is computed from them. What is missing in the middle shifts the codes behind it: they end before the last
//! block, or do not end with it.

mod huffman;

use std::ops::RangeInclusive;

use huffman::{Bits, HuffmanTable};

use super::{BadReason, damaged};

/// Bytes of coefficients that the decoder keeps until it has read the last scan; an error if the file is cut short, or
/// lacks a part of the data of its image, though an end marker follows.
///
/// Width and height are those that the decoder found: what it takes for another segment could hide a second frame. What
/// stands behind the end, such as the film of a phone, is not looked at. Scans whose codes the file does not define, as
/// those of some films, are taken as they are.
pub(super) fn check(bytes: &[u8], width: usize, height: usize) -> Result<u64, BadReason> {
    let mut jpeg = Jpeg::default();
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        let next = if jpeg.scans == 0 { next_header(rest) } else { next_marker(rest) };
        let (marker, after) = match next {
            Err(_) if jpeg.is_whole().is_ok() => return Err(damaged("all data are there, but not the end marker")),
            next => next?,
        };
        if marker == EOI {
            return jpeg.is_whole().map(|()| jpeg.kept());
        }
        // The next image: this one was cut.
        if marker == SOI {
            return Err(cut_short());
        }
        let (length, body) = split::<2>(after)?;
        let length = usize::from(u16::from_be_bytes(length)).saturating_sub(2);
        let (body, after) = body.split_at_checked(length).ok_or_else(cut_short)?;
        rest = after;
        match marker {
            SOF0..=SOF2 if jpeg.frame.is_some() => return Err(damaged("two frames in one image")),
            SOF0..=SOF2 => jpeg.frame = Some(Frame::read(body, marker, (width, height))?),
            DHT => jpeg.read_tables(body)?,
            DRI => jpeg.interval = usize::from(u16::from_be_bytes(split(body)?.0)),
            SOS => rest = jpeg.read_scan(body, after)?,
            _ => {}
        }
    }
}

// Markers, table B.1.
const SOF0: u8 = 0xC0;
/// Of a progressive image.
const SOF2: u8 = 0xC2;
const DHT: u8 = 0xC4;
const RST: RangeInclusive<u8> = 0xD0..=0xD7;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DRI: u8 = 0xDD;

/// Scans of a progressive image that the decoder reads.
const MAX_SCANS: usize = 100;

fn cut_short() -> BadReason {
    damaged("the file is cut short")
}

fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), BadReason> {
    bytes.split_first_chunk().map(|(first, rest)| (*first, rest)).ok_or_else(cut_short)
}

/// The next marker before the first scan, and what follows it; bytes that belong to no segment are passed.
fn next_header(bytes: &[u8]) -> Result<(u8, &[u8]), BadReason> {
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF);
    let at = bytes.windows(2).position(is_marker).ok_or_else(cut_short)?;
    let marker = bytes[at + 1];
    if marker == 1 || RST.contains(&marker) {
        return Err(damaged(format_args!("the marker 0xFF{marker:02X} before the image")));
    }
    Ok((marker, &bytes[at + 2..]))
}

/// The next marker of a segment, or of an end, and what follows it.
///
/// Within the data of a scan a byte 0xFF is followed by 0, or by a restart; before any marker it may be repeated (B.1.1).
fn next_marker(bytes: &[u8]) -> Result<(u8, &[u8]), BadReason> {
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 1 | 0xFF) && !RST.contains(&pair[1]);
    let at = bytes.windows(2).position(is_marker).ok_or_else(cut_short)?;
    Ok((bytes[at + 1], &bytes[at + 2..]))
}

/// What the segments of a file have said so far.
#[derive(Default)]
struct Jpeg {
    frame: Option<Frame>,
    dc: [Option<HuffmanTable>; 4],
    ac: [Option<HuffmanTable>; 4],
    /// Units between restarts, 0 for none.
    interval: usize,
    scans: usize,
}

struct Frame {
    is_progressive: bool,
    /// Minimum coded units of all components together: columns and rows.
    mcus: (usize, usize),
    components: Vec<Component>,
}

/// For a coefficient that was in no scan.
const ABSENT: u8 = 255;

struct Component {
    id: u8,
    /// Blocks in such a unit: columns and rows.
    sampling: (usize, usize),
    /// Blocks of the image, without those that fill up units: columns and rows.
    blocks: (usize, usize),
    /// Of each coefficient the lowest bit that was there (Al), or [`ABSENT`].
    lowest: [u8; 64],
    /// Of each block the AC coefficients that are not zero so far, a bit each; only of progressive frames.
    nonzero: Vec<u64>,
}

impl Frame {
    /// B.2.2.
    fn read(body: &[u8], marker: u8, size: (usize, usize)) -> Result<Self, BadReason> {
        let ([_precision, a, b, c, d, n], rest) = split::<6>(body)?;
        let (height, width) = (usize::from(u16::from_be_bytes([a, b])), usize::from(u16::from_be_bytes([c, d])));
        if (width, height) != size {
            return Err(damaged("two frames in one image"));
        }
        if !(1..=4).contains(&n) {
            return Err(damaged(format_args!("{n} colour components, expected 1 to 4")));
        }
        let (parts, _) = rest.as_chunks::<3>();
        let parts = parts.get(..usize::from(n)).ok_or_else(cut_short)?;
        let sampling = |part: &[u8; 3]| (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        if parts.iter().map(sampling).any(|(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(damaged("a sampling that is not from 1 to 4"));
        }
        let most = parts.iter().map(sampling).fold((1, 1), |most, (h, v)| (most.0.max(h), most.1.max(v)));
        if parts.first().is_some_and(|part| sampling(part).0 < most.0) {
            return Err(BadReason::Unsupported("a JPEG with less of its first component than of the others".into()));
        }
        let component = |part: &[u8; 3]| {
            let (h, v) = sampling(part);
            let blocks = ((width * h).div_ceil(8 * most.0), (height * v).div_ceil(8 * most.1));
            Component { id: part[0], sampling: (h, v), blocks, lowest: [ABSENT; 64], nonzero: Vec::new() }
        };
        let mcus = (width.div_ceil(8 * most.0), height.div_ceil(8 * most.1));
        Ok(Self { is_progressive: marker == SOF2, mcus, components: parts.iter().map(component).collect() })
    }

    /// How many components had a scan of their DC coefficients.
    fn there(&self) -> usize {
        self.components.iter().filter(|component| component.lowest[0] != ABSENT).count()
    }
}

impl Jpeg {
    /// B.2.4.2.
    fn read_tables(&mut self, mut body: &[u8]) -> Result<(), BadReason> {
        while !body.is_empty() {
            let ([kind], rest) = split::<1>(body)?;
            let (lengths, rest) = split::<16>(rest)?;
            let n = lengths.iter().map(|&n| usize::from(n)).sum();
            let (symbols, rest) = rest.split_at_checked(n).ok_or_else(cut_short)?;
            let tables = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let table = tables.get_mut(usize::from(kind & 15)).ok_or_else(|| damaged("a fifth table of codes"))?;
            *table = Some(HuffmanTable::new(&lengths, symbols)?);
            body = rest;
        }
        Ok(())
    }

    fn is_whole(&self) -> Result<(), BadReason> {
        let frame = self.frame.as_ref().filter(|_| self.scans > 0).ok_or_else(cut_short)?;
        let (n, there) = (frame.components.len(), frame.there());
        if there < n {
            return Err(damaged(format_args!("{there} of {n} colour components are there")));
        }
        if frame.components.iter().flat_map(|component| component.lowest).any(|lowest| lowest > 0) {
            return Err(damaged("its last scans are missing"));
        }
        Ok(())
    }

    /// Two bytes a coefficient where the first scan is not the whole image.
    fn kept(&self) -> u64 {
        let Some(frame) = self.frame.as_ref().filter(|_| self.scans > 1) else { return 0 };
        let blocks = |component: &Component| component.sampling.0 * component.sampling.1 * frame.mcus.0 * frame.mcus.1;
        let blocks: usize = frame.components.iter().map(blocks).sum();
        blocks as u64 * 128
    }

    /// Reads the scan with this header (B.2.3) and returns what follows it.
    fn read_scan<'a>(&mut self, header: &[u8], data: &'a [u8]) -> Result<&'a [u8], BadReason> {
        let frame = self.frame.as_mut().ok_or_else(|| damaged("a scan before its frame"))?;
        self.scans += 1;
        if frame.is_progressive && self.scans > MAX_SCANS {
            return Err(damaged(format_args!("more than {MAX_SCANS} scans")));
        }
        let header = ScanHeader::read(header, frame)?;
        let tables = |&(place, tables): &(usize, u8)| {
            let (dc, ac) = (self.dc.get(usize::from(tables >> 4)), self.ac.get(usize::from(tables & 15)));
            (place, [dc, ac].map(|codes| codes.and_then(Option::as_ref)))
        };
        let places: Vec<_> = header.places.iter().map(tables).collect();
        header.check_order(frame)?;
        header.check_support(frame, self.interval)?;
        let (pass, band) = (header.pass, header.band.clone());
        let mut scan = Scan { bits: Bits::new(data), pass, band, run: 0 };
        match scan.read(frame, &places, self.interval) {
            Ok(()) | Err((.., Stop::NoTable)) => {}
            Err((at, n, Stop::NoData)) => {
                return Err(damaged(format_args!("the data of the image end at part {at} of {n}")));
            }
            Err((at, n, Stop::TooMuch)) => {
                return Err(damaged(format_args!("more data behind part {at} of {n} than the image has")));
            }
            Err((at, n, Stop::WrongCode)) => {
                return Err(damaged(format_args!("wrong codes in part {at} of {n} of the image")));
            }
        }
        for (place, _) in places {
            frame.components[place].lowest[usize::from(*header.band.start())..=usize::from(*header.band.end())]
                .fill(header.lowest);
        }
        Ok(scan.bits.bytes)
    }
}

/// The header of a scan (B.2.3).
struct ScanHeader {
    /// Of each component its place in the frame, and the numbers of its tables.
    places: Vec<(usize, u8)>,
    pass: Pass,
    /// Coefficients, in zigzag order.
    band: RangeInclusive<u8>,
    /// Successive approximation: their lowest bit before it (Ah), 0 for none.
    before: u8,
    /// And in it (Al).
    lowest: u8,
}

impl ScanHeader {
    fn read(header: &[u8], frame: &Frame) -> Result<Self, BadReason> {
        let ([n], rest) = split::<1>(header)?;
        let (parts, _) = rest.as_chunks::<2>();
        let parts = parts.get(..usize::from(n)).ok_or_else(cut_short)?;
        let ([first, last, bits], _) = split::<3>(&rest[2 * parts.len()..])?;
        let mut places: Vec<(usize, u8)> = Vec::with_capacity(4);
        for &[id, tables] in parts {
            match frame.components.iter().position(|component| component.id == id) {
                Some(place) if places.iter().all(|(other, _)| *other != place) => places.push((place, tables)),
                _ => return Err(damaged("a scan of a component that is not there, or twice")),
            }
        }
        let pass = match (frame.is_progressive, first, last, bits >> 4) {
            (false, ..) => Pass::Sequential,
            (true, 0, 0, 0) => Pass::DcFirst,
            (true, 0, 0, _) => Pass::DcRefine,
            (true, 1.., ..64, 0) if first <= last && n == 1 => Pass::AcFirst,
            (true, 1.., ..64, _) if first <= last && n == 1 => Pass::AcRefine,
            _ => return Err(damaged(format_args!("a scan of coefficients {first} to {last} of {n} components"))),
        };
        if places.is_empty() {
            return Err(damaged("a scan of no component"));
        }
        if matches!(pass, Pass::Sequential) {
            return Ok(Self { places, pass, band: 0..=63, before: 0, lowest: 0 });
        }
        Ok(Self { places, pass, band: first..=last, before: bits >> 4, lowest: bits & 15 })
    }

    /// An error unless each bit of a progressive image comes once and after those above it (G.1.1.1): scans without end
    /// cost a few bytes each, and the decoder passes all coefficients in each.
    fn check_order(&self, frame: &Frame) -> Result<(), BadReason> {
        let is_next = |old: u8| match self.pass {
            Pass::Sequential => true,
            Pass::DcFirst | Pass::AcFirst => old == ABSENT,
            Pass::DcRefine | Pass::AcRefine => old == self.before && self.lowest + 1 == old,
        };
        let band = usize::from(*self.band.start())..=usize::from(*self.band.end());
        let of_scan = self.places.iter().flat_map(|(place, _)| &frame.components[*place].lowest[band.clone()]);
        if of_scan.copied().all(is_next) { Ok(()) } else { Err(damaged("a scan of bits that are not the next ones")) }
    }

    /// An error for scans whose blocks the decoder puts in wrong places: of a part of a sequential frame's components,
    /// it reads those in the order of the frame, without restarts, and where nothing is sampled more than its row needs.
    fn check_support(&self, frame: &Frame, interval: usize) -> Result<(), BadReason> {
        if !matches!(self.pass, Pass::Sequential) || self.places.len() == frame.components.len() {
            return Ok(());
        }
        let is_next = self.places.iter().map(|(place, _)| *place).eq((frame.there()..).take(self.places.len()));
        let is_wide = self.places.len() > 1 && self.places.iter().any(|(i, _)| frame.components[*i].sampling.0 > 1);
        let is_high = frame.components.iter().any(|component| component.sampling.1 > 1);
        if interval > 0 || !is_next || is_wide || is_high {
            return Err(BadReason::Unsupported("a JPEG with its colours in scans of their own".into()));
        }
        Ok(())
    }
}

/// What a scan holds of each block.
#[derive(Clone, Copy)]
enum Pass {
    /// All coefficients.
    Sequential,
    /// The first bits of the DC coefficient.
    DcFirst,
    /// One more bit of it.
    DcRefine,
    /// The first bits of a band of AC coefficients.
    AcFirst,
    /// One more bit of them.
    AcRefine,
}

/// Why a scan cannot be read on.
enum Stop {
    NoData,
    TooMuch,
    NoTable,
    WrongCode,
}

struct Scan<'a> {
    bits: Bits<'a>,
    pass: Pass,
    band: RangeInclusive<u8>,
    /// Blocks to come of whose band nothing more is coded.
    run: u32,
}

/// Of the DC coefficient, and of the others.
type Tables<'a> = [Option<&'a HuffmanTable>; 2];

impl Scan<'_> {
    /// Reads all units, with a restart behind `every` so many; an error comes with the unit it is in, and their number.
    fn read(
        &mut self,
        frame: &mut Frame,
        places: &[(usize, Tables<'_>)],
        every: usize,
    ) -> Result<(), (usize, usize, Stop)> {
        // A scan of one component has its blocks as units, without those that fill up (A.2.2).
        let alone = if let &[(place, _)] = places { Some(frame.components[place].blocks) } else { None };
        let (columns, rows) = alone.unwrap_or(frame.mcus);
        let n = columns * rows;
        if matches!(self.pass, Pass::AcFirst | Pass::AcRefine) {
            places.iter().for_each(|(place, _)| frame.components[*place].nonzero.resize(n, 0));
        }
        let mut unit = 0;
        while unit < n {
            let at = |stop| (unit + 1, n, stop);
            if every > 0 && unit > 0 && unit.is_multiple_of(every) {
                self.run = 0;
                self.bits.restart().map_err(|stop| (unit, n, stop))?;
            }
            if matches!(self.pass, Pass::AcFirst) && self.run > 0 {
                // To the end of the run or the next restart, at once: a run costs no more than its code.
                let most = if every > 0 { every - unit % every } else { n };
                let passed = (self.run as usize).min(most);
                self.run -= passed as u32;
                unit += passed;
                continue;
            }
            for (place, tables) in places {
                let component = &mut frame.components[*place];
                let (h, v) = component.sampling;
                for _ in 0..alone.map_or(h * v, |_| 1) {
                    self.block(tables, component.nonzero.get_mut(unit)).map_err(at)?;
                }
            }
            unit += 1;
        }
        self.bits.end().map_err(|stop| (n, n, stop))
    }

    fn block(&mut self, &[dc, ac]: &Tables<'_>, nonzero: Option<&mut u64>) -> Result<(), Stop> {
        let (dc, ac) = (dc.ok_or(Stop::NoTable), ac.ok_or(Stop::NoTable));
        match self.pass {
            Pass::Sequential => {
                self.dc(dc?)?;
                self.ac(ac?)
            }
            Pass::DcFirst => self.dc(dc?),
            Pass::DcRefine => self.bits.take(1).map(|_| ()),
            Pass::AcFirst => self.ac_first(ac?, nonzero.ok_or(Stop::WrongCode)?),
            Pass::AcRefine => self.ac_refine(ac?, nonzero.ok_or(Stop::WrongCode)?),
        }
    }

    /// F.2.2.1.
    fn dc(&mut self, codes: &HuffmanTable) -> Result<(), Stop> {
        let length = self.bits.symbol(codes)?;
        self.bits.take(length & 15).map(|_| ())
    }

    /// F.2.2.2.
    fn ac(&mut self, codes: &HuffmanTable) -> Result<(), Stop> {
        let mut k = 1;
        while k < 64 {
            let symbol = self.bits.symbol(codes)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => k += 16,
                (_, 0) => return Ok(()),
                (zeros, length) => {
                    self.bits.take(length)?;
                    k += zeros + 1;
                }
            }
        }
        if k > 64 { Err(Stop::WrongCode) } else { Ok(()) }
    }

    /// G.1.2.2.
    fn ac_first(&mut self, codes: &HuffmanTable, nonzero: &mut u64) -> Result<(), Stop> {
        let (mut k, last) = (*self.band.start(), *self.band.end());
        while k <= last {
            let symbol = self.bits.symbol(codes)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => k += 16,
                (length, 0) => {
                    self.run = (1 << length) - 1 + self.bits.take(length)?;
                    return Ok(());
                }
                (zeros, length) => {
                    self.bits.take(length)?;
                    k += zeros;
                    *nonzero |= 1_u64.checked_shl(k.into()).unwrap_or(0);
                    k += 1;
                }
            }
        }
        if k > last + 1 { Err(Stop::WrongCode) } else { Ok(()) }
    }

    /// G.1.2.3: each coefficient that is not zero so far has a bit, wherever it is passed.
    fn ac_refine(&mut self, codes: &HuffmanTable, nonzero: &mut u64) -> Result<(), Stop> {
        let (mut k, last) = (*self.band.start(), *self.band.end());
        while self.run == 0 && k <= last {
            let symbol = self.bits.symbol(codes)?;
            let (mut zeros, length) = (symbol >> 4, symbol & 15);
            if length == 0 && zeros < 15 {
                self.run = (1 << zeros) + self.bits.take(zeros)?;
                break;
            }
            // Its sign.
            self.bits.take(u8::from(length > 0))?;
            while k <= last {
                if *nonzero >> k & 1 == 1 {
                    self.bits.take(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if length > 0 && k <= last {
                *nonzero |= 1 << k;
            }
            k += 1;
        }
        if self.run > 0 {
            self.run -= 1;
            let to_last = u64::MAX >> (63 - last);
            let passed = (*nonzero & to_last).checked_shr(k.into()).unwrap_or(0).count_ones();
            (0..passed).try_for_each(|_| self.bits.take(1).map(|_| ()))?;
        }
        Ok(())
    }
}
