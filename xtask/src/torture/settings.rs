//! Settings, tables and descriptions of data that cannot be.

use super::child::Ended;
use super::images::MORE_KIB;
use super::{Scene, Tally};
use anyhow::{Result, ensure};
use std::fs;

/// TOML files of settings.
const SETTINGS: [&str; 16] = [
    "image_size =",
    "image_size = 64\nimage_size = 65",
    "image_size = -1",
    "image_size = 99999999999999999999",
    "batch_size = 0",
    "batch_size = \"many\"",
    "threshold = nan",
    "val_fraction = inf",
    "recipe = 7",
    "[phase]\nepochs = 1",
    "[[phase]]\nepochs = -1\nlr = 1e-3",
    "[[phase]]\nepochs = 1\nlr = nan",
    "[[phase]]\nepochs = 1\nlr = [1e-3, 1e-3, 1e-3]",
    "[augment]\nkind = \"upside-down\"",
    "split = \"kfold:0/0\"",
    "unknown = { deep = [1, 2",
];

/// CSV files, with a header `suite_id,sample_id,code,value,character` where they have one.
fn tables() -> Vec<(&'static str, Vec<u8>)> {
    let header = "suite_id,sample_id,code,value,character\n";
    let text = |rows: &str| format!("{header}{rows}").into_bytes();
    let long = "x".repeat(10 << 20);
    vec![
        ("nothing", Vec::new()),
        ("a mark of UTF-8 alone", b"\xef\xbb\xbf".to_vec()),
        ("UTF-16", b"\xff\xfes\0u\0i\0t\0e\0".to_vec()),
        ("a header alone", text("")),
        ("no UTF-8", [header.as_bytes(), b"1,1,1,\xff\xfe,x\n"].concat()),
        ("a column that is missing", b"suite_id,sample_id\n1,1\n".to_vec()),
        ("two columns of one name", b"suite_id,suite_id,code,value,character\n1,1,1,0,x\n".to_vec()),
        ("a row that is short", text("1,1,1\n")),
        ("a row that is long", text("1,1,1,0,x,y,z\n")),
        ("a quote that never ends", text("1,1,1,\"0,x\n1,2,1,0,x\n")),
        ("a row twice", text("1,1,1,0,x\n1,1,1,0,x\n")),
        ("an image outside", text("../../../../etc/passwd#,1,1,0,x\n")),
        ("an absolute image", text("/etc/passwd,1,1,0,x\n")),
        ("a label that is empty", text("1,1,1,,x\n")),
        ("images that are missing", text("9998,1,1,0,x\n9999,1,2,1,y\n")),
        ("a line of 10 MB", text(&format!("1,1,1,{long},x\n"))),
        ("ten million commas", text(&",".repeat(10_000_000))),
        ("a million columns", format!("{}{}\n", header.trim_end(), ",".repeat(1_000_000)).into_bytes()),
        ("a row of quotes over many lines", text(&format!("1,1,1,0,x{}\n", ",\"\n\"".repeat(2_000_000)))),
        ("a path of 900 kB", text(&format!("{},1,1,0,x\n", "1".repeat(900_000)))),
        ("zeros", vec![0; 4096]),
        ("a picture", b"\xff\xd8\xff\xe0\0\x10JFIF\0".to_vec()),
    ]
}

/// `dataset.toml` files.
const DESCRIPTIONS: [&str; 7] = [
    "csv =",
    "csv = 5",
    "csv = \"missing.csv\"\nimage = \"{suite_id}.jpg\"\nlabel = \"value\"",
    "csv = \"chinese_mnist.csv\"\nimage = \"{nobody}.jpg\"\nlabel = \"value\"",
    "csv = \"chinese_mnist.csv\"\nimage = \"{suite_id\"\nlabel = \"value\"",
    "csv = \"chinese_mnist.csv\"\nimage = \"{suite_id}.jpg\"\nlabel = \"nobody\"",
    "csv = \"../../../../etc/passwd\"\nimage = \"{suite_id}.jpg\"\nlabel = \"value\"",
];

const TRAIN: &str = "train --image-size 32 --dry-run --no-cache";

pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    let mut tally = Tally::default();
    fs::write(place.path("settings.toml"), "epoch = 2\n")?;
    let usual = place.run("train --synthetic --limit 100 --dry-run --config settings.toml")?.peak_kib;
    let modest_here = |ended: Ended| modest(ended, usual);
    for text in SETTINGS.into_iter().map(str::to_owned).chain(large()) {
        fs::write(place.path("settings.toml"), &text)?;
        let ended = place.run("train --synthetic --limit 100 --dry-run --config settings.toml");
        tally.add(|| format!("the settings {}", head(&text)), ended.and_then(modest_here));
    }
    fs::create_dir_all(place.path("table/data/data"))?;
    fs::write(place.path("table/chinese_mnist.csv"), "suite_id\n")?;
    let usual = place.run(&format!("{TRAIN} --data table"))?.peak_kib;
    let modest_here = |ended: Ended| modest(ended, usual);
    for (name, bytes) in tables() {
        fs::write(place.path("table/chinese_mnist.csv"), bytes)?;
        let ended = place.run(&format!("{TRAIN} --data table"));
        tally.add(|| format!("the table with {name}"), ended.and_then(modest_here));
    }
    place.run("synth --out described --writers 3 --samples 1")?.succeeded()?;
    fs::write(place.path("described/dataset.toml"), "nothing = 1\n")?;
    let usual = place.run(&format!("{TRAIN} --data described"))?.peak_kib;
    let modest_here = |ended: Ended| modest(ended, usual);
    for text in DESCRIPTIONS.into_iter().map(str::to_owned).chain(large()) {
        fs::write(place.path("described/dataset.toml"), &text)?;
        let ended = place.run(&format!("{TRAIN} --data described"));
        tally.add(|| format!("the description {}", head(&text)), ended.and_then(modest_here));
    }
    Ok(tally)
}

/// Refused with advice, in little more memory than the program usually needs to refuse.
fn modest(ended: Ended, usual: u64) -> Result<()> {
    let more = ended.peak_kib.saturating_sub(usual);
    ended.refused(&["hint: "])?;
    ensure!(more < MORE_KIB, "{} MiB more", more >> 10);
    Ok(())
}

/// TOML of nothing to speak of that takes many times its size where it is read: of sizes that are refused unread, and of
/// just below.
fn large() -> Vec<String> {
    let list = |item: &str, n: usize| format!("a = [{}]\n", item.repeat(n));
    let lines = |line: &dyn Fn(usize) -> String, n: usize| (0..n).map(line).collect::<String>();
    vec![
        format!("csv = \"chinese_mnist.csv\"\nimage = \"{}\"\nlabel = \"value\"\n", "{suite_id}".repeat(10_000)),
        format!("csv = \"chinese_mnist.csv\"\nimage = \"{}{{suite_id}}\"\nlabel = \"value\"\n", "x/".repeat(2_000)),
        list("1,", 8 << 20),
        list("1,", 39_000),
        list("{b=1},", 12_000),
        list("{a.a.a.a.a.a=1},", 4_500),
        lines(&|_| "[[a]]\n".into(), 12_000),
        lines(&|i| format!("[{i}.a.a.a.a.a.a.a.a]\n"), 3_900),
        lines(&|i| format!("{i}.a.a.a=1\n"), 7_500),
        "\n".repeat(2 << 20),
    ]
}

/// The beginning of a text, for a name.
fn head(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}
