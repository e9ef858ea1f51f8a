//! What drives the engine: the live watch, one look at the machine, the diagnosis.
//!
//! A driver gives the engine one ordered stream and answers its questions. Everything that needs the
//! live machine is here or in the sensor; the engine never knows.

mod capture;
pub mod cut;
pub mod diagnose;
pub mod history;
pub mod live;
mod matrix;
pub mod once;
mod own;
pub mod privileges;
pub mod record;
pub mod replay;
pub mod sensing;
pub mod state;
pub mod what_if;

use crate::engine::{Engine, Event};
use crate::inventory::state_dirs::{CgroupQuery, StateDirs};
use crate::model::output::Record;
use crate::model::text::unescape;
use crate::sensor::load::Loaded;
use crate::sensor::look::Looker;
use crate::trace::{Answer, Item};
use record::Recorder;

/// What answers an engine's questions on a live machine.
#[derive(Debug)]
pub struct Sources {
    /// Who containers are.
    pub dirs: StateDirs,
    /// What processes are set up with.
    pub looker: Looker,
}

impl Sources {
    /// Those of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            dirs: StateDirs::system(),
            looker: Looker::default(),
        }
    }
}

/// Steps the engine and answers what it asks, at once: the answer must stand before the next event. What the
/// engine consumes goes onto the tape too.
pub fn step(
    engine: &mut Engine,
    sources: &mut Sources,
    mut kernel: Option<&mut Loaded>,
    mut tape: Option<&mut Recorder>,
    event: Event<'_>,
    out: &mut Vec<Record>,
) {
    if let Some(tape) = &mut tape {
        tape.take(&Item::Event(event));
    }
    engine.step(event, out);
    answer(engine, &sources.dirs, tape.as_deref_mut(), out);
    while let Some(look) = engine.next_look() {
        let Some(setup) = sources.looker.look(&look, kernel.as_deref_mut()) else {
            continue;
        };
        if let Some(tape) = &mut tape {
            tape.take(&Item::Event(Event::Looked(&setup)));
        }
        engine.step(Event::Looked(&setup), out);
        answer(engine, &sources.dirs, tape.as_deref_mut(), out);
    }
}

fn answer(
    engine: &mut Engine,
    dirs: &StateDirs,
    mut tape: Option<&mut Recorder>,
    out: &mut Vec<Record>,
) {
    while let Some(query) = engine.next_query() {
        // Runtimes write down what the kernel is told.
        let path = unescape(&query.cgroup_path);
        let asked = CgroupQuery {
            path: &path,
            init_pid: query.init_pid,
            init_start_ticks: None,
        };
        let answer = dirs.lookup(&asked);
        if let Some(tape) = &mut tape {
            tape.take(&Item::Answer(Answer {
                cgroup_path: &query.cgroup_path,
                init_pid: query.init_pid,
                answer: answer.as_ref(),
            }));
        }
        engine.step(
            Event::Answer {
                query: query.id,
                answer: answer.as_ref(),
            },
            out,
        );
    }
}
