//! The commands that every program has.

use std::fs;
use std::path::PathBuf;

use clap::Subcommand;
use clap_complete::Shell;

use crate::{Error, Result, print};

/// The commands that every program has, made from its own arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write all manual pages to a folder
    Man {
        /// Write a page for the program and one for each command to this folder, such as `~/.local/share/man/man1`
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

impl Command {
    /// Carries the command out for the program that `program` describes.
    ///
    /// # Errors
    ///
    /// The folder of the pages, or stdout, can't be written to. A reader of stdout that went away is no error.
    pub fn run(self, mut program: clap::Command) -> Result<()> {
        let name = program.get_name().to_owned();
        let mut text = Vec::new();
        // A page for the command `help` would be empty.
        let documented = || program.clone().disable_help_subcommand(true);
        match self {
            Self::Completions { shell } => clap_complete::generate(shell, &mut program, name, &mut text),
            Self::Man { out: None } => {
                clap_mangen::Man::new(documented()).render(&mut text).map_err(Error::Stdout)?;
            }
            Self::Man { out: Some(folder) } => {
                let written = fs::create_dir_all(&folder)
                    .and_then(|()| clap_mangen::generate_to(documented(), &folder));
                return written.map_err(|source| Error::Folder { folder, source });
            }
        }
        print(&text).map_err(Error::Stdout)
    }
}
