//! Many queries: one line of JSON each, in order, by all cores.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::thread;

use anyhow::Context as _;
use crossbeam_channel::{Receiver, bounded};
use likeness::embedding::Embedding;
use likeness::query::Match;
use likeness::record::{ImageId, PathBytes};
use likeness::scan::{self, Found, Selection};
use likeness::web::FetchOptions;
use serde_json::{Value, json};

use super::ask::{Asker, Known, Network, Query, Source};
use super::show;
use crate::cli::context::Context;
use crate::cli::exit::{self, Exit};

/// Queries, or what kept one from being read, in order.
type Queries = Box<dyn Iterator<Item = io::Result<PathBytes>> + Send>;

/// What is asked, by one thread.
pub(super) trait Answers {
    fn known(&self) -> &dyn Known;

    /// The most similar images but these.
    fn find(&self, query: &Embedding, exclude: Vec<ImageId>) -> anyhow::Result<Vec<Match>>;
}

/// Opens what is asked, for one thread.
type Open<'a> = dyn Fn() -> anyhow::Result<Box<dyn Answers + 'a>> + Sync + 'a;

/// What the answers to all queries share.
pub(super) struct Batch<'a> {
    pub(super) context: &'a Context,
    pub(super) network: &'a Network<'a>,
    pub(super) open: &'a Open<'a>,
    pub(super) fetch: FetchOptions,
    pub(super) exclude_query: bool,
    pub(super) workers: usize,
}

/// The lines of a file or of stdin (`-`), or the files of a folder.
pub(super) fn queries(from: &Path) -> anyhow::Result<Queries> {
    if from.is_dir() {
        let root =
            std::path::absolute(from).with_context(|| format!("cannot find {}", from.display()))?;
        let mut paths = Vec::new();
        for found in scan::walk(&root, Path::new(""), &Selection::default()) {
            match found {
                Found::File(file) if is_photo_by_name(&file.path()) => paths.push(file.path()),
                Found::File(_) => {}
                Found::Unreadable { skipped, .. } => paths.push(skipped.path),
            }
        }
        return Ok(Box::new(paths.into_iter().map(|path| Ok(PathBytes::from_path(&path)))));
    }
    let reader: Box<dyn BufRead + Send> = if from == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let file = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
        Box::new(BufReader::new(file))
    };
    let lines = reader.split(b'\n').map(|line| {
        let mut line = line?;
        if line.ends_with(b"\r") {
            line.pop();
        }
        Ok(line)
    });
    let lines = lines.filter(|line| !line.as_ref().is_ok_and(Vec::is_empty));
    Ok(Box::new(lines.map(|line| line.map(PathBytes::from_bytes))))
}

/// Whether a file of a folder is worth asking with.
fn is_photo_by_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let known = likeness::photo::formats();
    known
        .iter()
        .any(|known| known.format.extensions().iter().any(|e| extension.eq_ignore_ascii_case(e)))
}

/// Answers all of them; [`Exit::Skipped`] when one could not be answered.
pub(super) fn run(batch: &Batch<'_>, queries: Queries) -> anyhow::Result<Exit> {
    // As many are on their way at once; a slow one keeps that many answers waiting, and no more.
    let ahead = batch.workers * 4;
    let (begin, begun) = bounded::<()>(ahead);
    let (give, take) = bounded::<(u64, io::Result<PathBytes>)>(ahead);
    let (answer, answers) = bounded::<(u64, Result<Value, Value>)>(ahead);
    thread::scope(|scope| {
        scope.spawn(move || {
            for query in (0u64..).zip(queries) {
                let last = query.1.is_err();
                if begin.send(()).is_err() || give.send(query).is_err() || last {
                    break;
                }
            }
        });
        for _ in 0..batch.workers {
            let (take, answer) = (take.clone(), answer.clone());
            scope.spawn(move || {
                let opened = (batch.open)();
                for (number, query) in take {
                    let answered = match &opened {
                        Ok(answers) => batch.answer(&**answers, query),
                        Err(error) => Err(json!({ "error": format!("{error:#}") })),
                    };
                    if batch.context.watch().is_cancelled()
                        || answer.send((number, answered)).is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop((take, answer));
        // By value: when printing ends early, whoever waits for it learns so.
        print(batch.context, answers, begun)
    })
}

impl Batch<'_> {
    fn answer(&self, answers: &dyn Answers, query: io::Result<PathBytes>) -> Result<Value, Value> {
        let query = query
            .map_err(|error| json!({ "error": format!("cannot read the queries: {error}") }))?;
        let path = query.to_path();
        let name = path.to_string_lossy();
        let answer = || -> anyhow::Result<Value> {
            let parsed = Query::parse(path.as_os_str())?;
            anyhow::ensure!(parsed.source != Source::Stdin, "`-` cannot stand among many queries");
            let asker = Asker::new(answers.known(), self.network, self.fetch);
            let asked = asker.ask(&parsed.source, None)?;
            let exclude = asked.id.filter(|_| self.exclude_query).into_iter().collect();
            let matches = answers.find(&asked.embedding, exclude)?;
            let hits: Vec<Value> = matches.iter().zip(1..).map(show::to_json).collect();
            Ok(json!({ "query": name, "hits": hits }))
        };
        answer().map_err(|error| {
            let mut line = json!({ "query": name, "error": format!("{error:#}") });
            if let Some(hint) = exit::hint(&error) {
                line["hint"] = hint.into();
            }
            line
        })
    }
}

/// Puts the answers back into order and writes each as soon as those before it are there.
fn print(
    context: &Context,
    answers: Receiver<(u64, Result<Value, Value>)>,
    begun: Receiver<()>,
) -> anyhow::Result<Exit> {
    let mut out = context.stdout();
    let mut waiting = BTreeMap::new();
    let (mut next, mut failed) = (0, 0);
    for (number, answer) in &answers {
        waiting.insert(number, answer);
        while let Some(answer) = waiting.remove(&next) {
            next += 1;
            failed += u64::from(answer.is_err());
            out.json_line(&answer.unwrap_or_else(|error| error))?;
            let _ = begun.try_recv();
        }
        // Whoever asks one after the other waits for this line.
        if answers.is_empty() {
            out.flush()?;
        }
    }
    out.flush()?;
    context.watch().check()?;
    if failed > 0 {
        context.watch().note(format!("{failed} of {next} queries could not be answered"));
        return Ok(Exit::Skipped);
    }
    Ok(Exit::Done)
}
