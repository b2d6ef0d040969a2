//! The `likeness` command: parse, dispatch, exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::args::Cli::parse();
    let result = cli::context::Context::new(&args.global)
        .and_then(|context| cli::command::run(args.command, &context));
    cli::exit::finish(result)
}
