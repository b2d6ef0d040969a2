//! Downloads a pinned file, going on where an earlier try ended.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::{Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, Timeout};

use super::digest::{CHUNK, Hasher, Sha256};
use super::install::megabytes;
use crate::error::{Error, Result};
use crate::progress::{Event, Watch};
use crate::proxy;

/// How patient a download is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// To look up a host's name.
    pub(crate) resolve: Duration,
    /// To reach it, its proxy and TLS handshake included.
    pub(crate) connect: Duration,
    /// For its first or next byte.
    pub(crate) stall: Duration,
    /// After which the next address is tried beside one that has not answered yet.
    pub(crate) head_start: Duration,
}

impl Default for Limits {
    /// All addresses unreachable: an error after about two seconds, the sum of a head start and the
    /// time to connect.
    fn default() -> Self {
        Self {
            resolve: Duration::from_millis(1500),
            connect: Duration::from_millis(1700),
            stall: Duration::from_secs(30),
            head_start: Duration::from_millis(300),
        }
    }
}

/// How often one address is asked before it is given up; each time goes on where the last ended.
const TRIES: usize = 3;

/// What is to be downloaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// What a person calls it.
    pub(crate) name: &'a str,
    pub(crate) urls: &'a [String],
    pub(crate) bytes: u64,
    pub(crate) sha256: Sha256,
}

/// Why a download gave nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No address served it: address and reason, one each.
    Unreachable(Vec<(String, String)>),
    /// The last address served another file of that size. What was downloaded is gone.
    Mismatch { url: String, found: Sha256 },
    /// The caller's own disk, or the caller's wish.
    Here(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Here(error)
    }
}

/// Downloads into `partial`, going on with what lies there. Once this returns, `partial` holds the
/// wanted bytes, on disk. After a failure what came stays there for the next time, unless it is of
/// another file. The caller sees to it that no other process does the same.
pub(crate) fn download(
    wanted: &Wanted<'_>,
    partial: &Path,
    limits: &Limits,
    watch: &Watch<'_>,
) -> Result<(), Failure> {
    let mut sink = Sink::open(partial, wanted, watch)?;
    let mut tries = vec![TRIES; wanted.urls.len()];
    let mut reasons = vec![String::new(); wanted.urls.len()];
    let mut mismatch = None;
    let mut furthest = sink.done;
    let mut told = false;
    loop {
        if sink.done == wanted.bytes {
            let found = sink.finish()?;
            if found == wanted.sha256 {
                return Ok(());
            }
            // What an earlier run left may have been of another file; only bytes that all came from
            // one address now speak against that address.
            if let Some(index) = sink.origin {
                tries[index] = 0;
                mismatch = Some(Failure::Mismatch { url: wanted.urls[index].clone(), found });
            }
            sink.restart(None)?;
        }
        let left: Vec<usize> = (0..tries.len()).filter(|&i| tries[i] > 0).collect();
        if left.is_empty() {
            let reasons = wanted.urls.iter().cloned().zip(reasons).collect();
            return Err(mismatch.unwrap_or(Failure::Unreachable(reasons)));
        }
        match open_first(wanted, &left, sink.done, limits, watch)? {
            Ok(opened) => {
                let index = opened.index;
                tries[index] -= 1;
                // Where nobody answers there is nothing to wait for.
                if !told {
                    let size = megabytes(wanted.bytes);
                    watch.note(format!("downloading model {} ({size})", wanted.name));
                    told = true;
                }
                if let Err(reason) = sink.receive(opened, wanted, limits, watch)? {
                    reasons[index] = reason;
                }
                // A slow line that breaks often still gets there; a server that always breaks at the
                // same place does not keep us for ever.
                if sink.done > furthest + CHUNK as u64 {
                    tries[index] = TRIES;
                }
                furthest = furthest.max(sink.done);
            }
            Err(failed) => {
                for (index, reason) in failed {
                    tries[index] = 0;
                    reasons[index] = reason;
                }
            }
        }
    }
}

/// Reads a small text file; `None` when the server has no such file, the reason when it cannot be
/// asked.
pub(crate) fn fetch_text(url: &str, limits: &Limits) -> Result<Option<String>, String> {
    let mut response = get(url, 0, limits)?;
    match response.status().as_u16() {
        200 => response.body_mut().read_to_string().map(Some).map_err(|e| reason(&e, limits)),
        404 | 410 => Ok(None),
        _ => Err(format!("HTTP {}", response.status())),
    }
}

/// The partial file, and the hash of what is in it.
struct Sink<'a> {
    file: File,
    path: &'a Path,
    hasher: Hasher,
    done: u64,
    /// The address that all bytes came from, where it is one, and none came from an earlier run.
    origin: Option<usize>,
}

impl<'a> Sink<'a> {
    fn open(path: &'a Path, wanted: &Wanted<'_>, watch: &Watch<'_>) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(Error::io("create", path))?;
        let mut sink = Self { file, path, hasher: Hasher::default(), done: 0, origin: None };
        let mut buffer = vec![0; CHUNK];
        loop {
            watch.check()?;
            let read = sink.file.read(&mut buffer).map_err(Error::io("read", path))?;
            sink.hasher.update(&buffer[..read]);
            sink.done += read as u64;
            if sink.done > wanted.bytes {
                sink.restart(None)?;
            }
            if read == 0 || sink.done == 0 {
                return Ok(sink);
            }
        }
    }

    /// Throws away what is there.
    fn restart(&mut self, origin: Option<usize>) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("write", self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(Error::io("write", self.path))?;
        (self.hasher, self.done, self.origin) = (Hasher::default(), 0, origin);
        Ok(())
    }

    /// Appends what a server sends until the file is whole; the inner error is the server's fault.
    fn receive(
        &mut self,
        opened: Opened,
        wanted: &Wanted<'_>,
        limits: &Limits,
        watch: &Watch<'_>,
    ) -> Result<Result<(), String>> {
        if opened.from == 0 {
            self.restart(Some(opened.index))?;
        } else if self.origin != Some(opened.index) {
            self.origin = None;
        }
        let mut body = opened.body.into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            watch.check()?;
            let read = match body.read(&mut buffer) {
                Ok(0) if self.done == wanted.bytes => return Ok(Ok(())),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
                Err(error) => return Ok(Err(reason(&ureq::Error::from(error), limits))),
            };
            if read == 0 {
                return Ok(Err(format!("ended after {} of {} bytes", self.done, wanted.bytes)));
            }
            if self.done + read as u64 > wanted.bytes {
                self.restart(None)?;
                return Ok(Err(format!("serves more than the expected {} bytes", wanted.bytes)));
            }
            self.file.write_all(&buffer[..read]).map_err(Error::io("write", self.path))?;
            self.hasher.update(&buffer[..read]);
            self.done += read as u64;
            watch.tell(Event::Transfer {
                name: wanted.name.to_owned(),
                done: self.done,
                total: Some(wanted.bytes),
            });
        }
    }

    /// Brings the file to disk and gives the hash of all of it.
    fn finish(&mut self) -> Result<Sha256> {
        self.file.sync_all().map_err(Error::io("write", self.path))?;
        Ok(std::mem::take(&mut self.hasher).finish())
    }
}

/// A server that has begun to answer.
struct Opened {
    index: usize,
    /// The place in the file where its answer begins.
    from: u64,
    body: Body,
}

/// Asks the addresses `left` for the file from byte `from` on, first to last, each next one as soon as
/// the one before has failed or used up its head start, and takes whichever answers first: one
/// address that swallows packets costs a moment, and all of them little more than one.
fn open_first(
    wanted: &Wanted<'_>,
    left: &[usize],
    from: u64,
    limits: &Limits,
    watch: &Watch<'_>,
) -> Result<Result<Opened, Vec<(usize, String)>>> {
    let (sender, answers) = mpsc::channel();
    let mut waiting = left.iter();
    let mut running = 0;
    let mut failed = Vec::new();
    let mut next_start = Instant::now();
    loop {
        if (running == 0 || Instant::now() >= next_start)
            && let Some(&index) = waiting.next()
        {
            let (sender, url) = (sender.clone(), wanted.urls[index].clone());
            let (bytes, limits) = (wanted.bytes, *limits);
            // Not joined: one that comes too late finds nobody listening, and ends.
            thread::spawn(move || {
                let _ = sender.send((index, open(index, &url, from, bytes, &limits)));
            });
            running += 1;
            next_start = Instant::now() + limits.head_start;
        }
        if running == 0 {
            return Ok(Err(failed));
        }
        watch.check()?;
        if let Ok((index, answer)) = answers.recv_timeout(Duration::from_millis(20)) {
            running -= 1;
            match answer {
                Ok(opened) => return Ok(Ok(opened)),
                Err(reason) => failed.push((index, reason)),
            }
        }
    }
}

fn open(index: usize, url: &str, from: u64, bytes: u64, limits: &Limits) -> Result<Opened, String> {
    let response = get(url, from, limits)?;
    let (from, total) = match response.status().as_u16() {
        200 => (0, header_text(&response, header::CONTENT_LENGTH)),
        206 => {
            // bytes 100-199/200
            let range = header_text(&response, header::CONTENT_RANGE);
            let (start, total) = range
                .and_then(|range| range.strip_prefix("bytes "))
                .and_then(|range| Some((range.split_once('-')?.0, range.rsplit_once('/')?.1)))
                .ok_or("answers with a part of the file without saying which")?;
            if start.parse() != Ok(from) {
                return Err(format!("answers from byte {start}, asked for {from}"));
            }
            (from, Some(total))
        }
        // It does not have that many bytes, or does not do parts: the whole file then.
        416 if from > 0 => return open(index, url, 0, bytes, limits),
        _ => return Err(format!("HTTP {}", response.status())),
    };
    match total.and_then(|total| total.parse::<u64>().ok()) {
        Some(total) if total != bytes => {
            Err(format!("serves a file of {total} bytes, expected {bytes}"))
        }
        _ => Ok(Opened { index, from, body: response.into_body() }),
    }
}

fn header_text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn get(url: &str, from: u64, limits: &Limits) -> Result<Response<Body>, String> {
    let proxy = match proxy::for_url(url) {
        Some(proxy) => Some(Proxy::new(&proxy).map_err(|e| e.to_string())?),
        None => None,
    };
    let agent: Agent = Agent::config_builder()
        .proxy(proxy)
        // The operating system's roots, so that a company's own certificate authority counts.
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .timeout_resolve(Some(limits.resolve))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.stall))
        .timeout_per_read(Some(limits.stall))
        .http_status_as_error(false)
        .user_agent(concat!("likeness/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent.get(url);
    if from > 0 {
        request = request.header(header::RANGE, format!("bytes={from}-"));
    }
    request.call().map_err(|error| reason(&error, limits))
}

/// What went wrong, for a person.
fn reason(error: &ureq::Error, limits: &Limits) -> String {
    match error {
        ureq::Error::Timeout(Timeout::Resolve) => {
            format!("its name was not resolved within {:.1} s", limits.resolve.as_secs_f32())
        }
        ureq::Error::Timeout(Timeout::Connect) => {
            format!("no connection within {:.1} s", limits.connect.as_secs_f32())
        }
        ureq::Error::Timeout(_) => {
            format!("nothing came for {:.1} s", limits.stall.as_secs_f32())
        }
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
