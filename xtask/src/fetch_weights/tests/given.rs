//! Weights from a file or an address.

use super::*;
use crate::fetch_weights::given::Error as GivenError;

/// The check of these tests: a file that begins so is a resnet18.
const GOOD: &[u8] = b"resnet18";

fn check(path: &Path, name: &str) -> Result<()> {
    assert_eq!(name, "resnet18");
    let begins = fs::read(path)?.windows(GOOD.len()).any(|part| part == GOOD);
    if begins { Ok(()) } else { Err(GivenError::Unusable { path: path.into() }.into()) }
}

fn scene() -> Scene {
    Scene::new(Server::start(|_, request| match request.path.as_str() {
        "/bad.pth" => Reply::good(b"<html>", request),
        _ => Reply::good(GOOD, request),
    }))
}

impl Scene {
    fn take(&self, given: &Given) -> Result<Fetched> {
        Job { check, ..self.job() }.take_given(given)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Given {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        Given::parse(path.to_str().unwrap()).unwrap()
    }

    fn weights(&self) -> PathBuf {
        self.dir.path().join("weights")
    }
}

#[test]
fn a_file_is_put_where_it_is_looked_for_with_its_origin() {
    let scene = scene();
    let fetched = scene.take(&scene.file("my.weights", GOOD)).unwrap();
    assert_eq!((fetched.outcome, fetched.checked), (Outcome::Installed, Checked::Nothing));
    assert_eq!(fetched.path, scene.weights().join("resnet18.safetensors"));
    assert!(fs::read(&fetched.path).unwrap() == GOOD);
    let about: serde_json::Value =
        serde_json::from_slice(&fs::read(scene.weights().join("resnet18.source.json")).unwrap()).unwrap();
    assert_eq!(about, serde_json::json!({ "source": "my.weights", "sha256": sha256(GOOD), "bytes": 8 }));
    assert_eq!(names(&scene.weights()), ["resnet18.safetensors", "resnet18.source.json"]);
    assert_eq!(scene.take(&scene.file("my.weights", GOOD)).unwrap().outcome, Outcome::AlreadyThere);
}

#[test]
fn the_last_file_that_was_given_counts_whatever_its_format() {
    let scene = scene();
    scene.take(&scene.file("a", GOOD)).unwrap();
    let zip = [b"PK\x03\x04", GOOD].concat();
    assert!(scene.take(&scene.file("b", &zip)).unwrap().path.ends_with("resnet18.pth"));
    assert_eq!(names(&scene.weights()), ["resnet18.pth", "resnet18.source.json"]);
    scene.take(&scene.file("a", GOOD)).unwrap();
    assert_eq!(names(&scene.weights()), ["resnet18.safetensors", "resnet18.source.json"]);
}

#[test]
fn a_name_with_a_hash_is_held_to_it() {
    let scene = scene();
    let good = format!("resnet18-{}.pth", &sha256(GOOD)[..8]);
    assert_eq!(scene.take(&scene.file(&good, GOOD)).unwrap().checked, Checked::Name);
    let error = scene.take(&scene.file("resnet18-f37072fd.pth", GOOD)).unwrap_err();
    assert!(matches!(inner(&error), GivenError::NameSaysOther { .. }), "{error:?}");
    assert!(hint(&error).contains("get it again"));
}

#[test]
fn what_is_no_network_takes_no_place() {
    let scene = scene();
    for given in [scene.file("bad", b"<html>"), Given::Url(scene.server.url("/bad.pth"))] {
        let error = scene.take(&given).unwrap_err();
        assert!(matches!(inner(&error), GivenError::Unusable { .. }), "{error:?}");
        assert!(names(&scene.weights()).is_empty(), "{:?}", names(&scene.weights()));
    }
}

#[test]
fn an_address_is_fetched_and_noted() {
    let scene = scene();
    let url = scene.server.url("/resnet18.safetensors");
    let fetched = scene.take(&Given::Url(url.clone())).unwrap();
    assert_eq!(fetched.source, url);
    assert_eq!(names(&scene.weights()), ["resnet18.safetensors", "resnet18.source.json"]);
}

#[test]
fn several_at_once_fetch_an_address_once() {
    let scene = scene();
    // The others are there before the first is done.
    let slow = |path: &Path, name: &str| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        check(path, name)
    };
    let url = scene.server.url("/resnet18.safetensors");
    let outcomes = std::thread::scope(|scope| {
        let jobs = [(); 3].map(|()| {
            scope.spawn(|| Job { check: slow, ..scene.job() }.take_given(&Given::Url(url.clone())).unwrap().outcome)
        });
        jobs.map(|job| job.join().unwrap())
    });
    assert_eq!(outcomes.iter().filter(|&&outcome| outcome == Outcome::Installed).count(), 1);
    let bodies = scene.server.requests().into_iter().filter(|request| request.method == "GET").count();
    assert_eq!(bodies, 1);
}

#[test]
fn a_file_is_not_made_of_two() {
    let [old, new] = [b'o', b'n'].map(|byte| [GOOD, &[byte; 100_000]].concat());
    let contents = new.clone();
    let scene = Scene::new(Server::start(move |n, request| match n {
        0 => Reply::good(&old, request).cut(40_000),
        1..=20 => Reply::status("503 Service Unavailable"),
        _ => Reply::good(&contents, request),
    }));
    let url = scene.server.url("/resnet18.safetensors?token=SECRET");
    let mut failed = 0;
    let fetched = loop {
        match scene.take(&Given::Url(url.clone())) {
            Ok(fetched) => break fetched,
            Err(error) => {
                assert!(!format!("{error:#}").contains("SECRET"), "{error:#}");
                let part = fs::read_to_string(scene.weights().join(".resnet18.fetch/arrived.part.json")).unwrap();
                assert!(!part.contains("SECRET"), "{part}");
                failed += 1;
            }
        }
    };
    assert!(failed > 0 && fs::read(fetched.path).unwrap() == new);
}

#[test]
fn nor_is_it_within_one_run() {
    let [old, new] = [b'o', b'n'].map(|byte| [GOOD, &[byte; 100_000]].concat());
    let contents = new.clone();
    let scene = Scene::new(Server::start(move |n, request| match n {
        0 => Reply::good(&old, request).cut(40_000),
        _ => Reply::good(&contents, request),
    }));
    let fetched = scene.take(&Given::Url(scene.server.url("/resnet18.safetensors"))).unwrap();
    assert!(fs::read(fetched.path).unwrap() == new);
}

#[test]
fn only_files_and_http_are_taken() {
    let scene = scene();
    let said = |from: &str| Given::parse(from).unwrap_err().to_string();
    assert!(said("ftp://a/b").contains("only http:// and https://"));
    assert!(said("no/such/file").contains("cannot read `no/such/file`"));
    assert!(
        said(scene.dir.path().to_str().unwrap()).ends_with("is no file: name the .safetensors or .pth file itself")
    );
}

#[test]
fn offline_means_not_one_request_to_an_address_either() {
    let scene = scene();
    let mut job = Job { check, ..scene.job() };
    job.settings.network = Network::Forbidden;
    let address = Given::Url(format!("{}/good.pth", job.settings.endpoint));
    let error = job.take_given(&address).unwrap_err();
    assert!(error.to_string().contains("`HF_HUB_OFFLINE` is set"), "{error:#}");
    assert!(scene.server.requests().is_empty());
    assert!(job.take_given(&scene.file("a", GOOD)).is_ok());
}
