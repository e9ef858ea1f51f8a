//! `auditor policy`: check one before it is in force, or print the default.

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use crate::model::policy::Policy;
use anyhow::Context as _;
use clap::Subcommand;
use std::io::Read;
use std::path::{Path, PathBuf};

const AFTER: &str = "\
Examples:
  auditor policy print-default > policy.toml
  auditor policy check policy.toml && sudo auditor watch --policy policy.toml

Exit codes: 0 the policy is valid, 2 it is not (the position is said).";

/// A policy larger than this is none.
const BYTES_MAX: u64 = 1 << 20;

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Read a policy as "auditor watch" would and say what is in it
    Check {
        /// The policy; - for stdin
        file: PathBuf,
    },
    /// Print a commented policy that means the same as none
    PrintDefault,
}

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// Built in.
    Default,
    /// A file (`-`: stdin).
    File(PathBuf),
}

impl From<Option<PathBuf>> for PolicySource {
    fn from(path: Option<PathBuf>) -> Self {
        path.map_or(Self::Default, Self::File)
    }
}

/// What tells whether a policy file is another one than before.
pub type PolicyStamp = Option<(u64, u64, i64, i64)>;

impl PolicySource {
    /// Device, inode and modification time of the file; `None` where there is no file to watch.
    #[must_use]
    pub fn stamp(&self) -> PolicyStamp {
        use std::os::unix::fs::MetadataExt;
        let Self::File(path) = self else { return None };
        let meta = std::fs::metadata(path)
            .ok()
            .filter(std::fs::Metadata::is_file)?;
        Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
    }

    /// Reads and checks it. Also the way to read it again.
    ///
    /// # Errors
    /// When the file cannot be read, or is no valid policy; says where.
    pub fn load(&self) -> anyhow::Result<Policy> {
        let Self::File(path) = self else {
            return Ok(Policy::default());
        };
        let origin = path.display().to_string();
        let text = read(path).map_err(|e| {
            let next = "check --policy; \"auditor policy print-default\" prints one to start from";
            Failure::new(format!("cannot read the policy {origin}"), next).caused_by(e)
        })?;
        Ok(Policy::parse(&text, &origin).map_err(|e| {
            let next = "mend it; \"auditor policy check FILE\" tells when it is right";
            Failure::new("the policy is refused", next).caused_by(e)
        })?)
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path)?)
    };
    input.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

/// Runs the command.
///
/// # Errors
/// Says what was tried, what failed and what to do next.
pub fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    match args.action {
        Action::PrintDefault => context.print(Policy::DEFAULT_TEXT)?,
        Action::Check { file } => {
            let policy = PolicySource::File(file.clone())
                .load()
                .with_context(|| format!("check {}", file.display()))?;
            let required: Vec<&str> = policy.required.iter().map(|d| d.as_str()).collect();
            context.print(&format!(
                "valid: {} roles, {} shares, {} allows; required: {}\ndigest {}\n",
                policy.roles.len(),
                policy.shares.len(),
                policy.allows.len(),
                required.join(", "),
                policy.digest()
            ))?;
        }
    }
    Ok(Exit::Clean)
}

#[cfg(test)]
mod tests {
    use super::PolicySource;
    use crate::model::policy::Policy;

    /// Goal: what print-default prints is valid and means the default.
    #[test]
    fn the_default_text_is_the_default() {
        let printed = Policy::parse(Policy::DEFAULT_TEXT, "default").unwrap();
        assert_eq!(printed.digest(), Policy::default().digest());
    }

    /// Goal: a policy that is missing is an error with a way out.
    #[test]
    fn a_missing_policy_is_an_error() {
        let error = PolicySource::File("/nonexistent/p.toml".into())
            .load()
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("/nonexistent/p.toml"),
            "{error:#}"
        );
    }
}
