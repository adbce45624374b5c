//! Wrong words, numbers and names on the command line.

use super::check;
use crate::run::{Ended, Place};
use expect_test::expect;

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
        "train --ink-square 1.5",
        expect![[r#"
            --- stderr
            error: the transform of the images is not possible
            cause: `ink_square.fill` is 1.5, expected above 0, at most 1

            hint: the config.toml of a run shows what can be; `--ink-square` is a share such as 0.75
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --recipe notebook --ink-square 0.8",
        expect![[r#"
            --- stderr
            error: `ink_square` leaves no margin for the `centre` of `[validation]` to cut off

            hint: use `kind = "whole"`: all of the square about the ink
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --limit 0",
        expect![[r#"
            --- stderr
            error: `--limit 0` leaves no images

            hint: leave the flag out for all images, or name a number
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --limit-per-class 0",
        expect![[r#"
            --- stderr
            error: `--limit-per-class 0` leaves no images

            hint: leave the flag out for all images, or name a number
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --checkpoint-every 0",
        expect![[r#"
            --- stderr
            error: `--checkpoint-every 0` is no interval

            hint: leave it out: each epoch ends with a checkpoint; or name a number of steps
            --- exit 2
        "#]],
    );
    for minutes in ["0", "-1", "nan", "1e300"] {
        let ended = place.line(&format!("train --checkpoint-minutes {minutes}"));
        assert!(ended.code == 2 && ended.stderr.contains("is no interval\n"), "{}", ended.snapshot());
    }
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
            weights   none: the built-in ones have learnt from such drawings already; training starts from scratch
                      those: `--weights glyphs`; ImageNet's: `cargo xtask fetch-weights resnet18`; a file of yours: `--weights FILE`
            --- stderr
            error: 99999999999 synthetic images need 381469 GiB of memory, more than the 4 GiB allowed

            hint: draw at most 1048576: `--limit 1048576`
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --steps 5",
        expect![[r#"
            --- stderr
            error: `--steps` is the length of endless handwriting, and these settings have none

            hint: use `--recipe glyphs`, or `--epochs`
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --recipe glyphs --data images",
        expect![[r#"
            --- stderr
            error: endless handwriting is judged by drawn writers of its own, and nothing else

            hint: leave `--data`, `--split` and `--val-groups` out, or use another recipe
            --- exit 2
        "#]],
    );
    check(
        &place,
        "show --rows 0",
        expect![[r#"
            --- stderr
            error: a picture needs at least one row and one column

            hint: pass `--rows R` and `--cols C`, such as 4 and 8
            --- exit 2
        "#]],
    );
    check(
        &place,
        "synth --out x --writers 0",
        expect![[r#"
            --- stderr
            error: 0 writers with 10 samples are 0 images, expected 1 to 50000000

            hint: each sample is a page of 15: `--writers 100 --samples 10`
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
            error: there is no recipe `quikc`, only quick, handwriting, notebook, notebook-lr, notebook-tuned, best, glyphs

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

            hint: `--split group` keeps writers apart; `random`, `stratified` and `kfold:5/1` are others
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

            hint: `--split group` keeps writers apart; `random`, `stratified` and `kfold:5/1` are others
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --device tpu",
        expect![[r#"
            --- stderr
            error: there is no device `tpu`, expected auto, cpu, cuda or cuda:N

            hint: leave it out, or use `--device cpu`
            --- exit 2
        "#]],
    );
    check(
        &place,
        "train --precision f8",
        expect![[r#"
            --- stderr
            error: `f8` is no precision, expected `f32` or `bf16`

            hint: use `--precision f32`, or bf16 for speed
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

            hint: `cargo xtask cuda-build` builds the program for GPUs; or use `--device cpu`
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
        error: there are no ImageNet weights for resnet18, neither in `data/weights` nor in the hub's cache

        hint: `cargo xtask fetch-weights resnet18` gets them; `--weights FILE` takes torchvision's .pth and timm's safetensors
        --- exit 1
    "#]],
    );
    check(
        &place,
        "train --weights glyphs --arch resnet34",
        expect![[r#"
        --- stdout
        data      synthetic handwriting, drawn in memory, since there is no `data/chinese-mnist` here
                  the real scans: `cargo xtask fetch-data`; your own images: `--data DIR`
        --- stderr
        error: the weights `glyphs` are of resnet18, not of resnet34

        hint: use `--arch resnet18`, or `--weights none`
        --- exit 2
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
