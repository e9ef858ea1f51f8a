//! `auditor completions`: scripts for shells.

use super::Cli;
use super::context::Context;
use super::exit::Exit;
use clap::CommandFactory;
use clap_complete::Shell;

const AFTER: &str = "\
Examples:
  auditor completions bash > /etc/bash_completion.d/auditor
  auditor completions fish > ~/.config/fish/completions/auditor.fish";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The script.
#[must_use]
pub fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "auditor", &mut script);
    script
}

/// Runs the command.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    context.print(&String::from_utf8(script(args.shell))?)?;
    Ok(Exit::Clean)
}

#[cfg(test)]
mod tests {
    use super::script;
    use clap::ValueEnum;
    use clap_complete::Shell;

    /// Goal: every shell gets a script that knows our commands.
    #[test]
    fn scripts_are_not_empty() {
        for &shell in Shell::value_variants() {
            let text = String::from_utf8(script(shell)).unwrap();
            assert!(
                ["doctor", "exit-on", "diff-policy"]
                    .iter()
                    .all(|word| text.contains(word)),
                "{shell}"
            );
        }
    }
}
