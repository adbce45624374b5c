//! What the program says, mistakes first.

use crate::run::{Ended, Place};
use expect_test::{Expect, expect};

/// Runs a line in `place`.
fn check(place: &Place, line: &str, expected: Expect) {
    expected.assert_eq(&place.line(line).snapshot());
}

#[test]
fn unknown_words_are_wrong_usage() {
    let place = Place::new();
    check(
        &place,
        "train --nonsense",
        expect![[r#"
        --- stderr
        error: unexpected argument '--nonsense' found

        Usage: cn-train train [OPTIONS]

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
    check(
        &place,
        "trian",
        expect![[r#"
        --- stderr
        error: unrecognized subcommand 'trian'

          tip: a similar subcommand exists: 'train'

        Usage: cn-train [OPTIONS] [COMMAND]

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --epochs many",
        expect![[r#"
        --- stderr
        error: invalid value 'many' for '--epochs <N>': invalid digit found in string

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --synthetic --data x",
        expect![[r#"
        --- stderr
        error: the argument '--synthetic' cannot be used with '--data <DIR>'

        Usage: cn-train train --synthetic

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
    check(
        &place,
        "completions nosuch",
        expect![[r#"
        --- stderr
        error: invalid value 'nosuch' for '<SHELL>'
          [possible values: bash, elvish, fish, powershell, zsh]

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
}

#[test]
fn numbers_out_of_range_are_wrong_usage() {
    let place = Place::new();
    check(
        &place,
        "train --epochs 0",
        expect![[r#"
            --- stderr
            error: `--epochs 0` trains nothing

            hint: `--epochs 0 --freeze-epochs 3` trains the head alone; `--dry-run` does all but train
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --epochs 0 --freeze-epochs 0",
        expect![[r#"
        --- stderr
        error: `--epochs 0` trains nothing

        hint: `--epochs 0 --freeze-epochs 3` trains the head alone; `--dry-run` does all but train
        --- exit 2
    "#]],
    );
    check(
        &place,
        "show --lr 1",
        expect![[r#"
        --- stderr
        error: unexpected argument '--lr' found

          tip: a similar argument exists: '--val-groups'

        Usage: cn-train show --val-groups <LIST|FILE>

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
    check(
        &place,
        "lr-find --epochs 1",
        expect![[r#"
        --- stderr
        error: unexpected argument '--epochs' found

        Usage: cn-train lr-find [OPTIONS]

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --lr 0",
        expect![[r#"
        --- stderr
        error: the learning rate 0 is not a finite number above 0

        hint: `cn-train lr-find` suggests one
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --lr NaN",
        expect![[r#"
        --- stderr
        error: the learning rate NaN is not a finite number above 0

        hint: `cn-train lr-find` suggests one
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --lr -0.01",
        expect![[r#"
        --- stderr
        error: the learning rate -0.01 is not a finite number above 0

        hint: `cn-train lr-find` suggests one
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --image-size 0",
        expect![[r#"
        --- stderr
        error: the image size 0 is not between 1 and 2048

        hint: the scans have 64 px; `--image-size 64` or 128 are usual
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --image-size 100000",
        expect![[r#"
        --- stderr
        error: the image size 100000 is not between 1 and 2048

        hint: the scans have 64 px; `--image-size 64` or 128 are usual
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --batch-size 0",
        expect![[r#"
        --- stderr
        error: the batch size is 0, expected at least 2

        hint: batch norm needs several images; 64 is usual
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --batch-size 1",
        expect![[r#"
        --- stderr
        error: the batch size is 1, expected at least 2

        hint: batch norm needs several images; 64 is usual
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --val-fraction 0",
        expect![[r#"
        --- stderr
        error: the validation share 0 is not between 0 and 1

        hint: a fifth of the images is `--val-fraction 0.2`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --val-fraction 1",
        expect![[r#"
        --- stderr
        error: the validation share 1 is not between 0 and 1

        hint: a fifth of the images is `--val-fraction 0.2`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --limit 0",
        expect![[r#"
        --- stderr
        error: `--limit 0` leaves no images
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --limit-per-class 0",
        expect![[r#"
        --- stderr
        error: `--limit-per-class 0` leaves no images
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --checkpoint-every 0",
        expect![[r#"
        --- stderr
        error: `--checkpoint-every 0` is no interval
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --threads 0",
        expect![[r#"
        --- stderr
        error: `--threads 0` leaves nobody to compute

        hint: leave it out to use all cores
        --- exit 2
    "#]],
    );
    let many = place.line("train --threads 100000");
    assert_eq!(many.code, 2, "{}", many.snapshot());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = "error: `--threads 100000` is not between 1 and 1024\n\nhint: leave it out to use all cores";
    assert_eq!(many.stderr, format!("{text}: {cores} here\n"));
    check(
        &place,
        "train --synthetic --limit 99999999999",
        expect![[r#"
            --- stdout
            data      synthetic handwriting, drawn in memory
            weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
            --- stderr
            error: 99999999999 synthetic images need 381469 GiB of memory, more than the 4 GiB allowed

            hint: draw at most 1048576: `--limit 1048576`
            --- exit 2
        "#]],
    );
    check(
        &place,
        "show --rows 0",
        expect![[r#"
        --- stderr
        error: a picture needs at least one row and one column
        --- exit 2
    "#]],
    );
    check(
        &place,
        "synth --out x --writers 0",
        expect![[r#"
        --- stderr
        error: 0 writers with 10 samples are 0 images, expected 1 to 50000000
        --- exit 2
    "#]],
    );
    assert!(!place.path("runs").exists());
}

#[test]
fn names_that_mean_nothing_are_wrong_usage() {
    let place = Place::new();
    check(
        &place,
        "train --recipe quikc",
        expect![[r#"
        --- stderr
        error: there is no recipe `quikc`, only quick, notebook, notebook-lr, notebook-tuned, best

        hint: use `--recipe quick`, or name a file of your own with `--config`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --arch resnet19",
        expect![[r#"
        --- stderr
        error: there is no architecture `resnet19`
        cause: no architecture is called `resnet19`; known are resnet18, resnet34, resnet50

        hint: use `--arch resnet18`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --split writer",
        expect![[r#"
        --- stderr
        error: cannot split by `writer`
        cause: `writer` is no split: expected `random`, `group`, `stratified`, `kfold:K/I` or `fixed`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --split kfold:5/5",
        expect![[r#"
        --- stderr
        error: cannot split by `kfold:5/5`
        cause: fold 5 of 5: `k` must be at least 2, and folds count from 0 to `k` - 1

        hint: five folds are `kfold:5/0` to `kfold:5/4`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --device tpu",
        expect![[r#"
        --- stderr
        error: there is no device `tpu`, expected auto, cpu, cuda or cuda:N
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --precision f8",
        expect![[r#"
        --- stderr
        error: there is no precision `f8`, expected f32 or bf16
        --- exit 2
    "#]],
    );
}

#[test]
fn what_this_build_lacks_is_said() {
    let place = Place::new();
    check(
        &place,
        "train --device cuda:1",
        expect![[r#"
        --- stderr
        error: this build cannot compute on `cuda:1`

        hint: use `--device cpu`; a build for GPUs needs the feature `cuda`
        --- exit 1
    "#]],
    );
    check(
        &place,
        "train --precision bf16",
        expect![[r#"
        --- stderr
        error: the CPU has no kernels for the precision `bf16`

        hint: use `--precision f32`
        --- exit 1
    "#]],
    );
    check(
        &place,
        "train --weights imagenet",
        expect![[r#"
        --- stdout
        data      synthetic handwriting, drawn in memory, since there is no `data/chinese-mnist` here
                  the real scans: `cargo xtask fetch-data`; your own images: `--data DIR`
        --- stderr
        error: there are no ImageNet weights for resnet18 in `data/weights`

        hint: name a file with `--weights FILE`: torchvision's .pth and timm's safetensors are read
        --- exit 1
    "#]],
    );
    check(
        &place,
        "train --weights glyphs",
        expect![[r#"
        --- stdout
        data      synthetic handwriting, drawn in memory, since there is no `data/chinese-mnist` here
                  the real scans: `cargo xtask fetch-data`; your own images: `--data DIR`
        --- stderr
        error: this build has no weights called `glyphs`

        hint: use `--weights none`, or name a file
        --- exit 1
    "#]],
    );
}

#[test]
fn instruction_sets_are_checked() {
    let place = Place::new();
    let mut command = place.command(&["train"]);
    command.env("CN_ISA", "sse9");
    expect![[r#"
        --- stderr
        error: the environment variable `CN_ISA` names no instruction set to use
        cause: `sse9` is no instruction set, expected `avx512`, `avx2` or `portable`

        hint: unset it
        --- exit 2
    "#]]
    .assert_eq(&Ended::of(command).snapshot());
}

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

        hint: `--weights` takes auto, none, imagenet or a file (safetensors, PyTorch's .pth)
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

        hint: `--weights` takes auto, none, imagenet or a file (safetensors, PyTorch's .pth)
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
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
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
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
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
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
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
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
        --- stderr
        error: the group of `dark/0.png` is unknown, and the split `group` needs one for every image

        hint: name the column that holds the group with `group` or `--group`, or split at random
        --- exit 1
    "#]],
    );
    check(
        &place,
        "train --data images --val-groups 3,14 --batch-size 4",
        expect![[r#"
        --- stdout
        data      `images`
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
        --- stderr
        error: the group of `dark/0.png` is unknown, and the split `val-groups` needs one for every image

        hint: name the column that holds the group with `group` or `--group`, or split at random
        --- exit 1
    "#]],
    );
    check(
        &place,
        "train --data images",
        expect![[r#"
        --- stdout
        data      `images`
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
        --- stderr
        error: a batch of 64 images is larger than the training part of 16

        hint: use a smaller `--batch-size`, or more images
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --synthetic --limit 60",
        expect![[r#"
        --- stdout
        data      synthetic handwriting, drawn in memory
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
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
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
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
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --synthetic --limit 2 --batch-size 2",
        expect![[r#"
        --- stdout
        data      synthetic handwriting, drawn in memory
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
        --- stderr
        error: 2 images leave the training or the validation part empty

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
            weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
            --- stderr
            error: 2 of 22 images cannot be used:
              dark/cut.png: no image of a supported format (JPEG, PNG, BMP, GIF, WebP, TIFF)
              light/page.png: no image of a supported format (JPEG, PNG, BMP, GIF, WebP, TIFF)

            hint: repair or remove them, or leave them out (`LoadConfig::damaged`, `--skip-damaged` in training)
            --- exit 1
        "#]],
    );
    let skipped = place.line("train --data images --batch-size 4 --skip-damaged --dry-run");
    assert!(skipped.stderr.starts_with("warning: 2 images are left out"), "{}", skipped.snapshot());
    assert!(skipped.stdout.contains("16 images train, 4 judge"), "{}", skipped.snapshot());
    assert!(!place.path("runs").exists());
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
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
        --- stderr
        error: the label `rare` of `val/rare/1.png` is not among the 2 classes of the vocabulary

        hint: the vocabulary is that of the training part: use another split seed, more images, or `stratified`
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
}

#[test]
fn runs_are_looked_for() {
    let place = Place::new();
    place.write("taken/config.toml", "seed = 1\n").write("file", "x").image("a.png", 1);
    check(
        &place,
        "train --out taken",
        expect![[r#"
        --- stderr
        error: `taken` already holds a run

        hint: choose another `--out`, or continue it with `--resume`
        --- exit 1
    "#]],
    );
    check(
        &place,
        "train --out file",
        expect![[r#"
        --- stderr
        error: `file` is no folder

        hint: choose another `--out`
        --- exit 2
    "#]],
    );
    check(
        &place,
        "train --out file/run",
        expect![[r#"
        --- stderr
        error: cannot write a run to `file/run`
        cause: Not a directory (os error 20)

        hint: choose another `--out`
        --- exit 1
    "#]],
    );
    check(
        &place,
        "train --resume nowhere",
        expect![[r#"
        --- stderr
        error: there is no run in `nowhere`

        hint: name the folder that holds its config.toml
        --- exit 1
    "#]],
    );
    check(
        &place,
        "train --force",
        expect![[r#"
        --- stderr
        error: the following required arguments were not provided:
          --resume <RUN>

        Usage: cn-train train --resume <RUN> --force

        For more information, try '--help'.
        --- exit 2
    "#]],
    );
    check(
        &place,
        "evaluate nowhere",
        expect![[r#"
        --- stderr
        error: there is no run or model `nowhere`

        hint: name the folder of a run, or a safetensors file with its model.json beside it
        --- exit 1
    "#]],
    );
    check(
        &place,
        "evaluate taken",
        expect![[r#"
        --- stderr
        error: the run `taken` was not trained to its end

        hint: go on with it: `cn-train train --resume RUN`
        --- exit 1
    "#]],
    );
    check(
        &place,
        "evaluate a.png",
        expect![[r#"
        --- stderr
        error: there is no model.json beside `a.png`

        hint: it says what the outputs mean; a run writes both
        --- exit 1
    "#]],
    );
    check(
        &place,
        "predict nowhere a.png",
        expect![[r#"
        --- stderr
        error: there is no run or model `nowhere`

        hint: name the folder of a run, or a safetensors file with its model.json beside it
        --- exit 1
    "#]],
    );
    check(
        &place,
        "predict taken missing.png",
        expect![[r#"
            --- stderr
            error: the run `taken` was not trained to its end

            hint: go on with it: `cn-train train --resume RUN`
            --- exit 1
        "#]],
    );
    check(
        &place,
        "lr-find --from nowhere",
        expect![[r#"
            --- stderr
            error: there is no run in `nowhere`

            hint: name the folder that holds its config.toml
            --- exit 1
        "#]],
    );
    check(
        &place,
        "synth --out taken",
        expect![[r#"
        --- stderr
        error: `taken` is not empty

        hint: choose another `--out`
        --- exit 1
    "#]],
    );
}

#[test]
fn help_names_every_command() {
    let place = Place::new();
    check(
        &place,
        "--help",
        expect![[r#"
        --- stdout
        Trains image classifiers, and says honestly how good they are.

        Without a command: `train` with every default.

        Usage: cn-train [OPTIONS] [COMMAND]

        Commands:
          train        Train a model, judge it, and keep everything in a run folder (the default command)
          lr-find      Try growing learning rates, and suggest one
          evaluate     Honest numbers about a trained model
          predict      Labels of images, with probabilities
          show         What is in the data, and a picture of augmented images with their labels
          synth        Draw a synthetic data set in the published layout
          completions  Print a completion script for a shell
          help         Print this message or the help of the given subcommand(s)

        Options:
              --device <DEVICE>
                  Where to compute: auto, cpu, cuda or cuda:N

              --threads <N>
                  Threads that compute; the result does not depend on it [default: all cores]

              --seed <N>
                  Seed of everything random [default: 42]

              --json
                  Print JSON only: one object a line, the last one is the result

              --quiet
                  Print the result alone

          -v, --verbose...
                  Log to stderr; twice for more

          -h, --help
                  Print help (see a summary with '-h')

          -V, --version
                  Print version
        --- exit 0
    "#]],
    );
}

#[test]
fn flags_are_listed_by_what_they_are_about() {
    let place = Place::new();
    for (command, headings) in [
        ("train", &["Options", "Data", "Split", "Model", "Training", "Output"][..]),
        ("lr-find", &["Options", "Data", "Split", "Model", "Training", "Output"]),
        ("show", &["Options", "Data", "Split", "Model", "Training", "Output"]),
        ("evaluate", &["Arguments", "Options", "Data"]),
    ] {
        let help = place.run(&[command, "-h"]).stdout;
        let found = help.lines().filter(|line| line.ends_with(':') && line.starts_with(char::is_alphabetic));
        assert_eq!(found.map(|line| line.trim_end_matches(':')).collect::<Vec<_>>(), headings, "{help}");
    }
}

#[test]
fn the_head_alone_can_be_trained() {
    let place = Place::new();
    let flags = "--synthetic --limit 120 --image-size 32 --batch-size 32 --epochs 0 --freeze-epochs 1";
    let result = place.result(&format!("train --recipe notebook {flags} --out run"));
    assert_eq!(result["epochs"], 1);
}

#[test]
fn synthetic_data_say_so_in_the_first_lines() {
    let place = Place::new();
    let ended = place.line("train --limit 300 --dry-run --threads 1 --lr 1e-2");
    let first: Vec<&str> = ended.stdout.lines().filter(|line| !line.starts_with("run")).collect();
    expect![[r#"
        data      synthetic handwriting, drawn in memory, since there is no `data/chinese-mnist` here
                  the real scans: `cargo xtask fetch-data`; your own images: `--data DIR`
        weights   none: this build has no pretrained ones, so training starts from scratch; `--weights FILE` has some
        split     group: 240 images train, 60 judge; 0 of 20 writers on both sides
                  phase 1: 2 epochs, all layers, learning rate 1e-2, one cycle
                  the phases are not those of the recipe `quick`: they are fit_one_cycle(2, 1e-2)
        dry run   the first batch is [64, 64, 64, 1]; nothing was written"#]]
    .assert_eq(&first.join("\n"));
    assert_eq!((ended.code, place.path("runs").exists()), (0, false));
}

#[test]
fn show_describes_the_data() {
    let place = Place::new();
    check(
        &place,
        "show --synthetic --limit 300 --rows 2 --cols 4 --out new/show.png",
        expect![[r#"
            --- stdout
            synthetic-handwriting: 300 images, 15 classes, 20 groups

            0  1_1_1  64x64x1  group 1  labels 0 零
            1  1_1_2  64x64x1  group 1  labels 1 一
            2  1_1_3  64x64x1  group 1  labels 2 二
            3  1_1_4  64x64x1  group 1  labels 3 三
            4  1_1_5  64x64x1  group 1  labels 4 四

            class counts
                 20  0 零
                 20  1 一
                 20  10 十
                 20  100 百
                 20  1000 千
                 20  10000 万
                 20  100000000 亿
                 20  2 二
                 20  3 三
                 20  4 四
                 20  5 五
                 20  6 六
                 20  7 七
                 20  8 八
                 20  9 九

            parts by `group`: 240 train in 3 batches of 64, 60 judge in 1

            first training image: 1_1_1, labels 0 零
            targets [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
            of      [0, 1, 10, 100, 1000, 10000, 100000000, 2, 3, 4, 5, 6, 7, 8, 9]

            augmented training images are in `new/show.png`
            --- exit 0
        "#]],
    );
    let picture = image::open(place.path("new/show.png")).expect("a picture");
    assert!(picture.width() > 4 * 128 && picture.height() > 2 * 128);
}

#[test]
fn completions_know_the_flags() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = place.run(&["completions", shell]);
        assert_eq!(ended.code, 0);
        assert!(ended.stdout.contains("val-groups") && ended.stdout.contains("lr-find"), "{shell}");
    }
}
