//! A model that sees a square about the ink, wherever the ink is.

use crate::run::Place;
use image::{GrayImage, Luma, imageops};
use serde_json::{Value, json};

const FLAGS: &str = "--synthetic --ink-square 0.8 --image-size 32 --batch-size 8 --limit 60 --epochs 1 --weights none";

#[test]
fn place_on_the_canvas_does_not_matter() {
    let place = Place::new();
    let trained = place.result(&format!("train {FLAGS} --out run"));
    let transform = json!({"kind": "ink_square", "fill": 0.8, "threshold": 24});
    assert_eq!(place.json("run/model.json")["transform"], transform);
    let judged = place.result("evaluate run");
    assert_eq!(judged["exact_match"], trained["val"]["exact_match"]);
    let [a, b] = [&judged["loss"], &trained["val"]["loss"]].map(|loss| loss.as_f64().expect("a number"));
    assert!((a - b).abs() < 1e-6, "{a} judged, {b} trained");

    // A T of 20 px with an upright of its own brightness.
    let stroke = GrayImage::from_fn(20, 20, |x, y| {
        Luma([if y < 2 {
            200
        } else if (9..11).contains(&x) {
            120
        } else {
            0
        }])
    });
    let drawn = |name: &str, (width, height): (u32, u32), (x, y)| -> Value {
        let mut canvas = GrayImage::new(width, height);
        imageops::overlay(&mut canvas, &stroke, x, y);
        canvas.save(place.path(name)).expect("written");
        place.result(&format!("predict run {name}"))["probabilities"].clone()
    };
    let middle = drawn("middle.png", (64, 64), (22, 22));
    assert_eq!(drawn("corner.png", (64, 64), (38, 4)), middle);
    assert_ne!(drawn("cut.png", (64, 64), (52, 22)), middle);
}
