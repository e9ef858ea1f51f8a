//! What the agent says of itself. It comes as acts, so that a recording has it too, and is nobody's deed.

use super::Engine;
use crate::model::own::OwnPrivileges;
use crate::model::syscalls;
use auditor_common::hook;
use auditor_common::record::{ActRecord, act, capable};

/// Whether an act is about the agent itself.
pub(super) const fn is_own(record: &ActRecord) -> bool {
    matches!(record.act, act::OWN_GRANT | act::OWN_USE)
}

impl Engine {
    /// The agent tells of itself.
    pub(super) fn on_own(&mut self, record: &ActRecord) {
        if record.act == act::OWN_GRANT {
            self.own.grant(record.arg0, record.arg1 != 0);
            return;
        }
        let Ok(capability) = u8::try_from(record.arg0) else {
            return;
        };
        let says = record.arg1 & capable::KNOWN != 0;
        let probe = says.then_some(record.arg1 & capable::PROBE != 0);
        let syscall = syscalls::all_of(&self.config.arch)(record.syscall);
        self.own
            .note(capability, record.result == 0, probe, syscall);
    }

    /// What is known of the agent's own capabilities.
    pub(super) fn own_privileges(&self, at_end: bool) -> Option<Box<OwnPrivileges>> {
        let hooks = [hook::CAPABLE, hook::CAPABLE_ENTRY];
        let seen = self.config.working.has_any(&hooks);
        self.own.report(seen, at_end).map(Box::new)
    }
}
