//! The `likeness` command: parse, dispatch, exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let (name, value) = likeness::runtime::NO_TELEMETRY;
    // SAFETY: no other thread runs yet that could read the environment.
    unsafe { std::env::set_var(name, value) };
    let args = cli::args::Cli::parse();
    let result = cli::context::Context::new(&args.global)
        .and_then(|context| cli::command::run(args.command, &context));
    cli::exit::finish(result)
}
