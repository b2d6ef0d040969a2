use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

/// How the test server answers one request.
#[derive(Clone, Copy)]
enum Answer {
    /// The whole file, whatever was asked for.
    Whole,
    /// The part that was asked for.
    Part,
    /// The part that was asked for, but only this many bytes of it.
    Break(usize),
    /// The header and nothing more, for as long as the client waits.
    Stall,
    /// Not even a header.
    Silence,
    /// More than the file, without saying how much.
    Endless,
    Status(&'static str),
}

/// An HTTP server on this machine that gives one answer after the other, the last one for ever.
struct Server {
    url: String,
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn new(file: &[u8], answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/net.onnx", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let (file, answers, asked) = (file.to_vec(), answers.to_vec(), Arc::clone(&ranges));
        // Ends with the test's process.
        thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                let answer = answers[i.min(answers.len() - 1)];
                let (file, asked, stream) = (file.clone(), Arc::clone(&asked), stream.unwrap());
                thread::spawn(move || serve(&stream, &file, answer, &asked));
            }
        });
        Self { url, ranges }
    }

    /// From which byte each request asked, `None` for the whole.
    fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().unwrap().clone()
    }
}

fn serve(mut stream: &TcpStream, file: &[u8], answer: Answer, asked: &Mutex<Vec<Option<usize>>>) {
    let mut range = None;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap().to_ascii_lowercase();
        if let Some(from) = line.strip_prefix("range: bytes=") {
            range = Some(from.trim_end_matches('-').parse().unwrap());
        }
        if line.is_empty() {
            break;
        }
    }
    asked.lock().unwrap().push(range);
    let total = file.len();
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n");
    let header = match range {
        Some(from) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\nContent-Length: {}\r\n\r\n",
            total - 1,
            total - from
        ),
        None => whole.clone(),
    };
    let part = &file[range.unwrap_or(0).min(total)..];
    // A client that has had enough closes the connection.
    let _ = match answer {
        Answer::Whole => stream.write_all(&[whole.as_bytes(), file].concat()),
        Answer::Part => stream.write_all(&[header.as_bytes(), part].concat()),
        Answer::Break(length) => stream.write_all(&[header.as_bytes(), &part[..length]].concat()),
        Answer::Stall => stream.write_all(header.as_bytes()).map(|()| wait(stream)),
        Answer::Silence => stream.flush().map(|()| wait(stream)),
        Answer::Endless => {
            let header = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            stream.write_all(&[&header[..], file, b"more"].concat())
        }
        Answer::Status(status) => {
            stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())
        }
    };
}

/// Until the client closes the connection.
fn wait(mut stream: &TcpStream) {
    let _ = stream.read(&mut [0]);
}

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/net.onnx", listener.local_addr().unwrap())
}

const QUICK: Limits = Limits {
    resolve: Duration::from_millis(500),
    connect: Duration::from_millis(500),
    stall: Duration::from_millis(300),
    head_start: Duration::from_millis(50),
};

/// Three megabytes of which no two blocks are alike.
fn file() -> Vec<u8> {
    let mut bytes = vec![0; 3 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// A folder for the partial file, what lies in it at first, and what came of a download.
struct Trial {
    folder: tempfile::TempDir,
    progress: Mutex<Vec<u64>>,
}

impl Trial {
    fn new(partial: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("partial"), partial).unwrap();
        Self { folder, progress: Mutex::default() }
    }

    fn download(&self, expected: &[u8], urls: &[String]) -> Result<(), Failure> {
        let wanted = Wanted {
            name: "net",
            urls,
            bytes: expected.len() as u64,
            sha256: Sha256::of_bytes(expected),
        };
        let on_event = |event| {
            if let Event::Transfer { done, .. } = event {
                self.progress.lock().unwrap().push(done);
            }
        };
        let never = AtomicBool::new(false);
        let watch = Watch::new(&on_event, &never);
        download(&wanted, &self.folder.path().join("partial"), &QUICK, &watch)
    }

    fn partial(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("partial")).unwrap()
    }
}

#[track_caller]
fn unreachable(failure: Result<(), Failure>) -> Vec<String> {
    let Err(Failure::Unreachable(reasons)) = failure else { panic!("{failure:?}") };
    reasons.into_iter().map(|(_, reason)| reason).collect()
}

#[test]
fn a_file_comes_whole_and_progress_is_told() {
    let (file, trial) = (file(), Trial::new(b""));
    let server = Server::new(&file, &[Answer::Part]);
    trial.download(&file, std::slice::from_ref(&server.url)).unwrap();
    assert!(trial.partial() == file);
    assert_eq!(server.ranges(), [None]);
    let progress = trial.progress.into_inner().unwrap();
    assert!(progress.is_sorted());
    assert_eq!(progress.last(), Some(&(file.len() as u64)));
}

#[test]
fn a_partial_download_goes_on_where_it_ended() {
    let file = file();
    let trial = Trial::new(&file[..1_000_000]);
    let server = Server::new(&file, &[Answer::Part]);
    trial.download(&file, std::slice::from_ref(&server.url)).unwrap();
    assert!(trial.partial() == file);
    assert_eq!(server.ranges(), [Some(1_000_000)]);
    assert!(trial.progress.into_inner().unwrap()[0] > 1_000_000);
}

#[test]
fn a_complete_partial_needs_no_server() {
    let file = file();
    let trial = Trial::new(&file);
    trial.download(&file, &[nowhere()]).unwrap();
    assert!(trial.partial() == file);
}

#[test]
fn a_server_that_sends_no_parts_sends_the_whole() {
    let file = file();
    for first in [Answer::Whole, Answer::Status("416 Range Not Satisfiable")] {
        let trial = Trial::new(&file[..1_000_000]);
        let server = Server::new(&file, &[first, Answer::Whole]);
        trial.download(&file, std::slice::from_ref(&server.url)).unwrap();
        assert!(trial.partial() == file);
    }
}

#[test]
fn a_partial_of_another_file_is_thrown_away() {
    let file = file();
    for stale in [vec![7; 1_000_000], vec![7; file.len()], vec![7; file.len() + 1]] {
        let trial = Trial::new(&stale);
        let server = Server::new(&file, &[Answer::Part]);
        trial.download(&file, std::slice::from_ref(&server.url)).unwrap();
        assert!(trial.partial() == file, "{} bytes were there", stale.len());
    }
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let (file, trial) = (file(), Trial::new(b""));
    let server = Server::new(&file, &[Answer::Break(100), Answer::Break(50), Answer::Part]);
    trial.download(&file, std::slice::from_ref(&server.url)).unwrap();
    assert!(trial.partial() == file);
    assert_eq!(server.ranges(), [None, Some(100), Some(150)]);
}

#[test]
fn a_line_that_breaks_often_still_gets_there() {
    let (file, trial) = (file(), Trial::new(b""));
    let (step, stumble) = (Answer::Break(1_100_000), Answer::Break(10));
    let server = Server::new(&file, &[step, stumble, stumble, step, stumble, Answer::Part]);
    trial.download(&file, std::slice::from_ref(&server.url)).unwrap();
    assert!(trial.partial() == file);
}

#[test]
fn a_server_that_gets_nowhere_is_given_up() {
    let (file, trial) = (file(), Trial::new(b""));
    let server = Server::new(&file, &[Answer::Break(10)]);
    let failure = trial.download(&file, std::slice::from_ref(&server.url));
    assert_eq!(unreachable(failure), ["ended after 30 of 3145728 bytes"]);
    // What came stays for the next time.
    assert!(trial.partial() == file[..30]);
}

#[test]
fn another_file_of_that_size_is_refused_and_not_kept() {
    let (file, trial) = (file(), Trial::new(b""));
    let other = vec![7; file.len()];
    let server = Server::new(&other, &[Answer::Whole]);
    let failure = trial.download(&file, std::slice::from_ref(&server.url));
    let Err(Failure::Mismatch { url, found }) = failure else { panic!("{failure:?}") };
    assert_eq!((url, found), (server.url, Sha256::of_bytes(&other)));
    assert!(trial.partial().is_empty());
    assert_eq!(server.ranges.lock().unwrap().len(), 1);
}

#[test]
fn a_file_of_another_size_is_not_even_downloaded() {
    let (file, trial) = (file(), Trial::new(b""));
    let server = Server::new(b"version https://git-lfs", &[Answer::Whole]);
    let failure = trial.download(&file, std::slice::from_ref(&server.url));
    assert_eq!(unreachable(failure), ["serves a file of 23 bytes, expected 3145728"]);
    let server = Server::new(&file, &[Answer::Endless]);
    let failure = trial.download(&file, std::slice::from_ref(&server.url));
    assert_eq!(unreachable(failure), ["serves more than the expected 3145728 bytes"]);
    assert!(trial.partial().is_empty());
}

#[test]
fn the_next_address_serves_when_the_first_does_not() {
    let file = file();
    let good = Server::new(&file, &[Answer::Part]);
    let bad = [
        Server::new(&file, &[Answer::Status("404 Not Found")]).url,
        Server::new(&vec![7; file.len()], &[Answer::Whole]).url,
        Server::new(&file, &[Answer::Stall]).url,
        Server::new(&file, &[Answer::Silence]).url,
        nowhere(),
        "http://not-a-host.invalid/net.onnx".into(),
        "no address at all".into(),
    ];
    for bad in bad {
        let trial = Trial::new(b"");
        trial.download(&file, &[bad.clone(), good.url.clone()]).unwrap();
        assert!(trial.partial() == file, "{bad}");
    }
}

#[test]
fn every_address_has_its_reason() {
    let (file, trial) = (file(), Trial::new(b""));
    let urls = [
        nowhere(),
        Server::new(&file, &[Answer::Status("503 Service Unavailable")]).url,
        Server::new(&file, &[Answer::Stall]).url,
    ];
    let reasons = unreachable(trial.download(&file, &urls));
    assert!(reasons[0].contains("refused"), "{reasons:?}");
    assert_eq!(reasons[1..], ["HTTP 503 Service Unavailable", "nothing came for 0.3 s"]);
}

#[test]
fn a_download_that_is_cancelled_keeps_what_came() {
    let (file, folder) = (file(), tempfile::tempdir().unwrap());
    let server = Server::new(&file, &[Answer::Part]);
    let (sha256, bytes) = (Sha256::of_bytes(&file), file.len() as u64);
    let urls = [server.url];
    let wanted = Wanted { name: "net", urls: &urls, bytes, sha256 };
    let cancelled = AtomicBool::new(false);
    // The first bytes, not the word that they come.
    let on_event = |event| {
        cancelled.fetch_or(matches!(event, Event::Transfer { .. }), Ordering::Relaxed);
    };
    let watch = Watch::new(&on_event, &cancelled);
    let partial = folder.path().join("partial");
    let failure = download(&wanted, &partial, &QUICK, &watch);
    assert!(matches!(failure, Err(Failure::Here(Error::Cancelled))), "{failure:?}");
    let kept = std::fs::read(&partial).unwrap();
    assert!(!kept.is_empty() && file.starts_with(&kept));
}

#[test]
fn a_small_text_is_there_or_not() {
    let there = Server::new(b"default = 'a'", &[Answer::Whole]);
    assert_eq!(fetch_text(&there.url, &QUICK), Ok(Some("default = 'a'".into())));
    let gone = Server::new(b"", &[Answer::Status("404 Not Found")]);
    assert_eq!(fetch_text(&gone.url, &QUICK), Ok(None));
    let broken = Server::new(b"", &[Answer::Status("500 Internal Server Error")]);
    assert_eq!(fetch_text(&broken.url, &QUICK), Err("HTTP 500 Internal Server Error".into()));
}
