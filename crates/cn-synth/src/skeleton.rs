//! Skeletons of the characters: parts, their variants, strokes. The data stands in `data/skeletons.txt`.

use std::sync::OnceLock;

use crate::character::CHARACTERS;

/// How a stroke is made; decides its curve, its ends and its pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 横, left to right.
    Horizontal,
    /// 竖, downwards.
    Vertical,
    /// 撇, falling to the left, fading out.
    Left,
    /// 捺, falling to the right.
    Right,
    /// 点.
    Dot,
    /// 提, rising to the right.
    Rise,
    /// 折, anything with a bend.
    Bent,
}

/// A control point in hundredths of an em.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Control {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) corner: bool,
    pub(crate) hook: bool,
}

/// How a stroke follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joint {
    /// Hasty writers leave the pen on the paper.
    Easy,
    /// Only the hastiest do.
    Rare,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stroke {
    pub(crate) kind: Kind,
    pub(crate) joint: Joint,
    pub(crate) controls: Vec<Control>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variant {
    pub(crate) weight: f32,
    pub(crate) strokes: Vec<Stroke>,
}

/// What can stand in one place of a character.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Part {
    pub(crate) variants: Vec<Variant>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Skeleton {
    pub(crate) parts: Vec<Part>,
}

/// The skeleton of the character with this code, 1 to 15.
pub(crate) fn of(code: u8) -> &'static Skeleton {
    static ALL: OnceLock<Vec<Skeleton>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let text = include_str!("../data/skeletons.txt");
        parse(text).expect("the embedded skeletons are well formed; a test reads them")
    });
    &all[usize::from(code) - 1]
}

/// Reads the format that the head of `data/skeletons.txt` describes; the error is the number of the wrong line.
fn parse(text: &str) -> Result<Vec<Skeleton>, usize> {
    let mut all: Vec<Skeleton> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            parse_line(line, &mut all).ok_or(i + 1)?;
        }
    }
    if all.len() == CHARACTERS.len() { Ok(all) } else { Err(text.lines().count()) }
}

fn parse_line(line: &str, all: &mut Vec<Skeleton>) -> Option<()> {
    let mut words = line.split_whitespace();
    match words.next()? {
        "character" => {
            let expected = CHARACTERS.get(all.len())?.character;
            let found = words.next()?.chars().next()?;
            (found == expected).then(|| all.push(Skeleton::default()))
        }
        "part" => {
            all.last_mut()?.parts.push(Part::default());
            Some(())
        }
        "variant" => {
            let weight = words.next()?.parse().ok().filter(|&w: &f32| w > 0.0)?;
            let part = all.last_mut()?.parts.last_mut()?;
            part.variants.push(Variant { weight, strokes: Vec::new() });
            Some(())
        }
        kind => {
            let stroke = Stroke {
                kind: parse_kind(kind.trim_end_matches('~'))?,
                joint: if kind.ends_with('~') { Joint::Easy } else { Joint::Rare },
                controls: words.map(parse_control).collect::<Option<_>>()?,
            };
            let variant = all.last_mut()?.parts.last_mut()?.variants.last_mut()?;
            (stroke.controls.len() >= 2).then(|| variant.strokes.push(stroke))
        }
    }
}

fn parse_kind(letter: &str) -> Option<Kind> {
    Some(match letter {
        "h" => Kind::Horizontal,
        "s" => Kind::Vertical,
        "p" => Kind::Left,
        "n" => Kind::Right,
        "d" => Kind::Dot,
        "t" => Kind::Rise,
        "b" => Kind::Bent,
        _ => return None,
    })
}

fn parse_control(word: &str) -> Option<Control> {
    let (x, y) = word.trim_end_matches(['^', '!']).split_once(',')?;
    Some(Control { x: x.parse().ok()?, y: y.parse().ok()?, corner: word.ends_with('^'), hook: word.ends_with('!') })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_parts_variants_and_strokes() {
        for c in CHARACTERS {
            let skeleton = of(c.code);
            assert!(!skeleton.parts.is_empty(), "{}", c.character);
            for part in &skeleton.parts {
                assert!(!part.variants.is_empty(), "{}", c.character);
                assert!(part.variants.iter().all(|v| !v.strokes.is_empty()));
            }
        }
    }

    /// The strokes of the commonest variants, as taught in school.
    #[test]
    fn stroke_counts_are_those_of_the_dictionary() {
        let expected = [13, 1, 2, 3, 5, 4, 4, 2, 2, 2, 2, 6, 3, 3, 3];
        for (c, expected) in CHARACTERS.iter().zip(expected) {
            let strokes = |p: &Part| {
                let first = &p.variants[0];
                assert!(p.variants.iter().all(|v| v.weight <= first.weight));
                first.strokes.len()
            };
            let n: usize = of(c.code).parts.iter().map(strokes).sum();
            assert_eq!(n, expected, "{}", c.character);
        }
    }

    #[test]
    fn malformed_lines_are_found() {
        let check = |text, line| assert_eq!(parse(text), Err(line), "{text}");
        check("character 一", 1);
        check("part", 1);
        check("character 零\npart\nvariant 0", 3);
        check("character 零\npart\nvariant 1\nh 1,2", 4);
        check("character 零\npart\nvariant 1\nq 1,2 3,4", 4);
        check("character 零\npart\nvariant 1\nh 1,2 3;4", 4);
    }
}
