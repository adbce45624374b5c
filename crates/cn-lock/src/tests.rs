use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn eight_threads_never_meet_inside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let (inside, visits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let _lock = Lock::acquire(&path, AfterUse::Removed, || {}).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    visits.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(visits.into_inner(), 200);
    assert!(!path.exists() || cfg!(not(unix)), "the lock file stayed");
}

/// Not a test of its own: the process that `a_killed_holder_lets_the_next_one_in` starts and kills.
#[test]
fn holder_for_the_next_test() {
    if let Ok(path) = std::env::var("CN_LOCK_TEST_HOLD") {
        let _lock = Lock::acquire(Path::new(&path), AfterUse::Removed, || {}).unwrap();
        #[allow(clippy::print_stdout, reason = "the parent waits for this line")]
        {
            println!("held");
        }
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn a_killed_holder_lets_the_next_one_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::holder_for_the_next_test", "--nocapture"])
        .env("CN_LOCK_TEST_HOLD", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("held")));

    let mut waited = false;
    let begin = std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            let lock = Lock::acquire(&path, AfterUse::Removed, || waited = true).unwrap();
            drop(lock);
            Instant::now()
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!next.is_finished(), "two processes held the lock");
        holder.kill().unwrap(); // SIGKILL: no destructor runs.
        let killed = Instant::now();
        next.join().unwrap().duration_since(killed)
    });
    holder.wait().unwrap();
    assert!(waited);
    assert!(begin < Duration::from_secs(1), "{begin:?} after the kill");
}

#[test]
fn who_comes_second_learns_who_was_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let Attempt::Held(first) = Lock::try_acquire(&path, AfterUse::Removed).unwrap() else { panic!("nobody has it") };
    let Attempt::Busy { holder } = Lock::try_acquire(&path, AfterUse::Removed).unwrap() else { panic!("two have it") };
    assert_eq!(holder, Some(std::process::id()));
    drop(first);
    assert!(!path.exists() || cfg!(not(unix)), "the lock file stayed");

    // What a killed holder leaves behind locks nobody out.
    fs::write(&path, "1\n").unwrap();
    assert!(matches!(Lock::try_acquire(&path, AfterUse::Kept).unwrap(), Attempt::Held(_)));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    fs::write(&path, "no number").unwrap();
    let _held = Lock::acquire(&path, AfterUse::Kept, || {}).unwrap();
    fs::write(&path, "no number").unwrap();
    let again = Lock::try_acquire(&path, AfterUse::Kept).unwrap();
    assert!(matches!(again, Attempt::Busy { holder: None }), "{again:?}");
}

#[test]
fn a_folder_that_is_missing_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Lock::try_acquire(&dir.path().join("missing/lock"), AfterUse::Removed).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
