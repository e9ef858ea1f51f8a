//! The items of a trace, each as one line of JSON.

use super::ToolError;
use super::entry::Lens;
use super::filter::{Filter, Selection};
use crate::trace::TraceReader;
use std::io::{self, Read, Write};

/// Writes what is wanted of a trace; says how many lines that were. The writer should be a buffered one.
///
/// # Errors
/// When the trace is damaged, behind all lines that come before the damage, or the writer fails.
pub fn write<R: Read>(
    trace: &mut TraceReader<R>,
    filter: &Filter,
    out: &mut impl Write,
) -> Result<u64, ToolError> {
    let mut lens = Lens::new(trace.header());
    let mut selection = Selection::new(filter);
    let mut lines = 0;
    while trace.more()? {
        let in_prologue = trace.in_prologue();
        let Some(item) = trace.next_item()? else {
            break;
        };
        lens.learn(&item);
        if selection.wants(&item) {
            serde_json::to_writer(&mut *out, &lens.entry(&item, in_prologue))
                .map_err(io::Error::from)?;
            out.write_all(b"\n")?;
            lines += 1;
        }
    }
    out.flush()?;
    Ok(lines)
}
