//! `likeness model show`.

use std::io::Write;
use std::path::Path;

use likeness::model::{ModelEntry, ModelFile, ModelStore, NetworkFacts};
use likeness::network::Preprocessing;
use serde_json::json;

use super::megabytes;
use super::quantize::finds;
use crate::cli::context::Context;
use crate::cli::exit::Exit;

pub(super) fn show(
    models: &ModelStore,
    name: Option<&str>,
    as_json: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let watch = context.watch();
    let (entry, here) = match models.on_this_machine(name, &watch)? {
        Ok(model) => {
            let facts = models.network_facts(&model, &watch)?;
            (model.entry, Some((model.file, facts)))
        }
        Err(entry) => (entry, None),
    };
    let mut out = context.stdout();
    if as_json {
        let (file, facts) = here.as_ref().map(|(file, facts)| (file, facts)).unzip();
        out.json(&json!({
            "name": entry.name,
            "description": entry.description,
            "licence": entry.licence,
            "installed": here.is_some(),
            "path": file.and_then(ModelFile::path).map(Path::to_string_lossy),
            "built_in": file.is_some_and(|file| file.path().is_none()),
            "bytes": entry.bytes,
            "sha256": entry.sha256,
            "urls": entry.urls,
            "preprocessing": entry.input,
            "features": entry.output.features,
            "pool": entry.output.pool,
            "width": entry.output.width,
            "quantised": entry.quantised,
            "network": facts,
        }))?;
    } else {
        print_facts(&mut out, &entry, here.as_ref())?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn print_facts(
    out: &mut impl Write,
    entry: &ModelEntry,
    here: Option<&(ModelFile, NetworkFacts)>,
) -> std::io::Result<()> {
    let said = |text: &str| if text.is_empty() { "not said".to_owned() } else { text.to_owned() };
    writeln!(out, "name         {}", entry.name)?;
    writeln!(out, "description  {}", said(&entry.description))?;
    writeln!(out, "licence      {}", said(&entry.licence))?;
    match here {
        Some((file, _)) => {
            writeln!(out, "file         {file} ({})", megabytes(entry.bytes))?;
        }
        None => writeln!(
            out,
            "file         not installed ({}); `likeness model fetch {}` gets it",
            megabytes(entry.bytes),
            entry.name
        )?,
    }
    writeln!(out, "sha256       {}", entry.sha256)?;
    writeln!(out, "input        {}", preparation(&entry.input).replace('\n', "\n             "))?;
    writeln!(
        out,
        "output       {} features: {}{}",
        entry.output.width,
        String::from(entry.output.features.clone()),
        entry.output.pool.map(|pool| format!(", pooled by {}", name_of(pool))).unwrap_or_default()
    )?;
    if let Some(quantised) = &entry.quantised {
        writeln!(
            out,
            "8 bits       made of {} with {} photos; on {} others alike to {:.4} in the mean, {:.4} at\n             \
             least (cosine), and {:.1} times as fast where it was made; weights of {} bits",
            quantised.of,
            quantised.images,
            quantised.checked,
            quantised.cosine_mean,
            quantised.cosine_min,
            quantised.speed,
            quantised.weight_bits,
        )?;
        if let Some(retrieval) = &quantised.retrieval {
            writeln!(out, "             {}", finds(retrieval))?;
        }
    }
    if let Some((_, facts)) = here {
        let removed = if facts.removed.is_empty() { "nothing" } else { &facts.removed.join(" ") };
        writeln!(out, "fingerprint  {}", facts.fingerprint)?;
        writeln!(out, "network      {} ({})", facts.path.display(), megabytes(facts.bytes))?;
        writeln!(out, "tensors      {} -> {}", facts.input, facts.output)?;
        writeln!(out, "taken off    {removed}")?;
        if let Some((before, after)) = facts.cost_before.zip(facts.cost) {
            let told = |after: Option<u64>, before: Option<u64>| match after.zip(before) {
                Some((after, before)) => format!("{} of {}", millions(after), millions(before)),
                None => "not told by the graph".into(),
            };
            writeln!(out, "parameters   {}", told(after.parameters, before.parameters))?;
            let products = told(after.multiply_adds, before.multiply_adds);
            let each = if after.multiply_adds.is_some() { ", for one picture" } else { "" };
            writeln!(out, "multiply-add {products}{each}")?;
        }
    }
    Ok(())
}

/// What happens to pixels, in two lines.
pub(super) fn preparation(input: &Preprocessing) -> String {
    let numbers = |values: &[f32; 3]| values.map(|value| value.to_string()).join(", ");
    format!(
        "{size} x {size} {channels} {layout}: shorter side to {resize} ({filter}), central crop,\n\
         times {scale}, minus ({mean}), divided by ({std})",
        size = input.size,
        channels = name_of(input.channels),
        layout = name_of(input.layout),
        resize = input.resize,
        filter = name_of(input.filter),
        scale = input.scale,
        mean = numbers(&input.mean),
        std = numbers(&input.std),
    )
}

fn millions(number: u64) -> String {
    format!("{:.2} million", number as f64 / 1e6)
}

/// How manifests write a filter, channel order or layout.
fn name_of(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => unreachable!("these are written as their names"),
    }
}
