//! What containers do to others' processes (T9).

use super::{host_pid, neighbour, object, seen_by, step, violation};
use crate::act::Act;
use crate::act::process::ProcessAct;
use crate::scenario::{Deed, Places, Scenario, Script, Session, Whom};

/// All of them.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![signal()]
}

fn signal() -> Scenario {
    // A signal that does nothing to who does not ask for it.
    const fn harmless(pid: i32) -> Act {
        let signal = libc::SIGURG;
        Act::Process(ProcessAct::Signal { pid, signal })
    }
    let to_host = |places: &dyn Places| harmless(places.pid(Whom::Host));
    let to_neighbour = |places: &dyn Places| harmless(places.pid(Whom::Neighbour));
    let expects = |whom| {
        let expect = violation("process-control", object(whom));
        [seen_by(expect, "signal_generate")]
    };
    let own = |_: &dyn Places| {
        let signal = libc::SIGURG;
        Act::Process(ProcessAct::SignalParent { signal })
    };
    Scenario {
        id: "signal",
        does: "a task in the host's pid namespace signals processes of others, and its own parent",
        session: Session::Default,
        containers: vec![host_pid(), neighbour()],
        steps: vec![
            step("host", Deed::Do(Script(to_host)), &[], &expects(Whom::Host)),
            step(
                "neighbour",
                Deed::Do(Script(to_neighbour)),
                &[],
                &expects(Whom::Neighbour),
            ),
            step("own", Deed::Do(Script(own)), &[], &[]),
        ],
    }
}
