//! When a trace ends, from the heads of its frames: what they hold is passed over.

use super::error::TraceError;
use super::frame::{HEAD_BYTES, Head, Kind};
use super::header::{Header, read_up_to};
use super::writer::TRAILER_BYTES;
use std::io::{self, BufRead, BufReader, Read, Seek};

/// Latest time of all entries, nanoseconds since boot; `None` when no entry has one. Traces that stand one
/// behind the other count as one. Where a frame is damaged or cut, what stands before it counts.
///
/// # Errors
/// When the header cannot be read, or the file system fails.
pub fn latest_ns<R: Read + Seek>(from: &mut BufReader<R>) -> Result<Option<u64>, TraceError> {
    let (_, _, mut offset) = Header::read(from)?;
    let mut latest_ns = 0;
    loop {
        let io = move |source: io::Error| TraceError::Io { offset, source };
        let mut bytes = [0; HEAD_BYTES];
        if read_up_to(from, &mut bytes).map_err(io)? < HEAD_BYTES {
            break;
        }
        let Ok(head) = Head::parse(&bytes) else {
            break;
        };
        latest_ns = latest_ns.max(head.last_ns);
        let is_last = head.kind == Kind::Index;
        let behind = head.stored + if is_last { TRAILER_BYTES } else { 0 };
        // A frame is far smaller than 2⁶³ bytes.
        from.seek_relative(behind as i64).map_err(io)?;
        offset += (HEAD_BYTES + behind) as u64;
        if is_last {
            if from.fill_buf().map_err(io)?.is_empty() {
                break;
            }
            offset += Header::read(from)?.2;
        }
    }
    Ok((latest_ns > 0).then_some(latest_ns))
}

#[cfg(test)]
mod tests {
    use super::latest_ns;
    use crate::engine::{Config, Event};
    use crate::trace::{Header, Item, TraceWriter};
    use std::io::{BufReader, Cursor};

    fn trace(ticks: &[u64]) -> Vec<u8> {
        let header = Header::new(&Config::default(), 1, String::new());
        let mut writer = TraceWriter::new(Vec::new(), &header).unwrap();
        for &boottime_ns in ticks {
            writer
                .push(&Item::Event(Event::Tick { boottime_ns }))
                .unwrap();
            writer.end_frame().unwrap();
        }
        writer.finish().unwrap()
    }

    fn latest(bytes: &[u8]) -> Option<u64> {
        // A small buffer, so that frames are passed over in the file too.
        let mut from = BufReader::with_capacity(16, Cursor::new(bytes));
        latest_ns(&mut from).unwrap()
    }

    /// Goal: the end is found in whole, joined, cut and empty traces.
    #[test]
    fn ends_are_found() {
        let whole = trace(&[5, 9, 7]);
        assert_eq!(latest(&whole), Some(9));
        assert_eq!(latest(&trace(&[])), None);
        assert_eq!(
            latest(&[trace(&[3]), whole.clone(), trace(&[])].concat()),
            Some(9)
        );
        let end = whole.len() - 16;
        let index_at = u64::from_le_bytes(*whole[end..].first_chunk().unwrap()) as usize;
        assert_eq!(latest(&whole[..index_at]), Some(9));
        assert_eq!(latest(&whole[..index_at - 1]), Some(9));
        let first = whole.windows(4).position(|w| w == b"AFRM").unwrap();
        assert_eq!(latest(&whole[..first + 50]), Some(5));
        assert!(latest_ns(&mut BufReader::new(Cursor::new(b"# yaml"))).is_err());
    }
}
