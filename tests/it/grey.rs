//! Grey images in a model of three channels, which sees them as planes, beside the same images in colour.

use crate::run::Place;
use serde_json::Value;

/// ImageNet's statistics, so that black is not zero.
const FLAGS: &str = "--recipe notebook --config imagenet.toml --image-size 32 --batch-size 8 --epochs 1 --no-cache";

fn place() -> Place {
    let place = Place::new();
    place.write("imagenet.toml", "normalise = \"imagenet\"\n");
    place
}

fn probabilities(predicted: &Value) -> [f64; 2] {
    ["dark", "light"].map(|class| predicted["probabilities"][class].as_f64().expect("a probability"))
}

#[test]
fn an_image_is_the_same_in_grey_and_in_colour() {
    let place = place();
    let trained = place.folders(20).result(&format!("train {FLAGS} --data images --out run"));
    let weights = cn_zoo::WeightFile::open(place.path("run/model.safetensors")).expect("readable");
    assert_eq!(weights.get("conv1.weight").expect("a stem").dims(), [64, 3, 7, 7]);
    assert_eq!(place.json("run/model.json")["channels"], 3);

    for level in [0u8, 90, 130, 255] {
        place.image("grey.png", level);
        image::RgbImage::from_pixel(16, 16, image::Rgb([level; 3])).save(place.path("rgb.png")).expect("written");
        let [grey, rgb] = ["grey", "rgb"].map(|name| probabilities(&place.result(&format!("predict run {name}.png"))));
        let off = (0..2).map(|i| (grey[i] - rgb[i]).abs()).fold(0.0, f64::max);
        assert!(off < 1e-5, "level {level}: {grey:?} in grey, {rgb:?} in colour");
    }

    let judged = place.result("evaluate run --no-cache");
    assert_eq!(judged["exact_match"], trained["val"]["exact_match"]);
    let close = |a: &Value, b: &Value| (a.as_f64().expect("a number") - b.as_f64().expect("a number")).abs() < 1e-6;
    assert!(close(&judged["loss"], &trained["val"]["loss"]), "{judged} {trained}");
    let found = place.result("lr-find --from run --no-cache --out found");
    assert!(found["suggestions"].is_object(), "{found}");
    assert_eq!(place.line(&format!("show {}", FLAGS.replace("--epochs 1", "--data images"))).code, 0);
}

#[test]
fn colours_train_through_three_channels() {
    let place = place();
    for i in 0..20u8 {
        for (class, colour) in [("dark", [i, 0, 90]), ("light", [255, 255 - i, 90])] {
            let name = place.path(&format!("colours/{class}/{i}.png"));
            std::fs::create_dir_all(name.parent().expect("below the folder")).expect("made");
            image::RgbImage::from_pixel(16, 16, image::Rgb(colour)).save(name).expect("written");
        }
    }
    let trained = place.result(&format!("train {FLAGS} --data colours --out run"));
    let judged = place.result("evaluate run --no-cache");
    assert_eq!(judged["exact_match"], trained["val"]["exact_match"]);
    // A grey image among them, and alone.
    place.image("colours/dark/grey.png", 10).image("grey.png", 10);
    assert_eq!(place.line("predict run colours").code, 0);
    assert_eq!(place.line("predict run grey.png").code, 0);
}
