//! What is whole, and what is not.

use super::*;

#[test]
fn what_follows_a_jpeg_is_not_part_of_it() {
    let whole = jpeg(&grey());
    let alone = decode(&whole, &config()).expect("valid").pixels;
    let scan = b"ftyp\xFF\xDA and no end".to_vec();
    for follows in [scan.clone(), b"\xFF\xFF\xD8".to_vec(), vec![0xFF; 100], whole.clone()] {
        let decoded = decode(&[&whole[..], &follows].concat(), &config()).expect("valid");
        assert_eq!(decoded.pixels, alone);
        // One that is cut does not become whole by it.
        let cut = &whole[..whole.len() - 40];
        assert!(decode(&[cut, &follows].concat(), &config()).is_err(), "{follows:?}");
    }
    // Fill bytes may stand before any marker.
    let end = whole.len() - 2;
    let filled = [&whole[..end], &[0xFF; 3], &whole[end..]].concat();
    assert_eq!(decode(&filled, &config()).expect("valid").pixels, alone);
}

/// The same coefficients, 4:2:2: sequential with restarts, and with a scan a component; progressive, and with restarts.
pub(super) const KINDS: [&[u8]; 4] = [
    include_bytes!("../../../../../tests/golden/jpeg/restarts.jpg"),
    include_bytes!("../../../../../tests/golden/jpeg/scans.jpg"),
    include_bytes!("../../../../../tests/golden/jpeg/progressive.jpg"),
    include_bytes!("../../../../../tests/golden/jpeg/progressive-restarts.jpg"),
];

/// Where the segments of this marker begin.
fn segments(bytes: &[u8], marker: u8) -> Vec<usize> {
    (0..bytes.len() - 1).filter(|&i| bytes[i..i + 2] == [0xFF, marker]).collect()
}

#[test]
fn each_kind_of_jpeg_is_read() {
    let pixels = KINDS.map(|file| decode(file, &config()).expect("valid").pixels);
    assert!(pixels.iter().all(|other| *other == pixels[0]));
    let span = |channel: usize| span(pixels[0].iter().skip(channel).step_by(3).copied());
    assert!(pixels[0].len() == 75 * 61 * 3 && (0..3).all(|channel| span(channel) > 60));
}

#[test]
fn a_jpeg_that_would_be_read_wrongly_is_refused() {
    let halves = &include_bytes!("../../../../../tests/golden/jpeg/scans-of-halves.jpg")[..];
    let restarts = &include_bytes!("../../../../../tests/golden/jpeg/scans-restarts.jpg")[..];
    for file in [halves, restarts] {
        assert!(matches!(reason(file), BadReason::Unsupported(_)));
    }
    // The scans of the second and third component change places.
    let scans = segments(KINDS[1], 0xC4);
    let [second, third, end] = [scans[scans.len() - 4], scans[scans.len() - 2], KINDS[1].len() - 2];
    let order = [&KINDS[1][..second], &KINDS[1][third..end], &KINDS[1][second..third], &KINDS[1][end..]].concat();
    assert!(matches!(reason(&order), BadReason::Unsupported(_)), "{}", reason(&order));
    // One column of the first component to two of the second.
    let mut file = KINDS[0].to_vec();
    let frame = segments(&file, 0xC0)[0];
    assert_eq!(file[frame + 11], 0x21);
    (file[frame + 11], file[frame + 14]) = (0x11, 0x21);
    assert!(matches!(reason(&file), BadReason::Unsupported(_)));
}

#[test]
fn a_jpeg_that_is_cut_and_ended_is_found() {
    for file in [&jpeg(&grey())[..], &jpeg(&colour())].into_iter().chain(KINDS) {
        let scan = *segments(file, 0xDA).last().expect("a scan");
        // Behind the header of the scan: the last byte may hold nothing but what fills it up.
        for cut in scan + 14..file.len() - 3 {
            let ended = [&file[..cut], &[0xFF, 0xD9]].concat();
            let found = decode(&ended, &config());
            assert!(matches!(found, Err(BadReason::Damaged(_))), "{cut} of {}: {found:?}", file.len());
        }
        let ended = [&file[..file.len() / 2 + scan / 2], &[0xFF, 0xD9]].concat();
        let words = reason(&ended).to_string();
        assert!(words.starts_with("damaged: the data of the image end at part "), "{words}");
    }
}

#[test]
fn a_jpeg_that_lacks_its_middle_is_found() {
    for (i, file) in KINDS.into_iter().enumerate() {
        let (first, last) = (segments(file, 0xDA)[0], file.len() - 2);
        let (mut n, mut missed) = (0, 0);
        for start in (first + 14..last).step_by(7) {
            let without = [&file[..start], &file[(start + (last - first) / 3).min(last)..]].concat();
            n += 1;
            missed += usize::from(decode(&without, &config()).is_ok());
        }
        // By chance the rest may have as many blocks.
        assert!(n > 100 && missed * 25 <= n, "{i}: {missed} of {n}");
    }
}

#[test]
fn a_jpeg_without_a_restart_or_a_component_is_found() {
    let restarts = KINDS[0];
    let marks: Vec<_> = (0xD0..=0xD7).flat_map(|marker| segments(restarts, marker)).collect();
    assert!(marks.len() > 8);
    for at in marks {
        let without = [&restarts[..at], &restarts[at + 2..]].concat();
        assert!(decode(&without, &config()).is_err(), "{at}");
    }
    // Of three scans the last one is dropped, with the codes before it.
    let last = *segments(KINDS[1], 0xC4).last().expect("codes");
    let without = [&KINDS[1][..last], &[0xFF, 0xD9]].concat();
    assert!(decode(&without, &config()).is_err());
    assert_eq!(blocks::check(&without, 75, 61), Err(BadReason::Damaged("2 of 3 colour components are there".into())));
}

#[test]
fn scans_of_nothing_take_no_time() {
    let whole = jpeg(&DynamicImage::new_luma8(8_000, 8_000));
    // Each would pass a million blocks, for each component.
    let nothing = [0xFF, 0xDA, 0, 6, 0, 0, 0, 0].repeat(100_000);
    let often = [&[0xFF, 0xDA, 2, 4, 255][..], &[1, 0].repeat(255), &[255, 63, 16]].concat().repeat(99);
    let end = whole.len() - 2;
    let with = |scans: &[u8]| reason(&[&whole[..end], scans, &whole[end..]].concat()).to_string();
    assert_eq!(with(&nothing), "damaged: a scan of no component");
    assert_eq!(with(&often), "damaged: a scan of a component that is not there, or twice");
}

#[test]
fn segments_without_end_are_refused() {
    let whole = jpeg(&grey());
    let with = |segment: &[u8], n: usize| [&whole[..2], &segment.repeat(n), &whole[2..]].concat();
    let note = [0xFF, 0xFE, 0, 2];
    assert!(decode(&with(&note, 9_000), &config()).is_ok());
    assert_eq!(reason(&with(&note, 10_001)), BadReason::Damaged(TOO_MANY.into()));
    let long = [&[0xFF, 0xE2, 0xFF, 0xFF][..], &[0; 65_533]].concat();
    assert_eq!(reason(&with(&long, 1_025)), BadReason::Damaged(TOO_MANY.into()));
}

#[test]
fn bits_of_a_progressive_jpeg_come_once() {
    let file = KINDS[2];
    let scans = segments(file, 0xDA);
    let (last, end) = (*scans.last().expect("scans"), file.len() - 2);
    // The last scan brings the lowest bit of a band: once more, and nothing is left to bring.
    let twice = [&file[..end], &file[last..end], &file[end..]].concat();
    assert_eq!(reason(&twice).to_string(), "damaged: a scan of bits that are not the next ones");
}

#[test]
fn nothing_is_hidden_from_the_check() {
    // What one reader takes for a segment, another may take for what stands within it.
    let whole = jpeg(&grey());
    let hidden = |marker: u8, segments: &[u8]| {
        let length = (segments.len() as u16 + 2).to_be_bytes();
        [&whole[..2], &[0xFF, marker], &length, segments, &whole[2..]].concat()
    };
    let frame = [0xFF, 0xC2, 0, 11, 8, 255, 255, 255, 255, 1, 1, 0x11, 0];
    assert!(decode(&hidden(0xE5, &frame), &config()).is_ok());
    for marker in [0xD0, 0xD7, 1] {
        assert!(reason(&hidden(marker, &frame)).to_string().contains("before the image"), "{marker:02x}");
    }
    let after = [&whole[..2], &frame, &whole[2..]].concat();
    assert!(matches!(decode(&after, &config()), Err(BadReason::Damaged(_) | BadReason::TooLarge { .. })));
    assert_eq!(blocks::check(&after, 40, 24), Err(BadReason::Damaged("two frames in one image".into())));
}

#[test]
fn a_progressive_jpeg_without_its_last_scans_is_found() {
    let file = KINDS[2];
    let scans = segments(file, 0xDA);
    assert!(scans.len() > 5);
    for &next in &scans[1..] {
        // Codes for it stand before it.
        let codes = segments(&file[..next], 0xC4).pop().filter(|at| file[*at..next].len() < 300).unwrap_or(next);
        for cut in [codes, next] {
            let ended = [&file[..cut], &[0xFF, 0xD9]].concat();
            assert!(matches!(reason(&ended), BadReason::Damaged(_)), "{cut}");
        }
    }
}

#[test]
fn what_fills_up_a_jpeg_does_no_harm() {
    let whole = jpeg(&grey());
    let alone = decode(&whole, &config()).expect("valid");
    let end = whole.len() - 2;
    let with = |bytes: &[u8]| decode(&[&whole[..end], bytes, &whole[end..]].concat(), &config());
    assert_eq!(with(&[0; 5]).expect("valid"), alone);
    assert_eq!(with(&[0xFF, 0, 0, 0xFF]).expect("valid"), alone);
    let words = with(&[0, 1]).expect_err("data of no block").to_string();
    assert_eq!(words, "damaged: more data behind part 15 of 15 than the image has");
}
