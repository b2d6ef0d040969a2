//! `likeness status`: what the library holds and what it works with.

use std::io::Write;

use likeness::catalog::{Counts, ModelRecord, RootRecord};
use likeness::error::Error;
use likeness::index::{Calibration, Coding, Search};
use likeness::library::{IndexState, Library, StandIn};
use likeness::query::SearchCheck;
use likeness::runtime::{self, Device};
use likeness::scan::Selection;
use serde_json::{Value, json};

use super::runtime::{device, driver_json, summary};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::render::shown;
use crate::cli::stand_in;

/// Show what the library holds: folders, counts, model, runtime, search index.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness status
  likeness status --skipped          files that were left out, and why
  likeness status --check            does the search index find what is there?
  likeness status --json")]
pub(crate) struct Args {
    /// List the files that were left out, and why
    #[arg(long)]
    skipped: bool,

    /// Read catalog and search index whole, and compare the latter with an exact search on a sample; exit code 1
    /// when one is damaged or too much is missed
    #[arg(long, conflicts_with = "skipped")]
    check: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let library = match Library::open_existing(&context.library) {
        Err(Error::NoLibrary { .. }) => None,
        library => Some(library?),
    };
    if args.skipped {
        return list_skipped(library.as_ref(), args.json, context);
    }
    if args.check {
        let library = library.ok_or(Error::NoLibrary { folder: context.library.clone() })?;
        return check(&library, args.json, context);
    }
    let state = library.map(State::of).transpose()?;
    let runtime = runtime::locate(&context.runtime(Device::Auto));
    let mut out = context.stdout();
    if args.json {
        out.json(&json!({
            "library": context.library.to_string_lossy(),
            "exists": state.is_some(),
            "catalog": state.as_ref().map(State::to_json),
            "runtime": match &runtime {
                Ok(located) => json!({ "found": located.found }),
                Err(error) => json!({ "found": null, "error": error.to_string() }),
            },
            "driver": driver_json(),
            "data": context.data.to_string_lossy(),
        }))?;
        out.flush()?;
        return Ok(Exit::Done);
    }
    writeln!(out, "library    {}", shown(context.library.display()))?;
    match &state {
        None => writeln!(out, "           nothing is there yet; begin with `likeness index DIR`")?,
        Some(state) => state.print(&mut out)?,
    }
    match &runtime {
        Ok(located) => {
            let found = located.found.as_ref();
            writeln!(out, "runtime    {}\ndevice     {}", summary(found), device(found))?;
        }
        Err(error) => writeln!(out, "runtime    {error}")?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Images that ask when the index is checked; one pass over all vectors, whatever their number.
const SAMPLE: usize = 100;

/// How far a sample of [`SAMPLE`] images may fall below the recall that the index was made for.
const TOLERANCE: f64 = 0.01;

fn check(library: &Library, as_json: bool, context: &Context) -> anyhow::Result<Exit> {
    let watch = context.watch();
    if let Err(error) = library.catalog().check() {
        if as_json {
            let mut out = context.stdout();
            out.json(&json!({ "good": false, "reason": error.to_string() }))?;
            out.flush()?;
        }
        return Err(error.into());
    }
    let model = library.model(None)?;
    let checked = library.check_search(&model, SAMPLE, 1, &watch)?;
    let good = checked.as_ref().is_ok_and(|c| c.recall >= c.wanted - TOLERANCE && c.lost == 0);
    let mut out = context.stdout();
    match &checked {
        Ok(check) if as_json => out.json(&json!({ "good": good, "search": check }))?,
        Err(reason) if as_json => {
            out.json(&json!({ "good": good, "reason": reason.to_string() }))?;
        }
        Ok(SearchCheck { queries, k, recall, lost, .. }) => {
            writeln!(out, "recall@{k}  {recall:.4} against exact search, {queries} images asked")?;
            writeln!(out, "lost       {lost} of them did not find themselves")?;
        }
        Err(reason) => writeln!(out, "index      {reason}")?,
    }
    out.flush()?;
    if good {
        return Ok(Exit::Done);
    }
    watch.note(
        "the search index is not as it should be: run `likeness rebuild`; until then, `likeness find \
         --exact` compares with every image. Should a new index be no better, please report it",
    );
    Ok(Exit::Failed)
}

fn list_skipped(
    library: Option<&Library>,
    as_json: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let skipped = library.map_or(Ok(Vec::new()), |library| library.catalog().skipped())?;
    let mut out = context.stdout();
    if as_json {
        out.json(&skipped)?;
    } else {
        for file in &skipped {
            writeln!(out, "{}", shown(format_args!("{}: {}", file.path.display(), file.reason)))?;
        }
        if skipped.is_empty() {
            context.watch().note("nothing was skipped");
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

struct State {
    uuid: String,
    roots: Vec<RootRecord>,
    counts: Counts,
    models: Vec<(ModelRecord, u64)>,
    current: Option<(ModelRecord, IndexState)>,
    stand_in: Option<StandIn>,
}

impl State {
    fn of(library: Library) -> anyhow::Result<Self> {
        let catalog = library.catalog();
        let counted = |model: ModelRecord| {
            let embedded = catalog.count_embedded(model.id)?;
            Ok((model, embedded))
        };
        let indexed = |model: ModelRecord| {
            let state = library.index_state(&model)?;
            Ok((model, state))
        };
        Ok(Self {
            uuid: catalog.uuid()?,
            stand_in: library.stand_in()?,
            roots: catalog.root_records()?,
            counts: catalog.counts()?,
            models: catalog.models()?.into_iter().map(counted).collect::<Result<_, Error>>()?,
            current: catalog.current_model()?.map(indexed).transpose().map_err(|e: Error| e)?,
        })
    }

    fn to_json(&self) -> Value {
        let roots = self
            .roots
            .iter()
            .map(|root| json!({ "path": root.path.to_string_lossy(), "files": root.files, "selection": selection(root) }));
        let models = self.models.iter().map(|(model, embedded)| {
            json!({
                "name": model.name,
                "fingerprint": model.fingerprint,
                "width": model.width,
                "embedded": embedded,
                "ran_on": model.ran_on,
            })
        });
        json!({
            "uuid": self.uuid,
            "roots": roots.collect::<Vec<_>>(),
            "counts": self.counts,
            "models": models.collect::<Vec<_>>(),
            "stand_in": self.stand_in.as_ref().map(stand_in::to_json),
            "model": self.current.as_ref().map(|(model, _)| &model.name),
            "index": self.current.as_ref().map(|(_, state)| index_json(state)),
        })
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Counts { files, images, orphans, skipped } = self.counts;
        for root in &self.roots {
            let selection = selection(root).map(|wanted| format!(", {wanted}")).unwrap_or_default();
            let path = shown(root.path.display());
            writeln!(out, "folder     {path} ({} files{selection})", root.files)?;
        }
        writeln!(out, "photos     {files} files, {images} different images, {skipped} skipped")?;
        if orphans > 0 {
            writeln!(out, "           {orphans} more images are known whose files are gone")?;
        }
        for (model, embedded) in &self.models {
            let current = self.current.as_ref().is_some_and(|(c, _)| c.id == model.id);
            writeln!(
                out,
                "model      {} {:.8}, {} features, {embedded} images{}{}",
                model.name,
                model.fingerprint,
                model.width,
                model.ran_on.as_ref().map(|on| format!(", last run on {on}")).unwrap_or_default(),
                if current && self.models.len() > 1 { " (in use)" } else { "" }
            )?;
        }
        if let Some(stand_in) = &self.stand_in {
            writeln!(out, "           {}", stand_in::standing_in(stand_in))?;
        }
        if let Some((_, state)) = &self.current {
            writeln!(out, "index      {}", index_text(state))?;
        }
        Ok(())
    }
}

/// What was said of a folder, where that is not what happens anyway.
fn selection(root: &RootRecord) -> Option<Selection> {
    serde_json::from_str(root.selection.as_deref()?).ok()
}

fn index_json(state: &IndexState) -> Value {
    match state {
        IndexState::Ready { index, tail, dead } => json!({
            "usable": true,
            "generation": index.generation(),
            "images": index.len(),
            "tail": tail,
            "dead": dead,
            "bytes": index.bytes(),
            "params": index.params(),
            "m": index.m(),
            "coding": index.coding(),
            "calibration": index.calibration(),
        }),
        IndexState::Unusable(reason) => json!({ "usable": false, "reason": reason.to_string() }),
    }
}

fn index_text(state: &IndexState) -> String {
    match state {
        IndexState::Ready { index, tail, dead } => {
            let images = index.len();
            let searched = index.searched_bytes() as f64 / 1e6;
            let on_disk = index.bytes() as f64 / 1e6;
            let Coding { code_width, kept, .. } = index.coding();
            let Calibration { slack, distances, rerank, recall, sample, .. } = index.calibration();
            let generation = index.generation();
            let mut text = format!("{generation}: {images} images, {tail} newer, {dead} gone\n");
            text += &format!("           {searched:.1} MB searched, {on_disk:.1} MB on disk\n");
            text += &format!(
                "           codes of {code_width} components, {:.1} % of the variance",
                100.0 * kept
            );
            if index.depth(10, Search::Auto).beam.is_none() {
                text += ", all compared";
            } else if sample > 0 {
                text += &format!(
                    "\n           graph: M {}, slack {slack:.2}, {distances} codes and {rerank} vectors compared, \
                     recall {recall:.4} measured",
                    index.m()
                );
            }
            text
        }
        IndexState::Unusable(reason) => format!("{reason}; the next `find` makes it"),
    }
}
