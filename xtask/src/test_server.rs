//! An HTTP server on this machine for tests, which misbehaves as told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Address of the server, as the client names it.
    pub(crate) host: String,
    pub(crate) authorization: Option<String>,
    /// First byte of `Range: bytes=N-`.
    pub(crate) from: Option<usize>,
    pub(crate) if_range: Option<String>,
}

/// What the server sends: `head` without the blank line, then `body`, then it closes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Pause between head and body.
    pub(crate) stall: Duration,
}

impl Reply {
    pub(crate) fn status(line: &str) -> Self {
        Self { head: format!("HTTP/1.1 {line}\r\nContent-Length: 0"), ..Self::default() }
    }

    pub(crate) fn header(mut self, line: &str) -> Self {
        self.head.push_str("\r\n");
        self.head.push_str(line);
        self
    }

    /// 200 with all of `content`.
    pub(crate) fn whole(content: &[u8]) -> Self {
        Self {
            head: format!("HTTP/1.1 200 OK\r\nContent-Length: {}", content.len()),
            body: content.to_vec(),
            stall: Duration::ZERO,
        }
    }

    /// What a good server sends: 206 from where it was asked, else 200.
    pub(crate) fn good(content: &[u8], request: &Request) -> Self {
        match request.from {
            Some(from) if from >= content.len() => {
                Self::status("416 Range Not Satisfiable").header(&format!("Content-Range: bytes */{}", content.len()))
            }
            Some(from) => Self {
                head: format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}",
                    content.len() - from,
                    content.len() - 1,
                    content.len()
                ),
                body: content[from..].to_vec(),
                stall: Duration::ZERO,
            },
            None => Self::whole(content),
        }
    }

    /// Sends no more than `n` bytes of the body, then closes.
    pub(crate) fn cut(mut self, n: usize) -> Self {
        self.body.truncate(n);
        self
    }
}

/// Answers the n-th request (from 0) with what the closure says, until dropped.
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    sent: Arc<Mutex<usize>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(Mutex::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let state = (requests.clone(), sent.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (requests, sent, stop) = state;
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let Some(request) = read_request(&mut stream) else {
                    continue;
                };
                let n = {
                    let mut requests = requests.lock().unwrap();
                    requests.push(request.clone());
                    requests.len() - 1
                };
                let mut reply = answer(n, &request);
                if request.method == "HEAD" {
                    reply.body.clear();
                }
                *sent.lock().unwrap() += send(&mut stream, &reply);
            }
        });
        Self { address, requests, sent, stop, thread: Some(thread) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Body bytes sent so far.
    pub(crate) fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // Wakes `incoming`.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        if text.len() > 16 << 10 || stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).ok()?;
    let mut words = text.split(' ').map(str::to_owned);
    let mut request = Request { method: words.next()?, path: words.next()?, ..Request::default() };
    for line in text.lines().skip(1) {
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let from = value.strip_prefix("bytes=")?.strip_suffix('-')?;
                request.from = Some(from.parse().ok()?);
            }
            "host" => request.host = value.to_owned(),
            "authorization" => request.authorization = Some(value.to_owned()),
            "if-range" => request.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}

fn send(stream: &mut TcpStream, reply: &Reply) -> usize {
    let head = format!("{}\r\nConnection: close\r\n\r\n", reply.head);
    if stream.write_all(head.as_bytes()).is_err() {
        return 0;
    }
    std::thread::sleep(reply.stall);
    let sent = stream.write_all(&reply.body).map_or(0, |()| reply.body.len());
    let _ = stream.shutdown(Shutdown::Write);
    sent
}
