//! The parts of one recording as one trace.
//!
//! A part after another one repeats in its prologue what a reader of the first one knows. So the prologue of the first
//! part is kept, the others are read for the states that later entries refer to, and the stream goes on without a seam:
//! a replay of the merged trace gives byte for byte what a replay of the parts in their order gives.
//!
//! What lies in a gap between two parts is lost, and an engine would not notice: parts with a gap are not merged.

use super::ToolError;
use crate::trace::reader::Prologue;
use crate::trace::{Ending, Header, TraceReader, TraceWriter};
use std::io::{Read, Write};

/// Why traces cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Another machine.
    #[error("they are of different nodes: {0} and {1}")]
    Nodes(String, String),
    /// Another recording.
    #[error("they are of different recordings: {0} and {1}")]
    Recordings(String, String),
    /// A part is missing.
    #[error("part {missing} is missing: part {next} follows part {before}")]
    Missing {
        /// The last one that is there.
        before: u32,
        /// The first one that is not.
        missing: u32,
        /// The next one that is there.
        next: u32,
    },
    /// Twice the same.
    #[error("part {0} is there twice")]
    Twice(u32),
    /// The recorder lost something in between.
    #[error("between parts {0} and {1} events were lost: they cannot be one trace")]
    Gap(u32, u32),
    /// What stood at the end of a part is lost.
    #[error("the part before this one is not finished: what its end held is lost")]
    Unfinished,
}

/// In which order parts are to be read.
///
/// # Errors
/// When they are not the parts of one recording without a gap.
pub fn order(headers: &[Header]) -> Result<Vec<usize>, MergeError> {
    let mut places: Vec<usize> = (0..headers.len()).collect();
    places.sort_by_key(|&place| headers[place].part);
    for pair in places.windows(2) {
        let (a, b) = (&headers[pair[0]], &headers[pair[1]]);
        if a.node != b.node {
            return Err(MergeError::Nodes(a.node.clone(), b.node.clone()));
        }
        if a.recording != b.recording {
            let names = (a.recording.clone(), b.recording.clone());
            return Err(MergeError::Recordings(names.0, names.1));
        }
        let missing = a.part.saturating_add(1);
        if a.part == b.part {
            return Err(MergeError::Twice(a.part));
        } else if b.part > missing {
            return Err(MergeError::Missing {
                before: a.part,
                missing,
                next: b.part,
            });
        } else if !b.continues {
            return Err(MergeError::Gap(a.part, b.part));
        }
    }
    Ok(places)
}

/// Writes parts, one after the other, as one trace.
#[derive(Debug)]
pub struct Merger<W> {
    out: TraceWriter<W>,
    /// How the last part ended; `None` before the first.
    ending: Option<Ending>,
}

impl<W: Write> Merger<W> {
    /// Begins with the first part's header.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(first: &Header, out: W) -> Result<Self, ToolError> {
        Ok(Self {
            out: TraceWriter::new(out, first)?,
            ending: None,
        })
    }

    /// Appends the next part, in the order that [`order`] gave.
    ///
    /// # Errors
    /// When the part cannot be read, the writer fails, or the part before it was not finished.
    pub fn take<R: Read>(&mut self, part: &mut TraceReader<R>) -> Result<(), ToolError> {
        match self.ending {
            None => {}
            Some(Ending::Finished) => part.set_prologue(Prologue::Skip),
            Some(Ending::Unfinished | Ending::Cut { .. }) => {
                return Err(MergeError::Unfinished.into());
            }
        }
        while part.more()? {
            self.out.set_kind(part.kind())?;
            if let Some(item) = part.next_item()? {
                self.out.push(&item)?;
            }
        }
        self.ending = part.ending();
        Ok(())
    }

    /// Ends as the last part did: finished, or not.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(self) -> Result<W, ToolError> {
        Ok(self.out.finish_as(self.ending)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{MergeError, order};
    use crate::engine::Config;
    use crate::trace::Header;

    fn part(part: u32, continues: bool) -> Header {
        Header {
            part,
            continues,
            ..Header::new(&Config::default(), 7, String::new())
        }
    }

    /// Goal: only a row of parts without a gap is merged, in its own order. Method: one of each refusal.
    #[test]
    fn refusals() {
        let (a, b, c) = (part(3, false), part(4, true), part(5, true));
        let parts = [c.clone(), a.clone(), b.clone()];
        assert_eq!(order(&parts), Ok(vec![1, 2, 0]));
        assert_eq!(order(&[]), Ok(vec![]));
        let missing = MergeError::Missing {
            before: 3,
            missing: 4,
            next: 5,
        };
        assert_eq!(order(&[c, a.clone()]), Err(missing));
        assert_eq!(order(&[b.clone(), b.clone()]), Err(MergeError::Twice(4)));
        assert_eq!(
            order(&[a.clone(), part(4, false)]),
            Err(MergeError::Gap(3, 4))
        );
        let mut other = b.clone();
        other.recording = "another".to_owned();
        assert!(matches!(
            order(&[a.clone(), other.clone()]),
            Err(MergeError::Recordings(..))
        ));
        other.node = "elsewhere".to_owned();
        let error = order(&[a, other]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "they are of different nodes: localhost and elsewhere"
        );
    }
}
