//! Wrong settings files, weights and data.

use super::check;
use crate::run::Place;
use expect_test::expect;

#[test]
fn settings_files_are_checked() {
    let place = Place::new();
    place.write("typo.toml", "image_sise = 64\n").write("deep.toml", "[synthetic]\nimags = 3\n");
    place.write("phase.toml", "[[phase]]\nepochs = 1\nlr = 1e-3\nwarmup = 1\n").write("broken.toml", "image_size =\n");
    place.write("type.toml", "image_size = \"large\"\n").write("random.toml", "[validation]\nkind = \"affine\"\n");
    check(
        &place,
        "train --config missing.toml",
        expect![[r#"
            --- stderr
            error: cannot read the settings `missing.toml`
            cause: No such file or directory (os error 2)

            hint: name a TOML file, such as the config.toml of a run
            --- exit 1
        "#]],
    );
    check(
        &place,
        "train --config typo.toml",
        expect![[r#"
        --- stderr
        error: cannot use the settings of `typo.toml`
        cause: there is no setting `image_sise`

        hint: the nearest one is `image_size`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --config deep.toml",
        expect![[r#"
        --- stderr
        error: cannot use the settings of `deep.toml`
        cause: there is no setting `imags` in `[synthetic]`

        hint: the nearest one is `images`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --config phase.toml",
        expect![[r#"
        --- stderr
        error: cannot use the settings of `phase.toml`
        cause: there is no setting `warmup` in `[phase]`

        hint: there are frozen, epochs, lr, curve, pct_start, div, div_final, moms
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --config broken.toml",
        expect![[r#"
            --- stderr
            error: `broken.toml` is not TOML
            cause: TOML parse error at line 1, column 13
              |
            1 | image_size =
              |             ^
            string values must be quoted, expected literal string

            hint: mend the line, or begin with the config.toml of a run
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --config type.toml",
        expect![[r#"
            --- stderr
            error: cannot use the settings of `type.toml`
            cause: a setting has a wrong value
            cause: invalid type: string "large", expected u32
            in `image_size`

            hint: the config.toml of a run shows every setting with a value that can be
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --config random.toml",
        expect![[r#"
        --- stderr
        error: `[validation]` must not be random

        hint: use `kind = "whole"` or `"centre"`
        --- exit 2
    "#]],
    );
}

#[test]
fn weight_files_are_checked() {
    let place = Place::new();
    place.write("page.pth", "<html>no weights</html>");
    check(
        &place,
        "train --weights missing.pth",
        expect![[r#"
            --- stdout
            data      synthetic handwriting, drawn in memory, since there is no `data/chinese-mnist` here
                      the real scans: `cargo xtask fetch-data`; your own images: `--data DIR`
            --- stderr
            error: there are no weights to start from
            cause: cannot read the weight file `missing.pth`
            cause: No such file or directory (os error 2)

            hint: `--weights` takes auto, none, imagenet, glyphs, a file (safetensors, PyTorch's .pth) or a run's folder
            --- exit 1
        "#]],
    );
    check(
        &place,
        "train --weights page.pth",
        expect![[r#"
            --- stdout
            data      synthetic handwriting, drawn in memory, since there is no `data/chinese-mnist` here
                      the real scans: `cargo xtask fetch-data`; your own images: `--data DIR`
            --- stderr
            error: there are no weights to start from
            cause: cannot use the weight file `page.pth`
            cause: the weight file is a web page, expected safetensors or a PyTorch `.pth` of the zip format

            hint: save it again with a current PyTorch (`torch.save(model.state_dict(), PATH)`), or as safetensors
            --- exit 1
        "#]],
    );
}

#[test]
fn data_are_checked() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).expect("made");
    place.folders(10).write("table/labels.csv", "id,kind\n1,a\n");
    check(
        &place,
        "train --data missing",
        expect![[r#"
            --- stdout
            data      `missing`
            weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
            --- stderr
            error: there is no folder `missing`

            hint: run `cargo xtask fetch-data`, or pass the folder of the data set with `--data`
            --- exit 1
        "#]],
    );
    check(
        &place,
        "train --data table/labels.csv",
        expect![[r#"
            --- stdout
            data      `table/labels.csv`
            weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
            --- stderr
            error: `table/labels.csv` is a file, not a folder

            hint: pass its folder with `--data` and the file with `--csv`
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --data empty",
        expect![[r#"
            --- stdout
            data      `empty`
            weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
            --- stderr
            error: `empty` holds no `dataset.toml`, no `chinese_mnist.csv`, no `train/<label>/` and no `<label>/` with images

            hint: describe the layout in a `dataset.toml`, or with `--csv`, `--image` and `--label`
            --- exit 1
        "#]],
    );
    check(
        &place,
        "train --data images --split group --batch-size 4",
        expect![[r#"
            --- stdout
            data      `images`
            weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
            --- stderr
            error: the group of `dark/0.png` is unknown, and the split `group` needs one for every image

            hint: name the column that holds the group with `group` or `--group` and fill its empty fields, or split at random
            --- exit 1
        "#]],
    );
    check(
        &place,
        "train --data images --val-groups 3,14 --batch-size 4",
        expect![[r#"
            --- stdout
            data      `images`
            weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
            --- stderr
            error: the group of `dark/0.png` is unknown, and the split `val-groups` needs one for every image

            hint: name the column that holds the group with `group` or `--group` and fill its empty fields, or split at random
            --- exit 1
        "#]],
    );
    check(
        &place,
        "train --data images --batch-size 64",
        expect![[r#"
            --- stdout
            data      `images`
            weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
            --- stderr
            error: a batch of 64 images is larger than the training part of 16

            hint: use a smaller `--batch-size`, or more images
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --synthetic --limit 60 --batch-size 64",
        expect![[r#"
        --- stdout
        data      synthetic handwriting, drawn in memory
        weights   none: the built-in ones have learnt from such drawings already; training starts from scratch
                  those: `--weights glyphs`; ImageNet's: `cargo xtask fetch-weights resnet18`; a file of yours: `--weights FILE`
        --- stderr
        error: a batch of 64 images is larger than the training part of 48

        hint: use a smaller `--batch-size`, or more images
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --data table --csv labels.csv --image {id}.png --label sort",
        expect![[r#"
            --- stdout
            data      `table`
            weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
            --- stderr
            error: `table/labels.csv` has no column `sort`, only `id`, `kind`

            hint: name one of the columns that exist
            --- exit 1
        "#]],
    );
    check(
        &place,
        "train --csv labels.csv --label kind",
        expect![[r#"
            --- stderr
            error: flags describe a table, but no `--data` says where it is

            hint: add `--data DIR`: the folder that paths in the table begin in
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --synthetic --limit 2 --batch-size 2",
        expect![[r#"
            --- stdout
            data      synthetic handwriting, drawn in memory
            weights   none: the built-in ones have learnt from such drawings already; training starts from scratch
                      those: `--weights glyphs`; ImageNet's: `cargo xtask fetch-weights resnet18`; a file of yours: `--weights FILE`
            --- stderr
            error: with 2 images in all, the training or the validation part is empty

            hint: draw more: `--limit 1500`
            --- exit 2
        "#]],
    );
}

#[test]
fn damaged_images_are_named_together() {
    let place = Place::new();
    place.folders(10).write("images/dark/cut.png", "\u{89}PNG").write("images/light/page.png", "<html>");
    check(
        &place,
        "train --data images --batch-size 4",
        expect![[r#"
            --- stdout
            data      `images`
            weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
            --- stderr
            error: 2 of 22 images cannot be used:
              dark/cut.png: no image of a supported format (JPEG, PNG, BMP, GIF, WebP, TIFF)
              light/page.png: no image of a supported format (JPEG, PNG, BMP, GIF, WebP, TIFF)

            hint: repair or remove them, or leave them out with `--skip-damaged`
            --- exit 1
        "#]],
    );
    let skipped = place.line("train --data images --batch-size 4 --skip-damaged --dry-run");
    assert!(skipped.stderr.starts_with("warning: 2 images are left out"), "{}", skipped.snapshot());
    assert!(skipped.stdout.contains("16 images train, 4 judge"), "{}", skipped.snapshot());
    assert!(!place.path("runs").exists());
    // The other commands name them too.
    let shown = place.line("show --data images --batch-size 4 --skip-damaged --out picture.png");
    assert!(shown.code == 0 && shown.stderr == skipped.stderr, "{}", shown.snapshot());
    let size = "--image-size 32 --batch-size 4 --threads 2";
    place.line(&format!("train --data images --skip-damaged {size} --epochs 1 --out run"));
    // The settings of the run say that its own data may have some.
    let judged = place.line("evaluate run --data images");
    assert!(judged.code == 0 && judged.stderr.contains("2 images are left out"), "{}", judged.snapshot());
    for command in ["evaluate run --data others", "predict run others"] {
        place.image("others/dark/1.png", 91).image("others/light/1.png", 131).write("others/light/page.png", "<html>");
        let refused = place.line(command);
        assert!(refused.code == 1 && refused.stderr.contains("page.png"), "{}", refused.snapshot());
        let skipped = place.line(&format!("{command} --skip-damaged"));
        assert!(skipped.code == 0 && skipped.stderr.contains("1 image is left out"), "{}", skipped.snapshot());
    }
    let predicted = place.line("predict run images --skip-damaged").stdout;
    assert_eq!((predicted.lines().count(), predicted.contains("cut.png")), (20, false), "{predicted}");
    let none = place.write("bad/only.png", "<html>").line("predict run bad --skip-damaged");
    assert!(none.code == 1 && none.stderr.starts_with("error: "), "{}", none.snapshot());
}

#[test]
fn pictures_that_cannot_be_are_refused_first() {
    let place = Place::new();
    place.folders(3);
    for (flags, problem) in [
        ("--rows 99999999999999 --cols 99999999999", "are more than the 10000 allowed"),
        ("--rows 0", "at least one row"),
        ("--out images", "is a folder"),
        ("--out x.jpg", "the picture is a PNG"),
    ] {
        let ended = place.line(&format!("show --data images --batch-size 2 {flags}"));
        let refused = ended.code == 2 && ended.stdout.is_empty() && ended.stderr.contains(problem);
        assert!(refused && ended.stderr.contains("hint: "), "{}", ended.snapshot());
    }
}

#[test]
fn labels_that_only_judge_are_unknown() {
    let place = Place::new();
    place.image("parts/train/dark/1.png", 1).image("parts/train/light/1.png", 200).image("parts/val/rare/1.png", 9);
    check(
        &place,
        "train --data parts --batch-size 2",
        expect![[r#"
            --- stdout
            data      `parts`
            weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
            --- stderr
            error: the label `rare` of `val/rare/1.png` is not among the 2 classes of the vocabulary

            hint: the vocabulary is that of the training part: add images of that label to it, or split in another way
            --- exit 1
        "#]],
    );
    assert!(!place.path("runs").exists());
}

#[test]
fn what_is_seldom_meant_is_said() {
    let place = Place::new();
    for i in 0..20u8 {
        let name = format!("one/red/{i}.png");
        place.image(&name, 0);
        image::RgbImage::from_pixel(16, 16, image::Rgb([200, i, 0])).save(place.path(&name)).expect("written");
    }
    let ended = place.line("train --data one --batch-size 4 --dry-run --no-cache");
    let line = "colour    the images are turned grey: `channels = 1` in the settings of `quick`\n";
    assert!(ended.code == 0 && ended.stdout.contains(line), "{}", ended.snapshot());
    let warning = "warning: all images are labelled `red`: with a single class, there is nothing to tell apart\n";
    assert_eq!(ended.stderr, warning);
    // Neither is said of two classes in grey.
    place.folders(10);
    let ended = place.line("train --data images --batch-size 4 --dry-run --no-cache");
    assert!(ended.code == 0 && !ended.stdout.contains("colour") && ended.stderr.is_empty(), "{}", ended.snapshot());
    // Fewer images than a batch of the recipe has.
    let ended = place.line("train --data images --dry-run --no-cache");
    let line = "batch     the 16 training images, in place of 64\n";
    assert!(ended.code == 0 && ended.stdout.contains(line), "{}", ended.snapshot());
    let shown = place.line("show --data images --no-cache --out images.png");
    assert!(shown.stdout.contains("16 train in 1 batch of 16"), "{}", shown.snapshot());
}

#[test]
fn other_images_are_described_as_those_of_the_run_were() {
    let place = Place::new();
    for folder in ["here", "there"] {
        let mut table = String::from("id,sort,who\n");
        for n in 0..12u8 {
            place.image(&format!("{folder}/{n}.png"), 20 * n + folder.len() as u8);
            table += &format!("{n},{},{}\n", ["dark", "light", ""][n as usize % 3], n % 4);
        }
        place.write(&format!("{folder}/labels.csv"), table);
    }
    let described = "--csv labels.csv --image {id}.png --label sort --label-separator ; --group who";
    let flags = "--image-size 32 --batch-size 4 --threads 1 --epochs 1 --split group --weights none";
    place.result(&format!("train --data here {described} {flags} --out run"));
    let judged = place.result("evaluate run --data there");
    assert_eq!((&judged["n"], &judged["groups"].as_array().map(Vec::len)), (&12.into(), &Some(4)));
    // What flags say comes first, and a folder without such a table says what it is by itself.
    let judged = place.result("evaluate run --data there --group id");
    assert_eq!(judged["groups"].as_array().map(Vec::len), Some(12));
    place.image("folders/dark/1.png", 1).image("folders/light/1.png", 250);
    assert_eq!(place.result("evaluate run --data folders")["n"], 2);
    // What the folder says of itself comes before what the run says of its own.
    let other = "csv = \"labels.csv\"\nimage = \"{id}.png\"\nlabel = \"truth\"\n";
    place.write("own/dataset.toml", other).write("own/labels.csv", "id,sort,truth\n1,light,dark\n2,light,dark\n");
    place.image("own/1.png", 1).image("own/2.png", 2);
    let classes = |line: &str| place.result(line)["classes"].to_string();
    let own = classes("evaluate run --data own");
    assert_eq!(own, classes("evaluate run --data own --csv labels.csv --image {id}.png --label truth"));
    assert_ne!(own, classes("evaluate run --data own --csv labels.csv --image {id}.png --label sort"));
    // A table that does not name groups is judged without them.
    place.write("alone/labels.csv", "id,sort\n1,dark\n").image("alone/1.png", 1);
    let judged = place.line("evaluate run --data alone");
    assert!(judged.code == 0 && judged.stderr.contains("judged without groups"), "{}", judged.snapshot());
}

#[test]
fn results_do_not_become_images() {
    let place = Place::new();
    place.folders(4);
    for line in [
        "train --data images --out images/run",
        "train --data images --out images/new/run",
        "show --data images --out images/dark/show.png",
        "audit --data images --out images/audit",
    ] {
        let ended = place.line(&format!("{line} --batch-size 2"));
        assert!(ended.code == 1 && ended.stderr.contains("is in the folder of the images"), "{}", ended.snapshot());
    }
    assert_eq!(place.line("show --data images --batch-size 2 --out beside/show.png").code, 0);
    // A batch plays no part where images are looked at.
    assert_eq!(place.line("audit --data images --batch-size 500 --out beside/audit").code, 0);
}
