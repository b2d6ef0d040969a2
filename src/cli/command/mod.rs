//! One file a command.

pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod find;
pub(crate) mod formats;
pub(crate) mod generate;
pub(crate) mod import_embeddings;
pub(crate) mod index;
pub(crate) mod model;
#[cfg(feature = "remote")]
pub(crate) mod push;
pub(crate) mod rebuild;
pub(crate) mod runtime;
pub(crate) mod status;

use super::args::Command;
use super::context::Context;
use super::exit::Exit;

/// Runs the command.
pub(crate) fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Index(args) => index::run(args, context),
        Command::Find(args) => find::run(args, context),
        Command::Export(args) => export::run(args, context),
        #[cfg(feature = "remote")]
        Command::Push(args) => push::run(args, context),
        Command::ImportEmbeddings(args) => import_embeddings::run(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Evaluate(args) => evaluate::run(args, context),
        Command::Rebuild(args) => rebuild::run(args, context),
        Command::Model(args) => model::run(args, context),
        Command::Runtime(args) => runtime::run(args, context),
        Command::Formats(args) => formats::run(args, context),
        Command::Generate(args) => generate::run(args, context),
    }
}
