//! What containers were granted and used: from this machine while it runs, or from recorded traces.

use super::live::Agent;
use super::replay::Replay;
use super::replay::expand::expand;
use super::replay::order::{Before, Link, Recording, link};
use super::replay::sources::Input;
use super::replay::streams::{Source, Stream, Streams};
use super::replay::voice;
use crate::cli::failure::Failure;
use crate::cli::live::LiveOptions;
use crate::cli::outcome::WatchOutcome;
use crate::cli::signals::{Signal, Signals};
use crate::engine::{Engine, Event};
use crate::model::output::Record;
use crate::report::history::History;
use crate::report::privileges::{Observation, Observed, Sight};
use crate::sink::outputs::Outputs;
use crate::trace::reader::Prologue;
use crate::trace::{Ending, Item, TraceError, TraceReader};
use auditor_common::hook;
use std::path::PathBuf;

/// Items between two looks at signals.
const LOOK_EVERY: u32 = 4096;

/// Watches this machine until the window is over or a signal ends it.
///
/// # Errors
/// As [`Agent::start`] and [`Agent::run`].
pub fn watch(
    options: &LiveOptions,
    signals: &Signals,
) -> anyhow::Result<(Observation, WatchOutcome)> {
    let policy = options.policy.load()?;
    let agent = Agent::start(options, &policy)?;
    let run = agent.run_name().to_owned();
    let (outcome, engine) = agent.run_and_keep(&mut Outputs::none(), signals)?;
    let mut observation = Observation {
        lost_events: outcome.lost_events,
        ..Observation::default()
    };
    take(&engine, &run, &mut observation);
    Ok((observation, outcome))
}

/// What was made of recorded traces.
#[derive(Debug, Default)]
pub struct Recorded {
    /// What was observed in them.
    pub observation: Observation,
    /// What a person must know of the traces, in words.
    pub said: Vec<String>,
    /// Some could not be read.
    pub failed: bool,
}

/// Replays recorded traces, one recording after the other.
///
/// # Errors
/// When there are none, or a signal ends it. What is wrong with one trace is said, and the others are read.
pub fn replay(inputs: &[PathBuf], signals: &Signals) -> anyhow::Result<Recorded> {
    replay_each(inputs, signals, &mut take)
}

/// What is made of what an engine knows at the end of a recording, which is named, or of a part that another does not
/// follow.
type Take<'a> = dyn FnMut(&Engine, &str, &mut Observation) + 'a;

/// As [`replay`], with something else to be taken over.
///
/// # Errors
/// As there.
pub fn replay_each(
    inputs: &[PathBuf],
    signals: &Signals,
    take: &mut Take<'_>,
) -> anyhow::Result<Recorded> {
    let places = expand(inputs, Source::Traces)?;
    let Streams {
        streams,
        problems,
        notes,
    } = Streams::open(places, Source::Traces);
    let mut recorded = Recorded {
        failed: !problems.is_empty(),
        said: problems.into_iter().chain(notes).collect(),
        ..Recorded::default()
    };
    for stream in streams {
        if let Stream::Recording(recording) = stream {
            play(recording, signals, &mut recorded, take)?;
        }
    }
    Ok(recorded)
}

/// Plays one recording. Where a part is missing, a new engine begins with what the next part knew.
fn play(
    recording: Recording,
    signals: &Signals,
    into: &mut Recorded,
    take: &mut Take<'_>,
) -> anyhow::Result<()> {
    let mut replay: Option<Replay> = None;
    let mut before: Option<Before> = None;
    for mut part in recording.parts {
        let place = part.place.clone();
        let mut whole = false;
        let mut header = part.header.clone();
        match part.open() {
            Ok(mut reader) => {
                header = reader.header().clone();
                match link(before.as_ref(), &header) {
                    Link::GoesOn if replay.is_some() => reader.set_prologue(Prologue::Skip),
                    how => {
                        if let Link::Gap(why) = how {
                            into.said.push(voice::warning(&format!("{place}: {why}")));
                        }
                        if let Some(ended) = replay.take() {
                            take(ended.engine(), &header.recording, &mut into.observation);
                        }
                    }
                }
                let replay = replay.get_or_insert_with(|| Replay::new(&header, None));
                let end = items(signals, &mut reader, replay, into)?;
                whole = reader.ending() == Some(Ending::Finished);
                if let Err(error) = end {
                    into.failed = true;
                    into.said.push(voice::problem(&place, error));
                }
            }
            Err(error) => {
                into.failed = true;
                into.said.push(voice::problem(&place, error));
            }
        }
        before = Some(Before { header, whole });
    }
    if let Some(replay) = replay {
        let run = before.map(|before| before.header.recording);
        let run = run.unwrap_or_default();
        take(replay.engine(), &run, &mut into.observation);
    }
    Ok(())
}

/// Gives a replay every item of a trace, as far as it can be read.
fn items(
    signals: &Signals,
    reader: &mut TraceReader<Input>,
    replay: &mut Replay,
    into: &mut Recorded,
) -> anyhow::Result<Result<(), TraceError>> {
    let mut unheard: Vec<Record> = Vec::new();
    let mut since_look = 0;
    loop {
        let item = match reader.next_item() {
            Ok(Some(item)) => item,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        if let Item::Event(Event::Loss(mark)) = &item
            && mark.place != "sink"
        {
            let lost = &mut into.observation.lost_events;
            *lost = lost.saturating_add(mark.events());
        }
        replay.take(&item, &mut unheard);
        unheard.clear();
        since_look += 1;
        if since_look == LOOK_EVERY {
            since_look = 0;
            if signals.take()? == Some(Signal::Stop) {
                let what = "a signal ended the replay early";
                return Err(Failure::new(what, "run it again, or on fewer traces").into());
            }
        }
    }
}

/// What a run has seen until now, as it is kept.
pub(super) fn seen(engine: &Engine, run: &str) -> History {
    let mut observation = Observation::default();
    take(engine, run, &mut observation);
    let mut seen = History::default();
    observation.note_in(&mut seen);
    seen
}

/// Takes over what an engine knows, of a run or of a recording.
fn take(engine: &Engine, run: &str, into: &mut Observation) {
    let config = engine.config();
    let works = |index: u16| config.working.has(index);
    let sight = match (works(hook::CAPABLE), works(hook::CAPABLE_ENTRY)) {
        (true, _) => Sight::Uses,
        (false, true) => Sight::Probes,
        (false, false) => Sight::None,
    };
    let until_ns = engine
        .now_ns()
        .saturating_add_signed(config.realtime_offset_ns);
    into.forgotten += engine.privileges_forgotten();
    into.skipped = into.skipped.saturating_add(engine.skipped());
    let observed = engine.privileges().into_iter().map(|privileges| Observed {
        node: config.node.clone(),
        boot_id: config.boot_id.clone(),
        realtime_offset_ns: config.realtime_offset_ns,
        sight,
        run: run.to_owned(),
        until_ns,
        privileges,
    });
    into.containers.extend(observed);
}
