mod given;

use super::*;
use crate::download::{ProxyFrom, Token};
use crate::test_server::{Reply, Request, Server};
use std::time::Duration;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const PAGE_ID: &str = "89abcdef0123456789abcdef0123456789abcdef";
const PAGE_TEXT: &[u8] = b"---\nlicense: bsd-3-clause\n---\n";

/// A safetensors file with one tensor, long enough for some chunks of a download, every byte telling its place.
fn weights() -> Vec<u8> {
    let values: Vec<u8> = (0..150_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    let header = format!(r#"{{"fc.bias":{{"dtype":"U8","shape":[150000],"data_offsets":[0,{}]}}}}"#, values.len());
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &values].concat()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hub's interface: HEAD tells commit, hash and length and redirects to another address, GET follows it.
///
/// `body` answers the n-th request for the contents.
fn hub(body: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Server {
    hub_for("model.safetensors", body)
}

fn hub_for(file: &'static str, body: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Server {
    let bodies = std::cell::Cell::new(0);
    Server::start(move |_, request| {
        let path = request.path.as_str();
        if path.starts_with("/cdn/") {
            bodies.set(bodies.get() + 1);
            return body(bodies.get() - 1, request).header("ETag: \"of the CDN\"");
        }
        let Some((revision, name)) =
            path.strip_prefix("/timm/resnet18.tv_in1k/resolve/").and_then(|p| p.split_once('/'))
        else {
            return Reply::status("404 Not Found");
        };
        assert!(revision == "main" || revision == COMMIT, "{revision}");
        let reply = match name {
            PAGE => Reply::good(PAGE_TEXT, request).header(&format!("ETag: \"{PAGE_ID}\"")),
            _ if name == file => linked(&request.host, &weights()),
            _ => Reply::status("404 Not Found").header("X-Error-Code: EntryNotFound"),
        };
        reply.header(&format!("X-Repo-Commit: {COMMIT}"))
    })
}

/// What a hub says about a large file, which lies elsewhere.
fn linked(host: &str, contents: &[u8]) -> Reply {
    Reply::status("302 Found")
        .header(&format!("X-Linked-Etag: \"{}\"", sha256(contents)))
        .header(&format!("X-Linked-Size: {}", contents.len()))
        .header(&format!("Location: http://{host}/cdn/weights?signature=of-today"))
}

struct Scene {
    dir: tempfile::TempDir,
    server: Server,
}

impl Scene {
    fn new(server: Server) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), server }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("hub")
    }

    fn job(&self) -> Job {
        let options = Options {
            connect: Duration::from_secs(2),
            read: Duration::from_millis(300),
            total: Duration::from_secs(20),
            backoff: Duration::from_millis(2),
            backoff_max: Duration::from_millis(20),
            proxy: ProxyFrom::Nowhere,
            ..Options::default()
        };
        let settings =
            Settings { endpoint: self.server.url(""), cache: self.cache(), token: None, network: Network::Allowed };
        Job {
            model: MODELS[0],
            settings,
            weights: self.dir.path().join("weights"),
            options,
            progress: |_, _| Progress::quiet(),
            check: |path, _| panic!("`{}` needs no check: the hub names its hash", path.display()),
        }
    }

    fn fetch(&self) -> Result<Fetched> {
        self.job().fetch_from_hub()
    }

    fn repo(&self) -> PathBuf {
        self.cache().join("models--timm--resnet18.tv_in1k")
    }

    /// hf-hub, the reference of the layout, finds the file, and nothing else lies about.
    #[track_caller]
    fn assert_found(&self) {
        let cache = hf_hub::Cache::new(self.cache());
        let found = cache.model("timm/resnet18.tv_in1k".into()).get("model.safetensors").expect("in the cache");
        assert!(fs::read(&found).unwrap() == weights(), "other bytes than served");
        assert_eq!(fs::read_to_string(self.repo().join("refs/main")).unwrap(), COMMIT);
        let mut blobs = vec![sha256(&weights()), PAGE_ID.to_owned()];
        blobs.sort();
        assert_eq!(names(&self.repo().join("blobs")), blobs);
        assert_eq!(names(&self.repo().join("snapshots")), [COMMIT]);
        #[cfg(unix)]
        assert_eq!(fs::read_link(found).unwrap(), Path::new("../../blobs").join(sha256(&weights())));
    }

    /// A client that looks into the cache finds no weights.
    #[track_caller]
    fn assert_not_found(&self) {
        let cache = hf_hub::Cache::new(self.cache());
        assert_eq!(cache.model("timm/resnet18.tv_in1k".into()).get("model.safetensors"), None);
        assert!(!self.repo().join("blobs").join(sha256(&weights())).exists());
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn hint(error: &anyhow::Error) -> &str {
    &error.downcast_ref::<Hinted>().unwrap_or_else(|| panic!("no hint: {error:?}")).hint
}

fn inner<E: std::error::Error + Send + Sync + 'static>(error: &anyhow::Error) -> &E {
    let inner = error.downcast_ref::<Hinted>().map(Hinted::inner);
    inner.and_then(|e| e.downcast_ref()).or_else(|| error.downcast_ref()).unwrap_or_else(|| panic!("{error:?}"))
}

#[test]
fn a_good_hub_fills_the_cache_as_its_own_clients_do() {
    let scene = Scene::new(hub(|_, request| Reply::good(&weights(), request)));
    let fetched = scene.fetch().unwrap();
    scene.assert_found();
    assert_eq!((fetched.outcome, fetched.checked), (Outcome::Installed, Checked::Hub));
    assert_eq!((fetched.sha256, fetched.bytes), (sha256(&weights()), weights().len() as u64));
    assert!(fetched.source.contains(COMMIT));
    let page = fetched.path.with_file_name("README.md");
    assert!(fs::read(page).unwrap() == PAGE_TEXT);

    let requests = scene.server.requests().len();
    let again = scene.fetch().unwrap();
    assert_eq!((again.outcome, again.path, again.checked), (Outcome::AlreadyThere, fetched.path, Checked::Hub));
    assert_eq!(scene.server.requests().len(), requests, "what is there needs no network");
}

#[test]
fn the_faults_of_servers_change_nothing_but_time() {
    type Body = fn(usize, &Request) -> Reply;
    let faults: [(&str, Body); 7] = [
        ("cut at ten places", |n, request| {
            let reply = Reply::good(&weights(), request);
            if n < 10 { reply.cut(10_000 + n) } else { reply }
        }),
        ("no ranges", |n, _| {
            let reply = Reply::whole(&weights());
            if n < 3 { reply.cut(20_000 * (n + 1)) } else { reply }
        }),
        ("a length that is too long", |n, request| {
            let mut reply = Reply::good(&weights(), request);
            if n == 0 {
                let length = weights().len();
                reply.head = reply.head.replace(&length.to_string(), &(length + 1).to_string());
            }
            reply
        }),
        ("busy", |n, request| match n {
            0 => Reply::status("503 Service Unavailable"),
            1 => Reply::status("429 Too Many Requests").header("Retry-After: 0"),
            _ => Reply::good(&weights(), request),
        }),
        ("a range from another place", |n, request| match n {
            0 => Reply::good(&weights(), request).cut(50_000),
            1 => Reply::good(&weights(), &Request { from: Some(60_000), ..request.clone() }),
            _ => Reply::good(&weights(), request),
        }),
        ("silence", |n, request| {
            let reply = Reply::good(&weights(), request);
            if n == 0 { Reply { stall: Duration::from_millis(600), ..reply } } else { reply }
        }),
        ("other bytes the first time", |n, request| match n {
            0 => Reply::whole(&vec![7; weights().len()]),
            _ => Reply::good(&weights(), request),
        }),
    ];
    for (what, body) in faults {
        let scene = Scene::new(hub(body));
        let fetched = scene.fetch().unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(fetched.sha256, sha256(&weights()), "{what}");
        scene.assert_found();
    }
}

#[test]
fn each_byte_is_sent_once_through_redirects() {
    let scene = Scene::new(hub(|n, request| {
        let reply = Reply::good(&weights(), request);
        if n < 10 { reply.cut(10_000 + n) } else { reply }
    }));
    scene.fetch().unwrap();
    let bodies = scene.server.requests().into_iter().filter(|request| request.path.starts_with("/cdn/"));
    let ranges: Vec<_> = bodies.map(|request| (request.from, request.if_range)).collect();
    assert_eq!(ranges.len(), 11);
    assert!(ranges[1..].iter().all(|(from, tag)| from.is_some() && tag.as_deref() == Some("\"of the CDN\"")));
    assert_eq!(scene.server.sent(), weights().len() + PAGE_TEXT.len());
}

#[test]
fn contents_with_another_hash_are_not_kept() {
    let scene = Scene::new(hub(|_, _| Reply::whole(&vec![7; weights().len()])));
    let error = scene.fetch().unwrap_err();
    let hub::Error::WrongHash { expected, found, .. } = inner(&error) else { panic!("{error:?}") };
    assert_eq!((expected, found), (&sha256(&weights()), &sha256(&vec![7; weights().len()])));
    assert!(hint(&error).contains("nothing was kept"));
    scene.assert_not_found();
    assert!(names(&scene.repo().join("blobs")).is_empty());
}

#[test]
fn contents_of_another_length_are_not_kept() {
    let scene = Scene::new(hub(|_, request| Reply::good(&weights()[..100_000], request)));
    let error = scene.fetch().unwrap_err();
    assert!(matches!(inner(&error), hub::Error::WrongLength { found: 100_000, .. }), "{error:?}");
    scene.assert_not_found();
}

#[test]
fn a_server_that_always_breaks_off_is_given_up_and_gone_on_with() {
    let scene = Scene::new(hub(|n, request| {
        let reply = Reply::good(&weights(), request);
        if n < 6 { Reply::whole(&weights()).cut(50_000) } else { reply }
    }));
    let error = scene.fetch().unwrap_err();
    assert!(matches!(inner(&error), download::Error::GaveUp { at: 50_000, .. }), "{error:?}");
    assert!(hint(&error).contains("goes on"));
    scene.assert_not_found();
    scene.fetch().unwrap();
    scene.assert_found();
    let last = scene.server.requests().into_iter().rfind(|request| request.path.starts_with("/cdn/"));
    assert_eq!(last.unwrap().from, Some(50_000));
}

#[test]
fn closed_repositories_are_refused_with_the_words_of_the_hub() {
    for (status, code) in [("401 Unauthorized", 401), ("403 Forbidden", 403)] {
        let scene = Scene::new(Server::start(move |_, _| {
            Reply::status(status).header("X-Error-Message: Access to this repository is restricted.")
        }));
        let error = scene.fetch().unwrap_err();
        assert!(error.to_string().ends_with(": Access to this repository is restricted."), "{error}");
        assert!(matches!(inner(&error), download::Error::Refused { status, .. } if status.as_u16() == code));
        assert!(hint(&error).contains("HF_TOKEN") && hint(&error).contains("--from FILE"));
        assert_eq!(scene.server.requests().len(), 1);
        scene.assert_not_found();
    }
}

#[test]
fn a_repository_without_safetensors_gives_its_older_file() {
    let scene = Scene::new(hub_for("pytorch_model.bin", |_, request| Reply::good(&weights(), request)));
    let fetched = scene.fetch().unwrap();
    assert!(fetched.path.ends_with("pytorch_model.bin"));
    assert_eq!(scene.fetch().unwrap().outcome, Outcome::AlreadyThere);
}

#[test]
fn a_repository_that_is_not_there_is_named() {
    let scene = Scene::new(Server::start(|_, _| Reply::status("404 Not Found")));
    let error = scene.fetch().unwrap_err();
    assert!(error.to_string().contains("resolve/main/model.safetensors` answered 404"), "{error}");
    assert!(hint(&error).contains("HF_ENDPOINT"));
}

#[test]
fn a_busy_hub_is_asked_again_and_a_renamed_repository_followed() {
    let other = "/timm/renamed/resolve/main/model.safetensors";
    let scene = Scene::new(Server::start(move |n, request| match (n, request.path.as_str()) {
        (0, _) => Reply::status("503 Service Unavailable"),
        (_, "/cdn/weights?signature=of-today") => Reply::good(&weights(), request),
        (_, path) if request.method == "HEAD" && path != other => {
            Reply::status("307 Temporary Redirect").header(&format!("Location: {other}"))
        }
        _ => linked(&request.host, &weights()).header(&format!("X-Repo-Commit: {COMMIT}")),
    }));
    scene.fetch().unwrap();
    assert_eq!(fs::read_to_string(scene.repo().join("refs/main")).unwrap(), COMMIT);
}

#[test]
fn a_server_that_is_no_hub_is_told_apart() {
    let scene = Scene::new(Server::start(|_, _| Reply::whole(b"<html>please log in</html>")));
    let error = scene.fetch().unwrap_err();
    assert!(
        error.to_string().ends_with("without the header `x-repo-commit`, which every hub of models sends"),
        "{error}"
    );
    assert!(hint(&error).contains("HTTPS_PROXY"));
    assert!(!scene.cache().exists(), "nothing may be written for it");
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let scene = Scene::new(hub(|_, request| Reply::good(&weights(), request)));
    let mut job = scene.job();
    job.settings.token = Some(Token("hf_secret".into()));
    job.fetch_from_hub().unwrap();
    for request in scene.server.requests() {
        let expected = (!request.path.starts_with("/cdn/")).then_some("Bearer hf_secret");
        assert_eq!(request.authorization.as_deref(), expected, "{}", request.path);
    }
}

#[test]
fn offline_means_not_one_request() {
    let scene = Scene::new(hub(|_, request| Reply::good(&weights(), request)));
    let mut job = scene.job();
    job.settings.network = Network::Forbidden;
    let error = job.fetch_from_hub().unwrap_err();
    assert!(error.to_string().starts_with("`HF_HUB_OFFLINE` is set"), "{error}");
    assert_eq!(hint(&error).lines().count(), 3);
    assert!(scene.server.requests().is_empty());
    scene.fetch().unwrap();
    assert_eq!(job.fetch_from_hub().unwrap().outcome, Outcome::AlreadyThere);
}

#[test]
fn without_a_network_three_lines_say_what_to_do() {
    let scene = Scene::new(Server::start(|_, _| Reply::status("500 No")));
    let mut job = scene.job();
    // A port that was free a moment ago: the connection is refused.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    job.settings.endpoint = format!("http://{port}");
    let error = job.fetch_from_hub().unwrap_err();
    assert!(matches!(inner(&error), download::Error::Unreachable { .. }), "{error:?}");
    assert_eq!(hint(&error).lines().count(), 3);
    assert!(hint(&error).contains("fetch-weights resnet18 --from FILE"));
}

#[test]
fn a_damaged_file_in_the_cache_is_fetched_anew() {
    let scene = Scene::new(hub(|_, request| Reply::good(&weights(), request)));
    let fetched = scene.fetch().unwrap();
    let blob = fs::canonicalize(&fetched.path).unwrap();
    fs::write(&blob, "half").unwrap();
    assert_eq!(scene.fetch().unwrap().outcome, Outcome::Installed);
    scene.assert_found();
}

#[test]
fn several_at_once_fetch_one_body() {
    let scene = Scene::new(hub(|_, request| Reply::good(&weights(), request)));
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..4).map(|_| scope.spawn(|| scene.fetch().map(drop))).collect();
        jobs.into_iter().for_each(|job| job.join().unwrap().unwrap());
    });
    let bodies = scene.server.requests().into_iter().filter(|request| request.path.starts_with("/cdn/"));
    assert_eq!(bodies.count(), 1);
    scene.assert_found();
}

#[test]
fn contents_that_no_hash_vouches_for_are_read_first() {
    let git_id = format!("ETag: \"{PAGE_ID}\"");
    let server = || {
        let git_id = git_id.clone();
        Server::start(move |_, request| {
            Reply::good(&weights(), request).header(&git_id).header(&format!("X-Repo-Commit: {COMMIT}"))
        })
    };
    let scene = Scene::new(server());
    let bad = Job { check: |_, _| anyhow::bail!("no ResNet"), ..scene.job() };
    // Refused each time: nothing is taken for whole because it lies there.
    for _ in 0..2 {
        assert_eq!(bad.fetch_from_hub().unwrap_err().to_string(), "no ResNet");
        scene.assert_not_found();
    }
    let good = Job { check: |_, _| Ok(()), ..scene.job() };
    assert_eq!(good.fetch_from_hub().unwrap().checked, Checked::Nothing);
}

#[test]
fn unknown_names_are_wrong_usage() {
    let error = model("resnet19").unwrap_err();
    assert!(error.is::<Usage>());
    assert_eq!(error.to_string(), "there are no weights called `resnet19`; known are resnet18, resnet34, resnet50");
}
