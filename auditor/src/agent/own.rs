//! What the agent says of its own capabilities, as acts that its engine and its recording take in.

use super::sensing::Sensor;
use crate::sensor::caps;
use crate::sensor::clock;
use crate::sensor::uses::OwnUse;
use auditor_common::hook;
use auditor_common::record::{ActRecord, RecordHeader, act, capable, kind};
use zerocopy::FromZeros as _;

/// What it was given and used, from its start until it dropped what it does not need any more.
#[derive(Debug)]
pub(super) struct Own {
    permitted: u64,
}

impl Own {
    /// Before anything is done.
    pub(super) fn begin() -> Self {
        Self {
            permitted: caps::permitted(),
        }
    }

    /// After the drop: what it began with, what it used to attach, and what is left.
    pub(super) fn attached(&self, sensor: Option<&mut Sensor>) -> Vec<ActRecord> {
        let mut acts = vec![grant(self.permitted, false)];
        acts.extend(sensor.map(uses).unwrap_or_default());
        acts.push(grant(caps::permitted(), true));
        acts
    }
}

/// What it used since the last call.
pub(super) fn uses(sensor: &mut Sensor) -> Vec<ActRecord> {
    sensor.take_own_uses().iter().map(one).collect()
}

fn one(by: &OwnUse) -> ActRecord {
    let probe = match by.probe {
        None => 0,
        Some(false) => capable::KNOWN,
        Some(true) => capable::KNOWN | capable::PROBE,
    };
    ActRecord {
        syscall: by.syscall,
        result: if by.granted { 0 } else { -libc::EPERM },
        arg0: by.capability.into(),
        arg1: probe,
        ..blank(act::OWN_USE)
    }
}

fn grant(permitted: u64, is_kept: bool) -> ActRecord {
    ActRecord {
        arg0: permitted,
        arg1: is_kept.into(),
        ..blank(act::OWN_GRANT)
    }
}

fn blank(act: u32) -> ActRecord {
    let header = RecordHeader {
        boottime_ns: clock::boottime_ns(),
        cpu_seq: 0,
        kind: kind::ACT,
        hook: hook::PROC,
        cpu: 0,
        size: size_of::<ActRecord>() as u16,
    };
    ActRecord {
        header,
        act,
        syscall: -1,
        ..ActRecord::new_zeroed()
    }
}
