//! `auditor trace merge`: the parts of one recording as one trace.

use super::files::{Content, Output, cannot, open};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::trace::Header;
use crate::trace::tool::merge::{Merger, order};
use std::path::PathBuf;

const AFTER: &str = "\
Parts may be given in any order; a replay of the merged trace gives what a replay of the parts in their own order gives. \
Refused are parts of different recordings, and parts between which something was lost: an engine would not notice the \
gap. Replay those one by one. If the last part is not finished, neither is the merged trace.

Example:
  auditor trace merge /var/lib/auditor/node-20261123T16*.atrace -o node.atrace";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Parts of one recording
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// A new file; -: standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let Args { files, out } = args;
    if files.iter().any(|file| file.as_os_str() == "-") {
        let next = "give the parts as files";
        return Err(Failure::new("parts are read twice, standard input once", next).into());
    }
    let headers = files
        .iter()
        .map(|file| Ok(open(file)?.header().clone()))
        .collect::<anyhow::Result<Vec<Header>>>()?;
    let places = order(&headers).map_err(|e| {
        let next = "look at them with \"auditor trace info\", and merge those that belong together";
        Failure::new("cannot merge these traces", next).caused_by(e)
    })?;
    let Some(&first) = places.first() else {
        return Ok(Exit::Clean);
    };
    let (output, writer) = Output::create(out, Content::Binary)?;
    let mut merger = Merger::new(&headers[first], writer)
        .map_err(|e| output.failed("merge", &files[first], e))?;
    for place in places {
        let (file, mut part) = (&files[place], open(&files[place])?);
        if *part.header() != headers[place] {
            return Err(cannot("merge", file, "it changed meanwhile"));
        }
        merger
            .take(&mut part)
            .map_err(|e| output.failed("merge", file, e))?;
    }
    merger
        .finish()
        .map_err(|e| output.failed("merge", &files[first], e))?;
    output.finish();
    Ok(Exit::Clean)
}
