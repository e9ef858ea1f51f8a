//! From parts to recordings: which belong together, in which order, and what is missing between them.

use super::sources::{Part, Place};
use super::voice;
use crate::cli::failure::Failure;
use crate::model::text::rfc3339;
use crate::trace::Header;
use std::cmp::Reverse;
use std::fmt;

/// Parts of one recording, in order. Never empty.
#[derive(Debug)]
pub struct Recording {
    /// In the order in which they were written.
    pub parts: Vec<Part>,
}

impl Recording {
    /// What stands at the start of its first part.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.parts[0].header
    }

    /// When its last entry was, nanoseconds since boot.
    ///
    /// # Errors
    /// When a part cannot be read twice, or at all.
    pub fn end_ns(&self) -> Result<Option<u64>, Failure> {
        let mut latest_ns = None;
        for part in &self.parts {
            let part_ns = part
                .latest_ns()
                .map_err(|e| no_end(&part.place).caused_by(e))?;
            latest_ns = latest_ns.max(part_ns);
        }
        Ok(latest_ns)
    }

    /// Bytes of all parts, as far as they are known.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// A time cannot count from there.
#[must_use]
pub fn no_end(place: &Place) -> Failure {
    Failure::new(
        format!("cannot tell when {place} ends"),
        "give --since and --until as times, such as 2026-11-23T10:30:00Z",
    )
}

/// Which recording a header belongs to, as a person would say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title {
    node: String,
    began: String,
}

impl Title {
    /// Of the recording that a trace with this header belongs to.
    #[must_use]
    pub fn of(header: &Header) -> Self {
        let began_ns = i128::from(header.began_boottime_ns) + i128::from(header.realtime_offset_ns);
        let mut began = rfc3339(began_ns);
        began.truncate("2026-11-23T10:30:00".len());
        began.push('Z');
        Self {
            node: header.node.clone(),
            began,
        }
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, recorded from {}", self.node, self.began)
    }
}

/// Puts parts together, by node, boot and beginning. Says what was left out.
#[must_use]
pub fn recordings(mut parts: Vec<Part>) -> (Vec<Recording>, Vec<String>) {
    parts.sort_by(|a, b| by_recording(a).cmp(&by_recording(b)));
    let (mut found, mut notes) = (Vec::<Recording>::new(), Vec::new());
    for part in parts {
        let last = found.last_mut().and_then(|recording| {
            let same = same_recording(recording.header(), &part.header);
            same.then_some(&mut recording.parts)
        });
        match last {
            Some(parts) => match parts.last().filter(|l| l.header.part == part.header.part) {
                Some(first) => notes.push(voice::warning(&format!(
                    "{} is left out: {} holds the same part of the same recording",
                    part.place, first.place
                ))),
                None => parts.push(part),
            },
            None => found.push(Recording { parts: vec![part] }),
        }
    }
    // Stable: what began at once stays in the order of names.
    found.sort_by(|a, b| by_time(a).cmp(&by_time(b)));
    (found, notes)
}

/// Parts of a recording in a row; of two that are the same one, the finished or longer one first.
fn by_recording(part: &Part) -> impl Ord {
    let Header {
        node,
        boot_id,
        recording,
        part: number,
        ..
    } = &part.header;
    let better = (part.place.is_partial(), Reverse(part.bytes));
    ((node, boot_id, recording, number), better, &part.place)
}

fn by_time(recording: &Recording) -> impl Ord {
    let header = recording.header();
    (&header.node, &header.boot_id, header.began_boottime_ns)
}

fn same_recording(a: &Header, b: &Header) -> bool {
    (&a.node, &a.boot_id, &a.recording) == (&b.node, &b.boot_id, &b.recording)
}

/// What was read before a part.
#[derive(Clone, Debug)]
pub struct Before {
    /// What stood at its start.
    pub header: Header,
    /// Whether it was read to its end mark.
    pub whole: bool,
}

/// How a part follows what was read before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing of its recording was read before.
    Begins,
    /// The stream goes on.
    GoesOn,
    /// What lies between is lost, for this reason.
    Gap(String),
}

/// How a part with this header follows.
#[must_use]
pub fn link(before: Option<&Before>, header: &Header) -> Link {
    let Some(Before {
        header: last,
        whole,
    }) = before.filter(|before| same_recording(&before.header, header))
    else {
        return Link::Begins;
    };
    let (next, part) = (last.part.saturating_add(1), header.part);
    if part < next {
        return Link::Gap(format!("part {part} comes after part {}", last.part));
    }
    if part > next {
        return Link::Gap(missing(next, part - 1));
    }
    if !header.continues {
        let last = last.part;
        return Link::Gap(format!(
            "between part {last} and part {part} the recorder could not keep up, or the disk failed"
        ));
    }
    if !whole {
        return Link::Gap(format!("part {} could not be read to its end", last.part));
    }
    Link::GoesOn
}

/// Which parts are missing.
#[must_use]
pub fn missing(from: u32, to: u32) -> String {
    if from == to {
        format!("part {from} is missing")
    } else {
        format!("parts {from} to {to} are missing")
    }
}

#[cfg(test)]
mod tests {
    use super::{Before, Link, link, recordings};
    use crate::agent::replay::sources::{Part, Place};
    use crate::engine::Config;
    use crate::trace::Header;

    fn header(node: &str, began_ns: u64, part: u32) -> Header {
        let config = Config {
            node: node.to_owned(),
            boot_id: "b1".to_owned(),
            ..Config::default()
        };
        let mut header = Header::new(&config, began_ns, String::new());
        header.part = part;
        header.continues = part > 0;
        header.began_boottime_ns += u64::from(part);
        header
    }

    fn part(name: &str, node: &str, began_ns: u64, number: u32) -> Part {
        Part::new(Place::File(name.into()), header(node, began_ns, number))
    }

    /// Goal: lines come in the order of node, boot and time, whatever the order of arguments.
    #[test]
    fn parts_are_put_in_order() {
        // As text, 0x10 comes before 0x9.
        let parts = vec![
            part("1", "n2", 9, 0),
            part("2", "n1", 16, 1),
            part("3", "n1", 16, 0),
            part("4", "n1", 9, 2),
            part("5.partial", "n1", 16, 0),
        ];
        let (found, notes) = recordings(parts);
        let names: Vec<Vec<String>> = found
            .iter()
            .map(|r| r.parts.iter().map(|p| p.place.to_string()).collect())
            .collect();
        assert_eq!(names, [vec!["4"], vec!["3", "2"], vec!["1"]]);
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].contains("5.partial is left out: 3 holds"),
            "{notes:?}"
        );
    }

    /// Goal: a stream goes on only where nothing lies between.
    #[test]
    fn gaps_are_found() {
        let before = |part, whole| Before {
            header: header("n1", 9, part),
            whole,
        };
        let follows = |before: &Before, part| link(Some(before), &header("n1", 9, part));
        assert_eq!(link(None, &header("n1", 9, 3)), Link::Begins);
        let other = header("n1", 10, 4);
        assert_eq!(link(Some(&before(3, true)), &other), Link::Begins);
        assert_eq!(follows(&before(3, true), 4), Link::GoesOn);
        let gap = |link: Link| match link {
            Link::Gap(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(gap(follows(&before(3, true), 5)), "part 4 is missing");
        assert_eq!(
            gap(follows(&before(3, true), 7)),
            "parts 4 to 6 are missing"
        );
        assert!(gap(follows(&before(3, false), 4)).contains("part 3 could not"));
        assert!(gap(follows(&before(3, true), 3)).contains("part 3 comes after part 3"));
        let mut broken = header("n1", 9, 4);
        broken.continues = false;
        let why = gap(link(Some(&before(3, true)), &broken));
        assert!(why.contains("between part 3 and part 4"), "{why}");
    }
}
