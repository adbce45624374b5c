//! Weights from elsewhere: where they are looked for, what is said about them, what they hold.

use crate::cli::check;
use crate::run::Place;
use candle_core::{DType, Device};
use cn_ops::Model as _;
use cn_zoo::{Arch, Head, ResNetConfig};
use expect_test::expect;
use std::path::{Path, PathBuf};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const SNAPSHOT: &str =
    "cache/huggingface/hub/models--timm--resnet18.tv_in1k/snapshots/0123456789abcdef0123456789abcdef01234567";
/// A run of seconds that trains the head of a pretrained network.
const SHORT: &str = "--synthetic --limit 120 --image-size 32 --batch-size 32 --epochs 0 --freeze-epochs 1 --threads 1";

impl Place {
    /// Writes a network for images of three channels and five classes.
    fn network(&self, name: &str, arch: Arch) -> &Self {
        let config = ResNetConfig { arch, in_channels: 3, n_classes: 5, head: Head::Linear };
        let mut network = config.build(3, DType::F32, &Device::Cpu).expect("a network");
        self.write(name, "");
        cn_zoo::save(self.path(name), &network.named_tensors().expect("tensors"), &config).expect("written");
        self
    }

    /// The hub's cache with weights for resnet18, as a fetch leaves it, but without links.
    fn fetched(&self) -> &Self {
        self.write("cache/huggingface/hub/models--timm--resnet18.tv_in1k/refs/main", COMMIT)
            .write(&format!("{SNAPSHOT}/README.md"), "---\nlicense: bsd-3-clause\n---\n# A page\n")
            .network(&format!("{SNAPSHOT}/model.safetensors"), Arch::ResNet18)
    }

    /// The first lines of a run that are about weights.
    fn weight_lines(&self, flags: &str) -> String {
        self.weight_lines_of("--synthetic", flags)
    }

    fn weight_lines_of(&self, data: &str, flags: &str) -> String {
        let ended = self.line(&format!("train --limit 150 {data} --dry-run --threads 1 {flags}"));
        assert_eq!(ended.code, 0, "{}", ended.snapshot());
        let is_told = |line: &&str| line.starts_with("weights") || line.contains(" tensors taken");
        let lines = ended.stdout.lines().filter(is_told);
        lines.map(|line| format!("{line}\n")).collect()
    }
}

#[test]
fn a_file_of_another_architecture_is_refused() {
    let place = Place::new();
    place.network("other.safetensors", Arch::ResNet34);
    check(
        &place,
        "train --synthetic --weights other.safetensors",
        expect![[r#"
        --- stdout
        data      synthetic handwriting, drawn in memory
        --- stderr
        error: `other.safetensors` holds a resnet34, and a resnet18 is to be trained

        hint: use `--arch resnet34`, or other weights
        --- exit 1
    "#]],
    );
}

#[test]
fn weights_that_auto_finds_and_cannot_use_are_an_error() {
    let place = Place::new();
    place.fetched().write(&format!("{SNAPSHOT}/model.safetensors"), "version https://git-lfs.github.com/spec/v1\n");
    let ended = place.line("train --synthetic --dry-run");
    assert_eq!(ended.code, 1, "{}", ended.snapshot());
    assert!(ended.stderr.starts_with("error: `--weights auto` found weights called `imagenet`, and cannot use them\n"));
    assert!(ended.stderr.contains("a pointer of Git LFS"), "{}", ended.stderr);
}

#[test]
fn names_of_any_length_are_shown() {
    let place = Place::new();
    let name = "x".repeat(70_000);
    let one = candle_core::Tensor::ones(1, candle_core::DType::F32, &candle_core::Device::Cpu).expect("memory");
    let tensors = std::collections::HashMap::from([(name.as_str(), one)]);
    candle_core::safetensors::save(&tensors, place.path("long.safetensors")).expect("written");
    let shown = place.line("inspect long.safetensors");
    assert!(shown.code == 0 && shown.stdout.contains(&name), "{}", shown.stderr);
    assert_eq!(place.result("inspect long.safetensors")["tensors"][0]["name"], name);
}

#[test]
fn answers_that_are_no_numbers_are_an_error() {
    let place = Place::new();
    place.folders(8);
    place.result(
        "train --data images --image-size 32 --batch-size 2 --epochs 1 --freeze-epochs 0 --weights none --out run",
    );
    let card = place.json("run/model.json");
    let mut spoilt = card.clone();
    spoilt["normalisation"]["std"].as_array_mut().expect("a list").fill(1e-45.into());
    place.write("run/model.json", spoilt.to_string());
    let ended = place.line("predict run images");
    assert!(ended.code == 1 && ended.stderr.contains("answers with numbers that are none"), "{}", ended.snapshot());
    place.write("run/model.json", card.to_string());
    assert_eq!(place.line("predict run images").code, 0);
}

#[test]
fn what_cannot_be_inspected_is_said() {
    let place = Place::new();
    place.write("page.pth", "<html>no weights</html>").write("run/config.toml", "seed = 1\n").image("images/a.png", 1);
    check(
        &place,
        "inspect missing.pth",
        expect![[r#"
        --- stderr
        error: cannot read the weight file `missing.pth`
        cause: No such file or directory (os error 2)

        hint: name a weight file: safetensors, or PyTorch's .pth
        --- exit 1
    "#]],
    );
    check(
        &place,
        "inspect page.pth",
        expect![[r#"
        --- stderr
        error: cannot use the weight file `page.pth`
        cause: the weight file is a web page, expected safetensors or a PyTorch `.pth` of the zip format

        hint: save it again with a current PyTorch (`torch.save(model.state_dict(), PATH)`), or as safetensors
        --- exit 1
    "#]],
    );
    check(
        &place,
        "inspect images",
        expect![[r#"
        --- stderr
        error: there are no weights in the folder `images`

        hint: name a weight file, or the folder of a run that ended
        --- exit 1
    "#]],
    );
    check(
        &place,
        "inspect run",
        expect![[r#"
        --- stderr
        error: the run `run` was not trained to its end

        hint: go on with it: `cn-train train --resume RUN`
        --- exit 1
    "#]],
    );
}

#[test]
fn auto_takes_imagenets_weights_if_they_were_fetched() {
    let place = Place::new();
    expect![[r#"
        weights   none: the built-in ones have learnt from such drawings already; training starts from scratch
    "#]]
    .assert_eq(&place.weight_lines(""));
    place.result("synth --out drawn --writers 10 --samples 1");
    expect![[r#"
        weights   glyphs, built in, trained on drawn handwriting alone, since ImageNet's for resnet18 were not fetched; `--weights none` starts from scratch
                  102 tensors taken
    "#]]
    .assert_eq(&place.weight_lines_of("--data drawn --no-cache", ""));
    place.fetched();
    expect![[r#"
        weights   imagenet: timm/resnet18.tv_in1k, revision 0123456789ab, since they come first where they were fetched; `--weights none` starts from scratch
                  120 tensors taken; 2 new (fc.weight, fc.bias); 2 of the file not used (fc.bias, fc.weight); the stem's channels summed to one
    "#]]
    .assert_eq(&place.weight_lines(""));
    expect![[r#"
        weights   imagenet: timm/resnet18.tv_in1k, revision 0123456789ab
                  120 tensors taken; 10 new (head.2.weight, head.2.bias, head.2.running_mean and 7 more); 2 of the file not used (fc.bias, fc.weight)
    "#]]
    .assert_eq(&place.weight_lines("--weights imagenet --recipe notebook"));
    expect![[r#"
        weights   none
    "#]]
    .assert_eq(&place.weight_lines("--weights none"));
    // Those of another architecture were not.
    expect![[r#"
        weights   none: ImageNet's for resnet34 were not fetched, and the built-in ones are of resnet18; training starts from scratch
    "#]].assert_eq(&place.weight_lines("--arch resnet34"));
    // What was given by hand comes first.
    place.network("data/weights/resnet18.safetensors", Arch::ResNet18);
    expect![[r#"
        weights   imagenet: `data/weights/resnet18.safetensors`
                  120 tensors taken; 2 new (fc.weight, fc.bias); 2 of the file not used (fc.bias, fc.weight); the stem's channels summed to one
    "#]]
    .assert_eq(&place.weight_lines("--weights imagenet"));
    expect![[r#"
        weights   data/weights/resnet18.safetensors
                  120 tensors taken; 2 new (fc.weight, fc.bias); 2 of the file not used (fc.bias, fc.weight); the stem's channels summed to one
    "#]]
    .assert_eq(&place.weight_lines("--weights data/weights/resnet18.safetensors"));
}

#[test]
fn a_run_from_imagenets_weights_says_so_everywhere() {
    let place = Place::new();
    place.fetched();
    let ended = place.line(&format!("train {SHORT} --out run --json"));
    let result = ended.result();
    assert_eq!(result["weights"], "imagenet");
    let event: serde_json::Value = serde_json::from_str(ended.stdout.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&event["event"], &event["name"]), (&"weights".into(), &"imagenet".into()));
    assert_eq!(event["skipped"], serde_json::json!(["fc.bias", "fc.weight"]));
    assert_eq!(event["missing"], serde_json::json!(["fc.weight", "fc.bias"]));
    assert_eq!(event["stem_summed"], true);
    let from = &place.json("run/manifest.json")["weights_from"];
    assert_eq!((&from["repo"], &from["revision"]), (&"timm/resnet18.tv_in1k".into(), &COMMIT.into()));
    assert_eq!(place.json("run/model.json")["normalisation"], serde_json::json!({"mean": [0.449], "std": [0.226]}));
    assert!(place.read("run/config.toml").contains("weights = \"imagenet\""));

    // Its folder stands for its weights.
    let next = place.weight_lines("--weights run");
    assert_eq!(next, place.weight_lines("--weights run/model.safetensors"));
    assert!(next.starts_with("weights   run/model.safetensors\n"), "{next}");

    let inspected = place.result("inspect run");
    assert_eq!(inspected["weights_sha256"], result["weights_sha256"]);
    assert_eq!(inspected["source"]["started_from"], "imagenet");
    assert_eq!(inspected["source"]["data"], "synthetic-handwriting");
    let [network, groups] = ["network", "groups"].map(|key| &inspected[key]);
    assert_eq!(network, &serde_json::json!({"arch": "resnet18", "in_channels": 1, "n_classes": 15, "head": "plain"}));
    assert_eq!(groups[2]["parameters"], 512 * 15 + 15);
    let parameters: u64 = groups.as_array().expect("a list").iter().filter_map(|g| g["parameters"].as_u64()).sum();
    assert_eq!((parameters, &inspected["parameters"]), (11_170_240 + 7695, &parameters.into()));

    // The same weights, but not those that the papers describe.
    std::fs::copy(place.path(&format!("{SNAPSHOT}/model.safetensors")), place.path("run/model.safetensors"))
        .expect("copied");
    let ended = place.line("inspect run");
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("are not those that its model.json describes"), "{}", ended.stderr);
}

#[test]
fn a_fetched_file_is_inspected_with_its_licence_and_source() {
    let place = Place::new();
    place.fetched();
    let file = format!("{SNAPSHOT}/model.safetensors");
    let inspected = place.result(&format!("inspect {file}"));
    assert_eq!(inspected["licence"], "bsd-3-clause");
    assert_eq!(inspected["source"]["revision"], COMMIT);
    let bytes = std::fs::read(place.path(&file)).expect("there");
    assert_eq!(inspected["bytes"], bytes.len());
    assert_eq!(inspected["sha256"], cn_data::Digest::of(&bytes).to_string());
    let text = place.line(&format!("inspect {file}")).stdout;
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains(&inspected["sha256"].to_string()[1..9])).collect();
    expect![[r#"
        network   resnet18, 3 channels in, plain head, 5 classes
        licence   bsd-3-clause
        source    timm/resnet18.tv_in1k, revision 0123456789abcdef0123456789abcdef01234567, in the hub's cache
        metadata  cn.arch = resnet18
        metadata  cn.format_version = 1
        metadata  cn.head = linear
        metadata  cn.in_channels = 3
        metadata  cn.n_classes = 5
        metadata  format = pt

        group                        tensors    parameters         bytes
        0: stem, layer1, layer2           60       683,072     2,740,048
        1: layer3, layer4                 60    10,493,440    42,004,560
        2: head                            2         2,565        10,260
        all                              122    11,179,077    44,754,868

        tensor                                     dtype shape               group         bytes
        bn1.bias                                   f32   [64]                    0           256
        bn1.num_batches_tracked                    i64   []                      0             8
        bn1.running_mean                           f32   [64]                    0           256
        bn1.running_var                            f32   [64]                    0           256
        bn1.weight                                 f32   [64]                    0           256"#]]
    .assert_eq(&lines[2..24].join("\n"));
}

#[test]
fn files_of_pytorch_and_of_other_networks_are_inspected() {
    let place = Place::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cn-zoo/tests/data/state_dict.pth");
    std::fs::copy(fixture, place.path("resnet18.pth")).expect("copied");
    place.write("resnet18.source.json", r#"{"source": "https://example.org/resnet18.pth"}"#);
    check(
        &place,
        "inspect resnet18.pth",
        expect![[r#"
        --- stdout
        file      `resnet18.pth`, PyTorch, 3,320 bytes
        sha256    5b882cfb8b34cbb8d8de23f43bcb4de0966d437bd930e5240e0c4f9fe052b9f4 of the file
                  44665dbf19386b948d5bed66fd4cd17d7b9f58f6cef6d2da402182eba6740111 of the weights, as `weights_sha256` in a summary
        network   unknown: the weight file holds no network of this crate: it lacks `conv1.weight`
        licence   not known here
        source    `https://example.org/resnet18.pth`, given to `fetch-weights --from`

        group                        tensors    parameters         bytes
        0: stem, layer1, layer2            9            35           140
        all                                9            35           140

        tensor      dtype shape               group         bytes
        bfloat      bf16  [2]                     0             4
        double      f64   [1]                     0             8
        empty       f32   [0, 3]                  0             0
        half        f16   [2]                     0             4
        parameter   f32   [1, 1]                  0             4
        plain       f32   [3, 4]                  0            48
        scalar      i64   []                      0             8
        slice       f32   [2, 2]                  0            16
        transposed  f32   [4, 3]                  0            48
        --- exit 0
    "#]],
    );
    let of_bytes = "5b882cfb8b34cbb8d8de23f43bcb4de0966d437bd930e5240e0c4f9fe052b9f4";
    for (sha256, code) in [(of_bytes, 0), (&of_bytes.replace('5', "6"), 1)] {
        place.write("resnet18.source.json", format!(r#"{{"source": "resnet18.pth", "sha256": "{sha256}"}}"#));
        let ended = place.line("inspect resnet18.pth");
        let told = "`resnet18.pth` is not the file that the source.json beside it describes: it has another SHA-256";
        assert_eq!((ended.code, ended.stderr.contains(told)), (code, code == 1), "{}", ended.stderr);
    }
}

#[test]
fn training_starts_from_no_file_that_changed_since_it_was_fetched() {
    let place = Place::new();
    place.fetched();
    let file = place.path(&format!("{SNAPSHOT}/model.safetensors"));
    let bytes = std::fs::read(&file).expect("there");
    let blob = cn_data::Digest::of(&bytes).to_string();
    std::fs::remove_file(&file).expect("removed");
    let blobs = place.path(SNAPSHOT).join("../../blobs");
    std::fs::create_dir_all(&blobs).expect("made");
    let link = |bytes: &[u8]| {
        std::fs::write(blobs.join(&blob), bytes).expect("written");
        let _ = std::fs::remove_file(&file);
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), &file).expect("a link");
    };
    let line = "train --synthetic --limit 150 --dry-run --weights imagenet";
    link(&bytes);
    assert_eq!(place.line(line).code, 0);
    let mut changed = bytes.clone();
    *changed.last_mut().expect("a byte") ^= 1;
    link(&changed);
    let refused = place.line(line);
    let told = "is not the file that the hub's cache describes: it has another SHA-256";
    assert!(refused.code == 1 && refused.stderr.contains(told), "{}", refused.snapshot());
}

#[test]
fn variables_of_the_hub_name_the_cache() {
    let place = Place::new();
    place.fetched();
    let hub: PathBuf = place.path("cache/huggingface");
    let mut command = place.command(&["train", "--synthetic", "--limit", "150", "--dry-run", "--weights", "imagenet"]);
    command.env("XDG_CACHE_HOME", place.path("elsewhere"));
    assert_eq!(crate::run::Ended::of(command).code, 1);
    let mut command = place.command(&["train", "--synthetic", "--limit", "150", "--dry-run", "--weights", "imagenet"]);
    command.env("XDG_CACHE_HOME", place.path("elsewhere")).env("HF_HOME", hub);
    assert_eq!(crate::run::Ended::of(command).code, 0);
}

#[test]
fn the_built_in_weights_can_be_inspected() {
    let ended = Place::new().line("inspect glyphs");
    assert_eq!(ended.code, 0, "{}", ended.snapshot());
    for text in ["packed", "resnet18, 1 channels in, plain head, 15 classes", "trained on synthetic-handwriting"] {
        assert!(ended.stdout.contains(text), "`{text}` is missing:\n{}", ended.stdout);
    }
}

#[test]
fn packed_weights_have_the_hash_that_their_card_has() {
    let place = Place::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cn-zoo/weights/glyphs");
    place.write("packed/x", "");
    for file in ["weights.bin", "model.json"] {
        std::fs::copy(folder.join(file), place.path("packed").join(file)).expect("copied");
    }
    let card = place.json("packed/model.json");
    for line in ["inspect packed/weights.bin", "inspect glyphs"] {
        let inspected = place.result(line);
        assert_eq!(inspected["weights_sha256"], card["weights"]["sha256"], "{line}");
        assert_eq!(inspected["source"]["data"], card["data"]["name"], "{line}");
    }
    let mut bytes = std::fs::read(place.path("packed/weights.bin")).expect("read");
    let at = bytes.len() - 1000;
    bytes[at] ^= 1;
    std::fs::write(place.path("packed/weights.bin"), bytes).expect("written");
    for line in ["inspect packed/weights.bin", "train --synthetic --limit 300 --weights packed --out run"] {
        let ended = place.line(line);
        let is_told = ended.stderr.contains("are not those that its model.json describes");
        assert!(ended.code == 1 && is_told, "{line}: {}", ended.stderr);
    }
}

#[test]
fn weights_that_no_network_can_be_made_of_are_inspected_and_refused() {
    let place = Place::new();
    let config = ResNetConfig { arch: Arch::ResNet18, in_channels: 3, n_classes: 5, head: Head::Linear };
    let mut network = config.build(3, DType::F32, &Device::Cpu).expect("a network");
    let whole = network.named_tensors().expect("tensors");
    let mut bad = whole.clone();
    bad.retain(|(name, _)| name != "layer2.0.bn1.weight");
    cn_zoo::save(place.path("lacking.safetensors"), &bad, &config).expect("written");
    let mut bad = whole;
    let nan = bad.iter_mut().find(|(name, _)| name == "layer3.1.conv1.weight").expect("there");
    nan.1 = nan.1.affine(f64::NAN, 0.0).expect("a tensor");
    cn_zoo::save(place.path("nan.safetensors"), &bad, &config).expect("written");
    for (file, why) in [("lacking", "layer2.0.bn1.weight"), ("nan", "layer3.1.conv1.weight")] {
        let ended = place.line(&format!("inspect {file}.safetensors"));
        assert!(ended.code == 1 && ended.stdout.contains("resnet18"), "{}", ended.snapshot());
        assert!(ended.stderr.contains("cannot be used as weights") && ended.stderr.contains(why), "{}", ended.stderr);
    }
}

#[test]
fn weights_of_colour_start_grey_ones_and_the_other_way_round() {
    const TINY: &str = "--image-size 32 --batch-size 8 --limit 60 --epochs 1 --synthetic";
    let place = Place::new();
    place.write("colour.toml", "channels = 3\nnormalise = \"imagenet\"\n");
    place.result(&format!("train {TINY} --weights none --config colour.toml --out colour"));
    assert_eq!(place.json("colour/model.json")["channels"], 3);
    for weights in ["colour", "colour/model.safetensors"] {
        let line = format!("train {TINY} --weights {weights} --recipe handwriting --out grey");
        assert_eq!(place.line(&line).code, 0, "{}", place.line(&line).snapshot());
        let card = place.json("grey/model.json");
        assert_eq!(card["channels"], 1);
        let mean = card["normalisation"]["mean"][0].as_f64().expect("a mean");
        assert!((mean - 0.449).abs() < 1e-6, "{mean}");
        std::fs::remove_dir_all(place.path("grey")).expect("removed");
    }
    place.result(&format!("train {TINY} --weights none --recipe handwriting --out grey"));
    place.result(&format!("train {TINY} --weights grey --config colour.toml --out again"));
    assert_eq!(place.json("again/model.json")["channels"], 3);
}

#[test]
fn a_card_of_other_weights_plays_no_part() {
    let place = Place::new();
    place.network("mine/w.safetensors", Arch::ResNet18);
    let lines = || place.weight_lines("--weights mine/w.safetensors");
    let alone = lines();
    for other in ["{\"hello\": 1}", "no JSON"] {
        place.write("mine/model.json", other);
        assert_eq!(lines(), alone);
    }
    // Nor one that could be read.
    place.result("train --synthetic --image-size 32 --batch-size 8 --limit 60 --epochs 1 --weights none --out run");
    std::fs::copy(place.path("run/model.json"), place.path("mine/model.json")).expect("copied");
    assert_eq!(lines(), alone);
}
