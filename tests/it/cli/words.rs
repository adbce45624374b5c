//! Runs that are not there, and what the program says of itself.

use super::check;
use crate::run::Place;
use expect_test::expect;

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
        error: cannot write to the folder `file/run`
        cause: Not a directory (os error 20)

        hint: choose another `--out`
        --- exit 1
    "#]],
    );
    for command in ["lr-find --synthetic --out file", "show --synthetic --out file/a.png"] {
        check(
            &place,
            command,
            expect![[r#"
        --- stderr
        error: cannot write to the folder `file`
        cause: Not a directory (os error 20)

        hint: choose another `--out`
        --- exit 1
    "#]],
        );
    }
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
              --resume <RUN|auto>

            Usage: cn-train train --resume <RUN|auto> --force

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
              audit        What is wrong with the data: copies, leaks, odd and damaged images, suspicious
                           labels, harmful crops
              report       One HTML file about a run, to look at and to send
              compare      Several runs side by side: a table, and curves as PNG and HTML
              verify       Check every hash of a run: settings, weights, checkpoints, results, and the data
                           where they are
              reproduce    Train a run again from its folder alone, and compare
              inspect      What a weight file or a run's weights hold: tensors, groups, checksums, source
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
    // Machines differ in what these two say.
    let first: Vec<&str> =
        ended.stdout.lines().filter(|line| !line.starts_with("run") && !line.starts_with("memory")).collect();
    assert!(ended.stdout.contains("\nmemory    about "), "{}", ended.stdout);
    expect![[r#"
        data      synthetic handwriting, drawn in memory, since there is no `data/chinese-mnist` here
                  the real scans: `cargo xtask fetch-data`; your own images: `--data DIR`
        weights   none: the built-in ones have learnt from such drawings already; training starts from scratch
                  those: `--weights glyphs`; ImageNet's: `cargo xtask fetch-weights resnet18`; a file of yours: `--weights FILE`
        split     group: 240 images train, 60 judge; 0 of 20 writers on both sides
                  phase 1: 5 epochs, all layers, learning rate 1e-2, one cycle
                  the phases are not those of the recipe `handwriting`: they are fit_one_cycle(5, 1e-2)
        dry run   the first batch is [64, 32, 32, 1]; nothing was written"#]]
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
