use super::*;
use crate::test_server::{Reply, Request, Server};
use sha2::{Digest, Sha256};
use std::fs;

/// Two chunks and a bit, every byte telling its place.
fn content() -> Vec<u8> {
    (0..150_001_u32).map(|i| (i ^ (i >> 8)) as u8).collect()
}

fn options() -> Options {
    Options {
        connect: Duration::from_secs(2),
        read: Duration::from_millis(300),
        total: Duration::from_secs(20),
        backoff: Duration::from_millis(2),
        backoff_max: Duration::from_millis(20),
        proxy: ProxyFrom::Nowhere,
        ..Options::default()
    }
}

struct Scene {
    dir: tempfile::TempDir,
    server: Server,
}

impl Scene {
    fn new(answer: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), server: Server::start(answer) }
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("file.zip")
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("file.zip.part")
    }

    fn run_with(&self, options: &Options) -> Result<Downloaded, Error> {
        let url = self.server.url("/file.zip");
        download(&url, &self.to(), options, &mut Progress::quiet())
    }

    fn run(&self) -> Result<Downloaded, Error> {
        self.run_with(&options())
    }

    #[track_caller]
    fn assert_whole(&self) {
        assert!(fs::read(self.to()).unwrap() == content(), "other bytes than served");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 1, "left-overs");
    }

    #[track_caller]
    fn assert_nothing_final(&self) {
        assert!(!self.to().exists(), "a file that is not whole got its name");
    }
}

#[test]
fn a_good_server_needs_one_request() {
    let scene = Scene::new(|_, request| Reply::good(&content(), request));
    let done = scene.run().unwrap();
    assert_eq!((done.bytes, done.resumed), (150_001, false));
    scene.assert_whole();
    assert_eq!(scene.server.requests().len(), 1);
}

#[test]
fn cut_at_ten_places_each_byte_is_sent_once() {
    let scene = Scene::new(|n, request| {
        let reply = Reply::good(&content(), request).header("ETag: \"v1\"");
        if n < 10 { reply.cut(10_000 + n) } else { reply }
    });
    scene.run().unwrap();
    scene.assert_whole();
    let requests = scene.server.requests();
    assert_eq!(requests.len(), 11);
    assert!(requests[1..].iter().all(|r| r.if_range.as_deref() == Some("\"v1\"")));
    // At most one chunk twice is promised; on a clean cut not a byte is.
    assert_eq!(scene.server.sent(), content().len());
}

#[test]
fn a_server_without_ranges_begins_anew_and_doubles_nothing() {
    let scene = Scene::new(|n, _| {
        let reply = Reply::whole(&content());
        if n < 3 { reply.cut(20_000 * (n + 1)) } else { reply }
    });
    scene.run().unwrap();
    scene.assert_whole();
    assert_eq!(scene.server.requests()[3].from, Some(60_000));
}

#[test]
fn a_server_that_always_breaks_off_at_one_place_is_given_up() {
    let scene = Scene::new(|_, _| Reply::whole(&content()).cut(20_000));
    let error = scene.run().unwrap_err();
    assert!(matches!(error, Error::GaveUp { tries: 6, at: 20_000, .. }), "{error:?}");
    assert_eq!(scene.server.requests().len(), 6);
    scene.assert_nothing_final();
}

#[test]
fn a_stated_length_beyond_the_body_is_no_whole_file() {
    let scene = Scene::new(|n, request| {
        let mut reply = Reply::good(&content(), request);
        if n == 0 {
            reply.head = reply.head.replace("150001", "150002");
        }
        reply
    });
    // Asked for what follows the end of the true file, the server says 416 with the true length.
    scene.run().unwrap();
    scene.assert_whole();

    let scene = Scene::new(|_, _| {
        let mut reply = Reply::whole(&content());
        reply.head = reply.head.replace("150001", "150002");
        reply
    });
    assert!(matches!(scene.run().unwrap_err(), Error::GaveUp { .. }));
    scene.assert_nothing_final();
}

#[test]
fn a_total_that_changes_on_the_way_begins_anew() {
    let scene = Scene::new(|n, request| {
        let mut reply = Reply::good(&content(), request);
        match n {
            0 => reply.cut(50_000),
            1 => {
                reply.head = reply.head.replace("/150001", "/150009");
                reply
            }
            _ => reply,
        }
    });
    scene.run().unwrap();
    scene.assert_whole();
    assert_eq!(scene.server.requests()[2].from, None);
}

#[test]
fn a_range_from_another_place_is_not_glued_on() {
    // Glued on, the second would leave a hole that no length betrays.
    for from in [40_000, 60_000] {
        let scene = Scene::new(move |n, request| match n {
            0 => Reply::good(&content(), request).cut(50_000),
            1 => Reply::good(&content(), &Request { from: Some(from), ..request.clone() }),
            _ => Reply::good(&content(), request),
        });
        scene.run().unwrap();
        scene.assert_whole();
    }
}

#[test]
fn a_server_that_gives_less_than_asked_is_asked_for_the_rest() {
    let scene = Scene::new(|_, request| {
        let from = request.from.unwrap_or(0);
        let end = content().len().min(from + 40_000);
        let (length, last) = (end - from, end - 1);
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: bytes {from}-{last}/150001"
        );
        Reply { head, body: content()[from..end].to_vec(), ..Reply::default() }
    });
    scene.run().unwrap();
    scene.assert_whole();
    assert_eq!(scene.server.sent(), content().len());
}

#[test]
fn what_begins_encrypted_stays_encrypted() {
    let https_only = |url| agent(url, &options(), Redirects::Followed).unwrap().config().https_only();
    assert!(https_only("https://example.org/") && https_only("HTTPS://example.org/"));
    assert!(!https_only("http://example.org/"));
}

#[test]
fn another_version_of_the_file_begins_anew() {
    let scene = Scene::new(|n, request| {
        if n == 0 {
            let old = vec![7; 150_001];
            return Reply::good(&old, request).header("ETag: \"old\"").cut(30_000);
        }
        // If-Range with the old tag: a good server sends the new file whole.
        assert_eq!(request.if_range.as_deref(), Some("\"old\""));
        Reply::whole(&content()).header("ETag: \"new\"")
    });
    scene.run().unwrap();
    scene.assert_whole();
}

#[test]
fn a_server_that_ignores_if_range_is_found_out_by_its_tag() {
    let scene = Scene::new(|n, request| match n {
        0 => Reply::good(&[7; 150_001], request).header("ETag: \"old\"").cut(30_000),
        _ => Reply::good(&content(), request).header("ETag: \"new\""),
    });
    scene.run().unwrap();
    scene.assert_whole();
}

#[test]
fn busy_answers_are_waited_out() {
    let scene = Scene::new(|n, request| match n {
        0 => Reply::status("503 Service Unavailable"),
        1 => Reply::status("429 Too Many Requests").header("Retry-After: 0"),
        2 => Reply::status("500 Internal Server Error"),
        _ => Reply::good(&content(), request),
    });
    scene.run().unwrap();
    scene.assert_whole();
}

#[test]
fn retry_after_is_honoured_up_to_a_limit() {
    let busy = |seconds: u32| {
        Scene::new(move |n, request| match n {
            0 => Reply::status("503 Service Unavailable").header(&format!("Retry-After: {seconds}")),
            _ => Reply::good(&content(), request),
        })
    };
    let mut options = options();
    options.backoff_max = Duration::from_secs(1);
    let begin = Instant::now();
    let scene = busy(1);
    scene.run_with(&options).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));

    let error = busy(3600).run_with(&options).unwrap_err();
    let Error::GaveUp { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "the server asks to come back in 3600 s");
}

#[test]
fn a_server_that_is_always_busy_is_given_up() {
    let scene = Scene::new(|_, _| Reply::status("503 Service Unavailable"));
    let error = scene.run().unwrap_err();
    assert!(matches!(error, Error::GaveUp { tries: 6, at: 0, .. }), "{error:?}");
    assert_eq!(scene.server.requests().len(), 6);
}

#[test]
fn final_answers_are_not_tried_again() {
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found", "410 Gone"] {
        let scene = Scene::new(move |_, _| Reply::status(status));
        let error = scene.run().unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert_eq!(scene.server.requests().len(), 1);
    }
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let scene = Scene::new(|_, request| match request.path.as_str() {
        "/real" => Reply::good(&content(), request),
        _ => Reply::status("302 Found").header("Location: /real"),
    });
    scene.run().unwrap();
    scene.assert_whole();

    let scene = Scene::new(|_, _| Reply::status("302 Found").header("Location: /file.zip"));
    assert!(matches!(scene.run().unwrap_err(), Error::Request { .. }));
    assert!(scene.server.requests().len() <= 11);
}

#[test]
fn a_redirect_to_a_file_is_refused() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "secret").unwrap();
    let location = format!("Location: file://{}", secret.path().display());
    let scene = Scene::new(move |_, _| Reply::status("302 Found").header(&location));
    let error = scene.run().unwrap_err();
    assert!(!matches!(error, Error::Disk { .. }), "{error:?}");
    scene.assert_nothing_final();
}

#[test]
fn only_http_addresses_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["file:///etc/passwd", "ftp://127.0.0.1/x", "x.zip", "//127.0.0.1/x"] {
        let to = dir.path().join("x");
        let error = download(url, &to, &options(), &mut Progress::quiet()).unwrap_err();
        assert!(matches!(error, Error::NotHttp { .. }), "{url}: {error:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_server_that_falls_silent_is_tried_anew() {
    let scene = Scene::new(|n, request| {
        let mut reply = Reply::good(&content(), request);
        if n == 0 {
            reply.stall = Duration::from_millis(600); // Twice the read timeout.
        }
        reply
    });
    scene.run().unwrap();
    scene.assert_whole();
}

#[test]
fn the_whole_job_has_a_time_limit() {
    let scene = Scene::new(|_, _| Reply::status("503 Service Unavailable"));
    let mut options = options();
    options.total = Duration::from_millis(200);
    options.tries = 1000;
    let begin = Instant::now();
    let error = scene.run_with(&options).unwrap_err();
    assert!(matches!(error, Error::TooSlow { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_body_beyond_the_cap_is_refused_stated_or_not() {
    let mut options = options();
    options.max_bytes = 100_000;
    let stated = Scene::new(|_, request| Reply::good(&content(), request));
    let unstated = Scene::new(|_, _| {
        let mut reply = Reply::whole(&content());
        reply.head = "HTTP/1.1 200 OK".into();
        reply
    });
    for scene in [stated, unstated] {
        let error = scene.run_with(&options).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
        assert_eq!(fs::read_dir(scene.dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn the_next_run_goes_on_where_the_last_one_ended() {
    let scene = Scene::new(|n, request| {
        let reply = Reply::good(&content(), request).header("ETag: \"v1\"");
        if n == 0 { reply.cut(100_000) } else { reply }
    });
    let mut once = options();
    once.tries = 1;
    scene.run_with(&once).unwrap_err();
    assert_eq!(fs::metadata(scene.part()).unwrap().len(), 100_000);
    let done = scene.run().unwrap();
    assert!(done.resumed);
    scene.assert_whole();
    assert_eq!(scene.server.sent(), content().len());
}

#[test]
fn what_was_left_of_another_address_is_not_used() {
    let scene = Scene::new(|n, request| {
        let reply = Reply::good(&content(), request);
        if n == 0 { reply.cut(1000) } else { reply }
    });
    let mut once = options();
    once.tries = 1;
    let other = scene.server.url("/other.zip");
    download(&other, &scene.to(), &once, &mut Progress::quiet()).unwrap_err();
    scene.run().unwrap();
    assert_eq!(scene.server.requests()[1].from, None);
    scene.assert_whole();
}

#[test]
fn a_part_whose_description_is_damaged_is_not_trusted() {
    let scene = Scene::new(|_, request| Reply::good(&content(), request));
    for about in ["", "{\"address\": ", "[]", "{\"address\": 7}"] {
        fs::write(scene.part(), "other bytes").unwrap();
        fs::write(scene.dir.path().join("file.zip.part.json"), about).unwrap();
        assert!(!scene.run().unwrap().resumed);
        scene.assert_whole();
    }
}

#[test]
fn a_whole_part_needs_only_its_name() {
    let scene = Scene::new(|_, request| Reply::good(&content(), request));
    fs::write(scene.part(), content()).unwrap();
    let address: String =
        Sha256::digest(scene.server.url("/file.zip")).iter().map(|byte| format!("{byte:02x}")).collect();
    let about = serde_json::json!({"address": address, "total": 150_001});
    fs::write(scene.dir.path().join("file.zip.part.json"), about.to_string()).unwrap();
    scene.run().unwrap();
    scene.assert_whole();
    assert_eq!(scene.server.sent(), 0);
}

#[test]
fn a_machine_without_a_network_learns_it_soon() {
    // A port that was free a moment ago: the connection is refused.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{port}/x");
    let to = dir.path().join("x");
    let error = download(&url, &to, &options(), &mut Progress::quiet()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let scene = Scene::new(|_, request| Reply::good(&content(), request));
    let to = scene.dir.path().join("no/such/file.zip");
    let url = scene.server.url("/file.zip");
    let error = download(&url, &to, &options(), &mut Progress::quiet()).unwrap_err();
    assert!(error.to_string().contains("no/such/file.zip.part"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_with_path_and_byte() {
    let scene = Scene::new(|_, request| Reply::good(&content(), request));
    // /dev/full takes no byte: every write fails as on a full disk.
    std::os::unix::fs::symlink("/dev/full", scene.part()).unwrap();
    let error = scene.run().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Disk { .. }), "{error:?}");
    assert!(text.contains("file.zip.part") && text.contains("byte 0"), "{text}");
    scene.assert_nothing_final();
}
