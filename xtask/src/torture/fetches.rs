//! Several fetches of one data set at once.

use super::child::{Place, Running};
use super::{Scene, Tally, files};
use crate::raw_zip::{archive, file};
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many at once.
const FETCHES: usize = 8;

pub(super) fn run(scene: &Scene) -> Result<Tally> {
    let place = &scene.place;
    let Some(data) = real_data() else {
        return Ok(Tally::skipped("no real data in $CN_DATA or data/chinese-mnist to serve"));
    };
    let kept = |name: &String| name.ends_with(".jpg") || name.ends_with(".csv");
    let names = files::below(&data)?.into_iter().filter(kept);
    let entries = names.map(|name| Ok(file(&name, &fs::read(data.join(&name))?))).collect::<Result<Vec<_>>>()?;
    let server = Server::start(archive(&entries))?;
    let mut tally = Tally::default();
    for _ in 0..scene.tries(3, 1) {
        let outcome = at_once(place, &server);
        tally.add(|| "eight at once".into(), outcome);
        fs::remove_dir_all(place.path("fetched")).ok();
        let outcome = killed_holder(place, &server);
        tally.add(|| "a holder that is killed".into(), outcome);
        fs::remove_dir_all(place.path("fetched")).ok();
    }
    Ok(tally)
}

fn real_data() -> Option<PathBuf> {
    let places = [std::env::var_os("CN_DATA").map(PathBuf::from), Some(workspace::root().join("data/chinese-mnist"))];
    places.into_iter().flatten().find(|folder| folder.join("chinese_mnist.csv").is_file())
}

fn fetch(place: &Place, server: &Server) -> Result<Running> {
    place.start(place.xtask(&format!("fetch-data --from {} --to fetched/data", server.url))?)
}

fn at_once(place: &Place, server: &Server) -> Result<()> {
    let before = server.bodies();
    let all = (0..FETCHES).map(|_| fetch(place, server)).collect::<Result<Vec<_>>>()?;
    for running in all {
        running.wait()?.succeeded()?;
    }
    ensure!(server.bodies() - before == 1, "{} downloads", server.bodies() - before);
    Ok(())
}

/// Kills the fetch that holds the lock while others wait: one of them downloads within a second, and all succeed.
fn killed_holder(place: &Place, server: &Server) -> Result<()> {
    server.stall.store(1, Ordering::SeqCst);
    let before = server.asked();
    let holder = fetch(place, server)?;
    let wait_for = |n: usize| -> Result<Instant> {
        let begin = Instant::now();
        while server.asked() < n {
            ensure!(begin.elapsed() < Duration::from_secs(30), "nobody asks the server");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Instant::now())
    };
    wait_for(before + 1)?;
    let next = fetch(place, server)?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(server.asked() == before + 1, "two fetches at once");
    server.stall.store(0, Ordering::SeqCst);
    holder.send("-KILL")?;
    let killed = Instant::now();
    let asked = wait_for(before + 2)?;
    let seconds = asked.duration_since(killed);
    ensure!(seconds <= Duration::from_secs(1), "the next one went on after {:.2} s", seconds.as_secs_f64());
    holder.wait()?;
    next.wait()?.succeeded()
}

/// Serves one file to whoever asks; counts requests, and bodies that were sent whole.
struct Server {
    url: String,
    counts: Arc<[AtomicUsize; 2]>,
    /// 1 while answers are held back.
    stall: Arc<AtomicUsize>,
}

impl Server {
    fn start(content: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot serve on this machine")?;
        let url = format!("http://{}/archive.zip", listener.local_addr()?);
        let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let stall = Arc::new(AtomicUsize::new(0));
        let (counted, stalled, content) = (counts.clone(), stall.clone(), Arc::new(content));
        // Lives as long as the program, which ends behind its table.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, stalled, content) = (counted.clone(), stalled.clone(), content.clone());
                std::thread::spawn(move || {
                    let _ = answer(stream, &content, &counted, &stalled);
                });
            }
        });
        Ok(Self { url, counts, stall })
    }

    fn asked(&self) -> usize {
        self.counts[0].load(Ordering::SeqCst)
    }

    fn bodies(&self) -> usize {
        self.counts[1].load(Ordering::SeqCst)
    }
}

fn answer(
    mut stream: TcpStream,
    content: &[u8],
    counts: &[AtomicUsize; 2],
    stall: &AtomicUsize,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    if request.starts_with(b"HEAD") {
        return stream.write_all(head.as_bytes());
    }
    counts[0].fetch_add(1, Ordering::SeqCst);
    while stall.load(Ordering::SeqCst) == 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(content)?;
    counts[1].fetch_add(1, Ordering::SeqCst);
    Ok(())
}
