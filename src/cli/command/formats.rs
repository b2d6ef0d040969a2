//! `likeness formats`: what is decoded here, and by what.

use std::io::Write;

use likeness::photo::{self, FormatSupport};
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// List the picture formats that are decoded here, and what is missing for others
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness formats
  likeness formats --json

A file's content decides what it is, not its name; only TGA files, and camera RAW files that
are TIFF inside, are told by their extension. HEIC and AVIF are decoded by the system's
libheif, when it is there: apt install libheif1, or brew install libheif.")]
pub(crate) struct Args {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let formats = photo::formats();
    let mut out = context.stdout();
    if args.json {
        let rows: Vec<_> = formats
            .iter()
            .map(|found| {
                json!({
                    "name": found.format.name(),
                    "usual_name": found.format.usual_name(),
                    "extensions": found.format.extensions(),
                    "decoder": found.decoder,
                    "library": found.library.as_ref().map(|path| path.to_string_lossy()),
                    "works": found.missing.is_none(),
                    "missing": found.missing,
                })
            })
            .collect();
        out.json(&rows)?;
    } else {
        writeln!(out, "{:<12}  {:<24}  decoded by", "format", "extensions")?;
        for found in &formats {
            let name = found.format.usual_name();
            for (line, extensions) in found.format.extensions().chunks(5).enumerate() {
                let extensions = extensions.join(" ");
                match line {
                    0 => writeln!(out, "{name:<12}  {extensions:<24}  {}", decoder(found))?,
                    _ => writeln!(out, "{:<12}  {extensions}", "")?,
                }
            }
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn decoder(found: &FormatSupport) -> String {
    match (&found.missing, &found.library) {
        (Some(missing), _) => format!("nothing yet: {missing}"),
        (None, Some(library)) => format!("{}, {}", found.decoder, library.display()),
        (None, None) => found.decoder.clone(),
    }
}
