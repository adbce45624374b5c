use super::*;

#[test]
fn images_depend_on_id_and_seed_alone() {
    let glyphs = Glyphs::new(42);
    let mut together = Vec::new();
    glyphs.draw_all(&[9, 3, u32::MAX], &mut together);
    let apart: Vec<u8> = [9, 3, u32::MAX].into_iter().flat_map(|id| glyphs.draw(id)).collect();
    assert!(together == apart);
    assert!(glyphs.draw(3) != glyphs.draw(18), "the same character of the next writer");
    assert!(glyphs.draw(3) != Glyphs::new(43).draw(3));
}

#[test]
fn every_writer_is_one_of_training() {
    for id in (0..=u32::MAX).step_by(1_000_003).chain([u32::MAX]) {
        let writer = Glyphs::sample(id).writer();
        assert!(writers::TRAIN.contains(&writer) && !writers::VALIDATION.contains(&writer), "{id}");
    }
}

#[test]
fn characters_take_turns() {
    let codes: Vec<u8> = (0..15).map(|id| Glyphs::sample(15_000 + id).code()).collect();
    assert_eq!(codes, (1..=15).collect::<Vec<u8>>());
}

#[test]
fn pens_reach_from_hairlines_to_brushes() {
    let glyphs = Glyphs::new(7);
    let images: Vec<Vec<u8>> = (0..600).map(|id| glyphs.draw(id)).collect();
    let bright = |image: &Vec<u8>| image.iter().filter(|&&p| p > 90).count() as f32 / (SIDE * SIDE) as f32;
    let few = images.iter().filter(|image| bright(image) < 0.02).count();
    let many = images.iter().filter(|image| bright(image) > 0.1).count();
    assert!(few > 100 && many > 15, "{few} thin, {many} thick");
    let contrast = |image: &Vec<u8>| image.iter().fold(0, |m, &p| m.max(p)) - image.iter().fold(255, |m, &p| m.min(p));
    let faint = images.iter().filter(|image| contrast(image) < 24).count();
    assert!(faint < 30, "{faint} of 600 cannot be seen");
}
