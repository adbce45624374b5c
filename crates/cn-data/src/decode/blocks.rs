//! Whether a JPEG holds every block of its image.
//!
//! Decoders take zeros for the codes that are missing before a marker, and show grey in their place. Here the codes are
//! read, and the blocks counted, of sequential and progressive frames with Huffman codes (ITU T.81, annexes B, F and G);
//! nothing is computed from them. What is missing in the middle shifts the codes behind it: they end before the last
//! block, or do not end with it.

mod huffman;

use super::{BadReason, damaged};
use huffman::{Bits, HuffmanTable};

/// An error if the file is cut short, or lacks a part of the data of its image, though an end marker follows.
///
/// What stands behind the end, such as the film of a phone, is not looked at. Scans whose codes the file does not define,
/// as those of some films, are taken as they are.
pub(super) fn check(bytes: &[u8]) -> Result<(), BadReason> {
    let mut file = File::default();
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        let (marker, after) = next_marker(rest)?;
        if marker == END {
            return file.is_whole();
        }
        // The next image: this one was cut.
        if marker == START {
            return Err(cut_short());
        }
        let (length, body) = split::<2>(after)?;
        let length = usize::from(u16::from_be_bytes(length)).saturating_sub(2);
        let (body, after) = body.split_at_checked(length).ok_or_else(cut_short)?;
        rest = after;
        match marker {
            FRAME..=LAST_FRAME if file.frame.is_some() => return Err(damaged("two frames in one image")),
            FRAME..=LAST_FRAME => file.frame = Some(Frame::read(body, marker)?),
            CODES => file.read_codes(body)?,
            INTERVAL => file.interval = usize::from(u16::from_be_bytes(split(body)?.0)),
            SCAN => rest = file.pass(body, after)?,
            _ => {}
        }
    }
}

const FRAME: u8 = 0xC0;
/// Of a progressive image.
const LAST_FRAME: u8 = 0xC2;
const CODES: u8 = 0xC4;
const RESTARTS: std::ops::RangeInclusive<u8> = 0xD0..=0xD7;
const START: u8 = 0xD8;
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;
const INTERVAL: u8 = 0xDD;

/// Scans of a progressive image that the decoder reads.
const MAX_SCANS: usize = 100;

fn cut_short() -> BadReason {
    damaged("the file is cut short")
}

fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), BadReason> {
    bytes.split_first_chunk().map(|(first, rest)| (*first, rest)).ok_or_else(cut_short)
}

/// The next marker of a segment, or of an end, and what follows it.
///
/// Within the data of a scan a byte 0xFF is followed by 0, or by a restart; before any marker it may be repeated (B.1.1).
fn next_marker(bytes: &[u8]) -> Result<(u8, &[u8]), BadReason> {
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 1 | 0xFF) && !RESTARTS.contains(&pair[1]);
    let at = bytes.windows(2).position(is_marker).ok_or_else(cut_short)?;
    Ok((bytes[at + 1], &bytes[at + 2..]))
}

/// What the segments of a file have said so far.
#[derive(Default)]
struct File {
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

struct Component {
    id: u8,
    /// Blocks in such a unit: columns and rows.
    sampling: (usize, usize),
    /// Blocks of the image, without those that fill up units: columns and rows.
    blocks: (usize, usize),
    /// Whether there was a scan of its DC coefficients.
    has_dc: bool,
    /// Of each block the AC coefficients that are not zero so far, a bit each; only of progressive frames.
    nonzero: Vec<u64>,
}

impl Frame {
    /// B.2.2.
    fn read(body: &[u8], marker: u8) -> Result<Self, BadReason> {
        let ([_precision, a, b, c, d, n], rest) = split::<6>(body)?;
        let (height, width) = (usize::from(u16::from_be_bytes([a, b])), usize::from(u16::from_be_bytes([c, d])));
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
            Component { id: part[0], sampling: (h, v), blocks, has_dc: false, nonzero: Vec::new() }
        };
        let mcus = (width.div_ceil(8 * most.0), height.div_ceil(8 * most.1));
        Ok(Self { is_progressive: marker == LAST_FRAME, mcus, components: parts.iter().map(component).collect() })
    }
}

impl File {
    /// B.2.4.2.
    fn read_codes(&mut self, mut body: &[u8]) -> Result<(), BadReason> {
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
        let components = self.frame.iter().flat_map(|frame| &frame.components);
        let (n, there) = components.fold((0, 0), |(n, there), c| (n + 1, there + usize::from(c.has_dc)));
        if n == 0 || self.scans == 0 {
            return Err(cut_short());
        }
        if there < n {
            return Err(damaged(format_args!("{there} of {n} colour components are there")));
        }
        Ok(())
    }

    /// Reads the scan with this header (B.2.3) and returns what follows it.
    fn pass<'a>(&mut self, header: &[u8], data: &'a [u8]) -> Result<&'a [u8], BadReason> {
        let frame = self.frame.as_mut().ok_or_else(|| damaged("a scan before its frame"))?;
        self.scans += 1;
        if frame.is_progressive && self.scans > MAX_SCANS {
            return Err(damaged(format_args!("more than {MAX_SCANS} scans")));
        }
        let ([n], rest) = split::<1>(header)?;
        let (parts, _) = rest.as_chunks::<2>();
        let parts = parts.get(..usize::from(n)).ok_or_else(cut_short)?;
        if parts.is_empty() {
            return Err(damaged("a scan of no component"));
        }
        let ([first, last, bits], _) = split::<3>(&rest[2 * parts.len()..])?;
        let pass = match (frame.is_progressive, first, bits >> 4) {
            (false, ..) => Pass::Sequential,
            (true, 0, 0) => Pass::DcFirst,
            (true, 0, _) => Pass::DcRefine,
            (true, _, 0) => Pass::AcFirst,
            (true, ..) => Pass::AcRefine,
        };
        let band = first..=last.min(63);
        let mut places = Vec::with_capacity(parts.len());
        for &[id, tables] in parts {
            let place = frame.components.iter().position(|component| component.id == id);
            let place = place.ok_or_else(|| damaged("a scan of a component that is not there"))?;
            let (dc, ac) = (self.dc.get(usize::from(tables >> 4)), self.ac.get(usize::from(tables & 15)));
            places.push((place, [dc, ac].map(|codes| codes.and_then(Option::as_ref))));
        }
        // The decoder puts these blocks in wrong places.
        let is_part = !frame.is_progressive && places.len() < frame.components.len();
        let is_wide = places.len() > 1 && places.iter().any(|(place, _)| frame.components[*place].sampling.0 > 1);
        if is_part && (is_wide || frame.components.iter().any(|component| component.sampling.1 > 1)) {
            return Err(BadReason::Unsupported("a JPEG with scans of their own for colours of other sizes".into()));
        }
        let mut scan = Scan { bits: Bits::new(data), pass, band, run: 0 };
        if let Err((at, n, stop)) = scan.read(frame, &places, self.interval) {
            match stop {
                Stop::NoCodes => {}
                Stop::NoData => return Err(damaged(format_args!("the data of the image end at part {at} of {n}"))),
                Stop::TooMuch => {
                    return Err(damaged(format_args!("part {at} of {n} of the image is followed by others")));
                }
                Stop::WrongCode => return Err(damaged(format_args!("wrong codes in part {at} of {n} of the image"))),
            }
        }
        places.iter().filter(|_| first == 0).for_each(|(place, _)| frame.components[*place].has_dc = true);
        Ok(scan.bits.bytes)
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
    NoCodes,
    WrongCode,
}

struct Scan<'a> {
    bits: Bits<'a>,
    pass: Pass,
    band: std::ops::RangeInclusive<u8>,
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
        for unit in 0..n {
            let at = |stop| (unit + 1, n, stop);
            if every > 0 && unit > 0 && unit.is_multiple_of(every) {
                self.run = 0;
                self.bits.restart().map_err(|stop| (unit, n, stop))?;
            }
            for (place, tables) in places {
                let component = &mut frame.components[*place];
                let (h, v) = component.sampling;
                for _ in 0..alone.map_or(h * v, |_| 1) {
                    self.block(tables, component.nonzero.get_mut(unit)).map_err(at)?;
                }
            }
        }
        self.bits.end().map_err(|stop| (n, n, stop))
    }

    fn block(&mut self, &[dc, ac]: &Tables<'_>, nonzero: Option<&mut u64>) -> Result<(), Stop> {
        let (dc, ac) = (dc.ok_or(Stop::NoCodes), ac.ok_or(Stop::NoCodes));
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
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
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
