//! Goal: what the agent says of its own capabilities stands in its last line, and is nobody's deed. Method: made-up acts.

use super::machine::Machine;
use crate::engine::Event;
use crate::model::output::Record;
use auditor_common::limits::ACT_NAME_LEN;
use auditor_common::record::*;

const SYS_PTRACE: u64 = 19;
const SYS_ADMIN: u64 = 21;

fn told(m: &mut Machine, act: u32, arg0: u64, arg1: u64) {
    let record = ActRecord {
        header: m.header(kind::ACT),
        actor: TaskKey::default(),
        target: TaskKey::default(),
        object: FileRef::default(),
        act,
        syscall: -1,
        result: 0,
        name_len: 0,
        arg0,
        arg1,
        name: [0; ACT_NAME_LEN],
    };
    m.step(Event::Act(&record));
}

#[test]
fn the_last_line_has_it() {
    let mut m = Machine::new("");
    let before = m.engine.counters().events;
    told(
        &mut m,
        act::OWN_GRANT,
        1 << SYS_PTRACE | 1 << SYS_ADMIN | 1,
        0,
    );
    told(&mut m, act::OWN_USE, SYS_ADMIN, capable::KNOWN);
    told(&mut m, act::OWN_GRANT, 1 << SYS_PTRACE, 1);
    told(
        &mut m,
        act::OWN_USE,
        SYS_PTRACE,
        capable::KNOWN | capable::PROBE,
    );
    assert_eq!(m.engine.counters().events, before, "no event of the kernel");
    assert!(m.violations().is_empty());
    m.engine.stop(m.now_ns, "signal", &mut m.out);
    let Some(Record::Stop(stop)) = m.out.last() else {
        panic!("{:?}", m.out.last())
    };
    let own = stop.own.as_ref().unwrap();
    assert_eq!(own.granted, ["CHOWN", "SYS_PTRACE", "SYS_ADMIN"]);
    assert_eq!(own.kept, ["SYS_PTRACE"]);
    assert_eq!(own.used["SYS_ADMIN"], ["?"]);
    assert_eq!(own.excess.as_ref().unwrap(), &["CHOWN", "SYS_PTRACE"]);
    assert_eq!(own.kept_in_vain.as_ref().unwrap(), &["SYS_PTRACE"]);
}
