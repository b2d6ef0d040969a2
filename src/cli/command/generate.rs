//! `likeness generate`: completions and man pages.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;

use crate::cli::args::Cli;
use crate::cli::context::Context;
use crate::cli::exit::Exit;

/// Write shell completions or man pages.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  likeness generate completions bash > ~/.local/share/bash-completion/completions/likeness
  likeness generate man ~/.local/share/man/man1")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the completion script of a shell
    #[command(after_help = "\
Examples:
  likeness generate completions zsh > ~/.zfunc/_likeness
  likeness generate completions fish > ~/.config/fish/completions/likeness.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write one man page a command into a folder, which is made where it is missing
    #[command(after_help = "\
Examples:
  likeness generate man ~/.local/share/man/man1")]
    Man {
        /// The folder
        dir: PathBuf,
    },
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match args.what {
        What::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "likeness", &mut script);
            context.stdout().write_all(&script)?;
        }
        What::Man { dir } => write_man_pages(&dir)
            .with_context(|| format!("cannot write man pages into {}", dir.display()))?,
    }
    Ok(Exit::Done)
}

fn write_man_pages(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
