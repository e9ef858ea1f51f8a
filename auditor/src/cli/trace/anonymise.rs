//! `auditor trace anonymise`: the same trace under other names.

use super::files::{Content, Output, open};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::trace::tool::anonymise::{Policies, Pseudonyms, anonymise};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const AFTER: &str = "\
Replaced, each name by the same pseudonym throughout: node, boot id, ids and names of containers and pods, images, labels, \
components of cgroup paths, command names, file names, bundles, mounts, host names, roles and reasons of a policy. The \
runtimes' naming schemes stay recognisable, and names that most machines have (runc, systemd, /usr/bin) stay.

Not replaced: times, process ids, user ids and other decimal numbers, inode and device numbers, capabilities, the kernel's \
release, what kernel programs could not be attached and why. Think before you show these.

Pseudonyms are made with HMAC-SHA256 under a random key that is forgotten, or under --key, so that several traces can be \
shown under the same pseudonyms. Whoever has the key can test a guess of a name.

Examples:
  auditor trace anonymise node.atrace -o to-show.atrace
  head -c 32 /dev/urandom > key && auditor trace anonymise node.atrace --key key -o to-show.atrace";

/// Bytes of a random key.
const KEY_BYTES: usize = 32;
/// A key file has at least so many bytes, and at most as many as [`MAX_KEY_BYTES`].
const MIN_KEY_BYTES: usize = 16;
const MAX_KEY_BYTES: usize = 4096;

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// A trace; -: standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A new file; -: standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Make pseudonyms with the bytes of this file, 16 to 4096 [default: random ones]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Put the default policy in place of each: patterns such as "nginx*" cannot follow the names that they match
    #[arg(long)]
    drop_policy: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Args {
        file,
        out,
        key,
        drop_policy,
    } = args;
    let names = Pseudonyms::new(&key_bytes(key.as_deref())?);
    let policies = match drop_policy {
        true => Policies::Drop,
        false => Policies::Follow,
    };
    let mut trace = open(file)?;
    let (output, writer) = Output::create(out, Content::Binary)?;
    anonymise(&mut trace, &names, policies, writer)
        .map_err(|e| output.failed("anonymise", file, e))?;
    output.finish();
    Ok(Exit::Clean)
}

fn key_bytes(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let (path, most) = match file {
        Some(path) => (path, MAX_KEY_BYTES + 1),
        None => (Path::new("/dev/urandom"), KEY_BYTES),
    };
    let next = "give a file with 16 to 4096 random bytes, such as head -c 32 /dev/urandom makes";
    let what = || format!("cannot use the key {}", path.display());
    let mut key = Vec::new();
    File::open(path)
        .and_then(|from| from.take(most as u64).read_to_end(&mut key))
        .map_err(|e| Failure::new(what(), next).caused_by(e))?;
    if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&key.len()) {
        let length = format!("it has {} bytes", key.len());
        return Err(Failure::new(what(), next).caused_by(length).into());
    }
    Ok(key)
}
