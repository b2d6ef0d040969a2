//! The command line: the only floor that prints, asks the environment, or knows of exit codes.
//!
//! One file a command in [`command`]: an `Args` struct whose doc comments are the `--help` text, with
//! examples in `after_help`, and `run(args, &Context) -> anyhow::Result<Exit>`. Data goes to
//! [`render::Stdout`], talk goes to stderr through [`context::Context::watch`], and errors are
//! returned: [`exit::finish`] prints them once, with their causes and their hint.

pub(crate) mod args;
pub(crate) mod command;
pub(crate) mod context;
pub(crate) mod exit;
pub(crate) mod progress;
pub(crate) mod render;
mod stand_in;
pub(crate) mod time;
