//! The same line again: `--resume auto`.

use crate::resume::TRAIN;
use crate::run::Place;

#[test]
fn the_same_line_goes_on_with_what_it_began() {
    let place = Place::new();
    place.write("own.toml", "recipe = \"quick\"\nthreshold = 0.4\nbatch_size = 16\n");
    for line in [
        format!("{TRAIN} --weights auto --out named"),
        "train --synthetic --limit 60 --image-size 32 --epochs 1 --checkpoint-every 1 --batch-size auto --out few"
            .into(),
        "train --synthetic --limit 180 --image-size 32 --epochs 1 --checkpoint-every 3 --config own.toml --out filed"
            .into(),
    ] {
        let run = line.rsplit(' ').next().expect("a name");
        let auto = format!("{line} --resume auto");
        let first = place.result(&auto);
        place.cut(run);
        let second = place.line(&format!("{auto} --json"));
        assert!(second.stdout.contains(r#""event":"resume""#), "{}", second.snapshot());
        assert_eq!(second.result()["weights_sha256"], first["weights_sha256"], "{line}");
        assert_eq!(place.result(&auto)["weights_sha256"], first["weights_sha256"], "a finished run shows its result");
        for spoil in [false, true] {
            if spoil {
                place.cut(run);
            }
            let refused = place.line(&format!("{auto} --seed 7"));
            assert_eq!(refused.code, 1, "{}", refused.snapshot());
            assert!(
                refused.stderr.contains("cannot go on with something else:\n  seed: 42, now 7"),
                "{}",
                refused.stderr
            );
        }
    }
    let refused = place.line("train --resume named --recipe quick");
    assert_eq!(refused.code, 2, "{}", refused.snapshot());
    assert!(refused.stderr.contains("hint: leave `--recipe` out, or let `--resume auto` find"), "{}", refused.stderr);
}

#[test]
fn without_a_name_the_run_that_the_same_flags_began_goes_on() {
    let place = Place::new();
    let line = "train --synthetic --limit 180 --image-size 32 --batch-size 16 --epochs 1 --recipe";
    let folder = |recipe: &str, result: &serde_json::Value| {
        let run = result["run"].as_str().expect("a folder").to_owned();
        assert!(run.starts_with("runs/") && run.contains(recipe), "{run}");
        run
    };
    let auto = |flags: &str| place.result(&format!("{line} {flags} --resume auto"));
    let first = auto("quick");
    let a = folder("quick", &first);
    place.cut(&a);
    // Runs of other flags are not in its way, whether they are finished or not.
    let faster = auto("quick --lr 0.01");
    let other = auto("handwriting");
    let [b, c] = [folder("quick", &faster), folder("handwriting", &other)];
    assert!(a != b && b != c, "{a}, {b}, {c}");
    place.cut(&b);
    let resumed = place.line(&format!("{line} quick --resume auto --json"));
    assert_eq!(resumed.stdout.matches(r#""event":"resume""#).count(), 1, "{}", resumed.snapshot());
    assert_eq!(resumed.stdout.matches(r#""event":"memory""#).count(), 1, "nothing is prepared twice");
    assert_eq!(
        (folder("quick", &resumed.result()), &resumed.result()["weights_sha256"]),
        (a.clone(), &first["weights_sha256"])
    );
    let shown = place.line(&format!("{line} quick --resume auto"));
    assert!(shown.stdout.contains(&format!("the run `{a}` is finished: ")), "{}", shown.snapshot());
    assert_eq!(folder("quick", &auto("quick --lr 0.01")), b);
    let fresh = place.result(&format!("{line} quick"));
    assert!(![a, b].contains(&folder("quick", &fresh)), "without `--resume`, a run of its own");
}
