//! How hits are printed.

use std::io::Write;

use clap::ValueEnum;
use likeness::query::Match;
use likeness::record::path_bytes;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::render::shown;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns for reading
    Table,
    /// One JSON array
    Json,
    /// One JSON object a line
    Jsonl,
    /// One path a line
    Paths,
}

/// Prints all hits; `end` ends each path of [`Format::Paths`].
pub(super) fn print(
    matches: &[Match],
    format: Format,
    end: u8,
    context: &Context,
) -> anyhow::Result<()> {
    let mut out = context.stdout();
    let mut numbered = matches.iter().zip(1..);
    match format {
        Format::Table => {
            let paths: Vec<String> = matches.iter().map(show_path).collect();
            let id_width = matches.iter().map(|m| m.hit.id.to_string().len()).fold(2, usize::max);
            if matches.is_empty() {
                context.watch().note("nothing found");
            } else {
                writeln!(out, "rank   score  {:>id_width$}  path", "id")?;
            }
            for ((found, rank), path) in numbered.zip(paths) {
                let (score, id) = (found.hit.score, found.hit.id);
                writeln!(out, "{rank:>4}  {score:>6.4}  {id:>id_width$}  {path}")?;
            }
        }
        Format::Json => out.json(&numbered.map(to_json).collect::<Vec<_>>())?,
        Format::Jsonl => numbered.try_for_each(|found| out.json_line(&to_json(found)))?,
        Format::Paths => {
            for found in matches {
                out.write_all(found.image.path.as_os_str().as_encoded_bytes())?;
                out.write_all(&[end])?;
            }
        }
    }
    Ok(out.flush()?)
}

fn show_path(found: &Match) -> String {
    let path = shown(found.image.path.display());
    match found.image.copies.len() {
        0 => path,
        1 => format!("{path}  (and 1 copy)"),
        n => format!("{path}  (and {n} copies)"),
    }
}

/// One hit as `--format json` has it.
pub(super) fn to_json((found, rank): (&Match, usize)) -> Value {
    let image = &found.image;
    let mut hit = json!({
        "rank": rank,
        "id": found.hit.id,
        "score": found.hit.score,
        "path": image.path.to_string_lossy(),
        "root": image.root.to_string_lossy(),
        "width": image.width,
        "height": image.height,
        "copies": image.copies.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>(),
    });
    if let Some(bytes) = path_bytes(&image.path) {
        hit["path_bytes"] = bytes.into();
    }
    // What the photo does not say is left out.
    let details = serde_json::to_value(&image.details).unwrap_or_default();
    if let (Some(hit), Value::Object(details)) = (hit.as_object_mut(), details) {
        let empty = |value: &Value| value.is_null() || *value == json!([]);
        hit.extend(details.into_iter().filter(|(_, value)| !empty(value)));
    }
    hit
}
