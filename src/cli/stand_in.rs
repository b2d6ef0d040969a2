//! What is said where the starter stands in for the default model.

use likeness::catalog::ModelRecord;
use likeness::library::{Library, StandIn, Successor};
use likeness::model::{STARTER, Wanted};
use likeness::sync::Handover;
use serde_json::{Value, json};

use super::context::Context;

/// The line for a run that embeds with the starter for want of the default model.
pub(crate) fn instead_of(Wanted { name, reason }: &Wanted) -> String {
    format!(
        "model {name} cannot be had ({reason}): the small built-in `{STARTER}` stands in, for quick looks; \
         `likeness model fetch {name}` gets the full one, and the next `likeness index` moves over"
    )
}

/// The line for a run that left the library on its way from one model to another, which may have been named.
pub(crate) fn handover(handover: &Handover, to: &str, named: Option<&str>) -> String {
    let Handover { from, lacking, complete } = handover;
    match (complete, named) {
        (true, _) if from == to => {
            format!("{to} answers with the network that now has that name")
        }
        (true, _) => format!("{to} answers from now on, for {from}, which stood in for it"),
        (false, None) => going_on(from, to, *lacking, "likeness index"),
        (false, Some(name)) => {
            going_on(from, to, *lacking, &format!("likeness index --model {name}"))
        }
    }
}

fn going_on(from: &str, to: &str, lacking: u64, command: &str) -> String {
    let (from, to) = match from == to {
        true => {
            (format!("the earlier network {from}"), "the one that now has that name".to_owned())
        }
        false => (from.to_owned(), to.to_owned()),
    };
    format!(
        "{from} answers until {to} has features of all images, too; {lacking} lack them: `{command}` goes on"
    )
}

/// The line for an answer, and for `status`.
pub(crate) fn standing_in(StandIn { model, wanted, successor }: &StandIn) -> String {
    let name = &model.name;
    match successor {
        Some(Successor { lacking, ahead }) => {
            let line = going_on(name, wanted, *lacking, "likeness index");
            match ahead {
                0 => line,
                _ => format!("{line}; {ahead} newer ones are not found before"),
            }
        }
        None => format!("{name} stands in for {wanted}: {}", remedy(wanted)),
    }
}

pub(crate) fn to_json(stand_in: &StandIn) -> Value {
    let StandIn { model, wanted, successor } = stand_in;
    json!({
        "model": model.name,
        "for": wanted,
        "lacking": successor.map(|successor| successor.lacking),
        "ahead": successor.map(|successor| successor.ahead),
        "remedy": remedy(wanted),
    })
}

fn remedy(wanted: &str) -> String {
    format!("`likeness model fetch {wanted}` gets the full one, `likeness index` moves over")
}

/// The model to ask with; that it stands in for another is said where nobody named it.
pub(crate) fn model_to_ask(
    library: &Library,
    name: Option<&str>,
    context: &Context,
) -> anyhow::Result<ModelRecord> {
    let model = library.model(name)?;
    if name.is_none()
        && let Some(stand_in) = library.stand_in()?
    {
        context.watch().note(standing_in(&stand_in));
    }
    Ok(model)
}
