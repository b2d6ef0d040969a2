//! One file a command.

pub(crate) mod generate;

use super::args::Command;
use super::context::Context;
use super::exit::Exit;

/// Runs the command.
pub(crate) fn run(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Generate(args) => generate::run(args, context),
    }
}
