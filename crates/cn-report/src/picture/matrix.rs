use super::Picture;
use super::canvas::{Colour, FAINT, INK, RULE, Rect, WHITE, WRONG};
use super::font::{Anchor, ellipsise, text_width};
use crate::scores::Confusion;
use crate::text::ClassNames;

const CELL: f32 = 38.0;
const TEXT: f32 = 15.0;
const MARGIN: f32 = 16.0;
const TITLE: f32 = 34.0;
/// Room for the name of a row, at most.
const WIDEST: f32 = 150.0;

/// True class down, predicted class and `none` across: the diagonal in blue, what is wrong in red. Its
/// sides grow with the classes; of many, [`Confusion::READABLE`] can be read.
#[must_use]
pub fn confusion_picture(confusion: &Confusion, names: &ClassNames) -> Picture {
    let shown = confusion.labels.len();
    let title = match confusion.n_classes {
        n if n > shown => format!("The {shown} most confused of {n} classes: true class down, predicted across"),
        _ => "True class down, predicted across".into(),
    };
    let shown: Vec<String> = confusion.labels.iter().map(|label| names.show(label)).collect();
    let left = MARGIN + shown.iter().map(|name| text_width(name, TEXT)).fold(0.0, f32::max).min(WIDEST) + 10.0;
    let (n, top) = (shown.len(), MARGIN + TITLE + CELL);
    let (width, height) = (left + (n + 1) as f32 * CELL + MARGIN, top + n as f32 * CELL + MARGIN);
    let mut picture = Picture::blank(width.ceil() as u32, height.ceil() as u32);
    picture.text((MARGIN, MARGIN + 16.0), Anchor::Left, &title, 17.0, INK);
    let columns = confusion.labels.iter().map(|label| names.short(label)).chain([names.no_class()]);
    for (column, name) in columns.enumerate() {
        let at = (left + (column as f32 + 0.5) * CELL, top - 10.0);
        picture.text(at, Anchor::Centre, &ellipsise(name, TEXT, CELL), TEXT, FAINT);
    }
    for (row, (name, counts)) in shown.iter().zip(&confusion.counts).enumerate() {
        let y = top + row as f32 * CELL;
        picture.text((left - 10.0, y + CELL * 0.64), Anchor::Right, &ellipsise(name, TEXT, WIDEST), TEXT, INK);
        let total = counts.iter().sum::<usize>().max(1) as f32;
        for (column, &count) in counts.iter().enumerate() {
            let x = left + column as f32 * CELL;
            cell(
                &mut picture,
                Rect { x, y, width: CELL, height: CELL },
                count,
                Ground { share: count as f32 / total, right: row == column },
            );
        }
    }
    picture
}

/// What colours a cell.
struct Ground {
    share: f32,
    right: bool,
}

fn cell(picture: &mut Picture, rect: Rect, count: usize, ground: Ground) {
    picture.fill(rect, RULE);
    let inner = Rect { x: rect.x + 1.0, y: rect.y + 1.0, width: rect.width - 1.0, height: rect.height - 1.0 };
    let strongest: Colour = if ground.right { [0, 104, 170] } else { WRONG };
    let depth = if count == 0 { 0.0 } else { 0.12 + 0.6 * ground.share };
    let mix = |c: usize| (255.0 + (f32::from(strongest[c]) - 255.0) * depth).round() as u8;
    picture.fill(inner, [mix(0), mix(1), mix(2)]);
    if count > 0 {
        let colour = if depth > 0.5 { WHITE } else { INK };
        let at = (rect.x + rect.width / 2.0, rect.y + rect.height * 0.64);
        picture.text(at, Anchor::Centre, &count.to_string(), TEXT, colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_are_left_out_take_no_place_but_in_the_title() {
        let of = |n_classes: usize| {
            let confusion = Confusion { labels: vec!["0".into()], n_classes, counts: vec![vec![1, 0]] };
            confusion_picture(&confusion, &ClassNames::default())
        };
        let (all, part) = (of(1), of(700));
        assert_eq!([all.width(), all.height()], [part.width(), part.height()]);
        assert_ne!(all.pixels(), part.pixels());
    }

    #[test]
    fn the_diagonal_is_blue_and_mistakes_are_red() {
        let labels = vec!["0".into(), "10".into()];
        let confusion = Confusion { labels, n_classes: 2, counts: vec![vec![5, 0, 0], vec![1, 4, 0]] };
        let picture = confusion_picture(&confusion, &ClassNames::new([("10", "十")]));
        let colours: std::collections::HashSet<[u8; 3]> =
            picture.pixels().chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        assert!(colours.iter().any(|[r, _, b]| *b > 150 && *r < 120), "no blue");
        assert!(colours.iter().any(|[r, g, _]| *r > 200 && *g < 220 && r > g), "no red");
    }
}
