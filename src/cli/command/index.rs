//! `likeness index`: bring the library up to date with folders.

use std::io::Write;
use std::path::PathBuf;

use clap::ValueHint;
use likeness::engine::Engine;
use likeness::library::Library;
use likeness::network::FeatureNetwork;
use likeness::record::Skipped;
use likeness::runtime::{Device, FeatureSession};
use likeness::scan::{Exclude, Selection};
use likeness::sync::{self, Choice, SyncOptions, SyncReport};
use serde_json::{Value, json};

use crate::cli::args::{Decoding, Running};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::stand_in;

/// Skipped files that are listed by name; `status --skipped` lists them all.
const LISTED: usize = 10;

/// Index folders of photos: new and changed ones are embedded, vanished ones leave the results.
///
/// Photos are only ever read. Unchanged files are not opened; moved, renamed and copied ones are not
/// embedded again. Ctrl-C stops after the running batch and keeps all finished work.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness index ~/Photos
  likeness index ~/Photos /mnt/archive --exclude '*.tmp.jpg' --exclude raw
  likeness index                 bring all known folders up to date
  likeness index ~/Photos --model starter     a quick look: the small network in likeness itself
  likeness index ~/Photos --json --progress json

Names that begin with a dot, @eaDir, node_modules and the like are left out; --hidden
takes them too. What --exclude, --hidden and --follow-links say of a DIR is kept for
later runs that name none of them; `likeness status` shows it.
Exit code 3 means: finished, but some files were skipped. See: likeness status --skipped")]
pub(crate) struct Args {
    /// The folders, walked to their ends [default: all that were indexed before]
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dirs: Vec<PathBuf>,

    /// Leave out what matches: a name (`*.tmp.jpg`, `raw`), or a path below DIR (`2019/**/raw`)
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Take hidden files and system folders too
    #[arg(long)]
    hidden: bool,

    /// Follow symbolic links; loops are found
    #[arg(long)]
    follow_links: bool,

    /// Take what is wanted by default again: forget what these three options said of the folders before
    #[arg(long, conflicts_with_all = ["exclude", "hidden", "follow_links"])]
    forget_selection: bool,

    /// Forget the photos of a DIR that is missing or empty
    #[arg(long)]
    prune: bool,

    /// Open again what was skipped before, though it did not change
    #[arg(long)]
    retry_skipped: bool,

    /// The model to embed with [default: the library's, else the default model]
    ///
    /// Where nobody chose one and the default model is neither here nor to be fetched, the small built-in
    /// `starter` stands in, for quick looks, and that is said. Once the default model can be had, a run moves
    /// over; until it has been through all photos, `find` answers as before.
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,

    /// Photos decoded and networks run at once [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Files read at once, ahead of decoding; more help where a drive is slow to answer
    #[arg(
        long, value_name = "N", default_value_t = SyncOptions::IO_THREADS as u16,
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    io_threads: u16,

    #[command(flatten)]
    running: Running,

    /// Photos that an NVIDIA device computes at once
    #[arg(
        long, value_name = "N", default_value_t = FeatureSession::CUDA_BATCH as u16,
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    batch_size: u16,

    #[command(flatten)]
    decoding: Decoding,

    /// Tell where the time went: seconds and share of reading, decoding, network, catalog
    #[arg(long)]
    profile: bool,

    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let exclude = Exclude::new(&args.exclude).unwrap_or_else(|error| usage(&error));
    let selection = Selection {
        hidden: args.hidden,
        follow_links: args.follow_links,
        exclude,
        ..Selection::default()
    };
    let is_said = args.forget_selection || !selection.is_default();
    let watch = context.watch();
    let mut library = Library::open(&context.library)?;
    let (network, choice) = network(args.model.as_deref(), &library, context)?;
    let runtime = context.runtime(args.running.device);
    let engine = Engine::new(network, runtime, args.decoding.options())
        .with_precision(args.running.precision());
    if let Device::Cuda(_) = args.running.device {
        // Who asks for it learns that it is missing, also where nothing is left to embed.
        engine.runtime(&watch)?;
    }
    let mut options = SyncOptions {
        selection: is_said.then_some(selection),
        prune: args.prune,
        retry_skipped: args.retry_skipped,
        choice,
        ..SyncOptions::new(args.dirs)
    };
    options.batch = Some(usize::from(args.batch_size));
    options.io_threads = usize::from(args.io_threads);
    options.threads = args.threads.map_or(options.threads, usize::from);
    let report = sync::sync(&mut library, &engine, &options, &watch)?;
    let summary = Summary { report, model: engine.network().name.clone() };
    if let Some(handover) = &summary.report.handover {
        watch.note(stand_in::handover(handover, &summary.model, args.model.as_deref()));
    }
    let mut out = context.stdout();
    match args.json {
        true => out.json(&summary.to_json(args.profile))?,
        false => {
            summary.list_skipped(context);
            summary.print(&mut out)?;
            if args.profile {
                summary.print_profile(&mut out)?;
            }
        }
    }
    out.flush()?;
    Ok(summary.exit())
}

/// The network of a run: of the model that is named, else of the library's, else of the default. Only where
/// that cannot be had and nobody ever chose another, the starter stands in for it; what stands in is never
/// kept without looking for the default.
fn network(
    named: Option<&str>,
    library: &Library,
    context: &Context,
) -> anyhow::Result<(FeatureNetwork, Choice)> {
    let watch = context.watch();
    if named.is_some() {
        return Ok((context.network(named, &watch)?, Choice::Made));
    }
    let remembered = library.catalog().current_model()?;
    if let Some(model) = remembered
        && library.stand_in()?.is_none()
    {
        return Ok((context.network_of(&model.name, &watch)?, Choice::Default));
    }
    let (network, instead_of) = context.default_network(&watch)?;
    Ok(match instead_of {
        None => (network, Choice::Default),
        Some(wanted) => {
            watch.note(stand_in::instead_of(&wanted));
            (network, Choice::StandIn(wanted.name))
        }
    })
}

fn usage(error: &globset::Error) -> ! {
    use clap::CommandFactory;
    crate::cli::args::Cli::command()
        .error(clap::error::ErrorKind::ValueValidation, format!("--exclude: {error}"))
        .exit()
}

struct Summary {
    report: SyncReport,
    model: String,
}

impl Summary {
    fn skipped(&self) -> u64 {
        self.report.skipped.len() as u64 + self.report.skipped_before
    }

    fn images_per_second(&self) -> f64 {
        let seconds = self.report.elapsed.as_secs_f64();
        if seconds > 0.0 { self.report.embedded as f64 / seconds } else { 0.0 }
    }

    fn exit(&self) -> Exit {
        match (self.report.interrupted, self.skipped()) {
            (true, _) => Exit::Interrupted,
            (false, 0) => Exit::Done,
            (false, _) => Exit::Skipped,
        }
    }

    fn to_json(&self, with_profile: bool) -> Value {
        let SyncReport { added, updated, moved, unchanged, removed, embedded, .. } = self.report;
        let mut summary = json!({
            "added": added,
            "updated": updated,
            "moved": moved,
            "unchanged": unchanged,
            "removed": removed,
            "skipped": self.skipped(),
            "skipped_files": self.report.skipped,
            "embedded": embedded,
            "seconds": round(self.report.elapsed.as_secs_f64(), 1000.0),
            "images_per_second": round(self.images_per_second(), 100.0),
            "model": self.model,
            "handover": self.report.handover,
            "device": self.report.ran_on.as_ref().map(|ran_on| ran_on.device),
            "device_name": self.report.ran_on.as_ref().map(|ran_on| &ran_on.name),
            "precision": self.report.ran_on.as_ref().map(|ran_on| ran_on.precision),
            "interrupted": self.report.interrupted,
        });
        if with_profile {
            summary["profile"] = json!(self.report.profile);
        }
        summary
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let SyncReport { added, updated, moved, unchanged, removed, embedded, .. } = self.report;
        writeln!(
            out,
            "{added} added, {updated} updated, {moved} moved, {unchanged} unchanged, {removed} removed, {} skipped",
            self.skipped()
        )?;
        if let Some(ran_on) = &self.report.ran_on {
            writeln!(
                out,
                "{embedded} photos embedded in {:.1} s ({:.1} a second) with {} on {ran_on}",
                self.report.elapsed.as_secs_f64(),
                self.images_per_second(),
                self.model,
            )?;
        }
        Ok(())
    }

    /// Seconds a stage over all threads; shares are of the time the workers had.
    fn print_profile(&self, out: &mut impl Write) -> std::io::Result<()> {
        let profile = &self.report.profile;
        let elapsed = self.report.elapsed.as_secs_f64();
        let had = elapsed * profile.workers as f64;
        let share = |seconds: f64| if had > 0.0 { 100.0 * seconds / had } else { 0.0 };
        writeln!(out, "workers  {:>8}", profile.workers)?;
        let on_device = profile.device > 0.0;
        // Workers that do not embed wait for the device when it is behind.
        let embed = if on_device { "waiting" } else { "network" };
        for (stage, seconds) in
            [(embed, profile.embed), ("decode", profile.decode), ("idle", profile.idle)]
        {
            writeln!(out, "{stage:<8} {seconds:>8.2} s {:>3.0} %", share(seconds))?;
        }
        if on_device {
            let share = 100.0 * profile.device / elapsed;
            writeln!(out, "device   {:>8.2} s {share:>3.0} % of the run", profile.device)?;
        }
        writeln!(out, "read     {:>8.2} s, on threads of its own", profile.read)?;
        writeln!(out, "catalog  {:>8.2} s, on a thread of its own", profile.write)?;
        writeln!(
            out,
            "queues   {:>8.1} photos for a worker, {:.1} squares for the network",
            profile.photos_waiting, profile.squares_waiting
        )?;
        let decoding = match on_device {
            true => profile.decode / profile.workers as f64 > profile.device,
            false => profile.decode > profile.embed,
        };
        let bound = match decoding {
            _ if share(profile.idle) > 20.0 => "the disk (try --io-threads)",
            true => "decoding",
            false => "the network",
        };
        writeln!(out, "bound by {bound}")
    }

    /// Which files were skipped in this run, and why: talk, so on stderr.
    fn list_skipped(&self, context: &Context) {
        let watch = context.watch();
        for Skipped { path, reason } in self.report.skipped.iter().take(LISTED) {
            watch.note(format!("skipped {}: {reason}", path.display()));
        }
        let more = self.report.skipped.len().saturating_sub(LISTED);
        if more > 0 {
            watch.note(format!("and {more} more; see `likeness status --skipped`"));
        }
    }
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
