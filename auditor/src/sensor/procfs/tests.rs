//! Goal: parsers read what kernels write, odd names included, and survive any bytes; a live task reads
//! as it is. Method: texts taken from kernels, random bytes, this very process.

use auditor_common::record::kernel_str;
use proptest::prelude::*;

use super::super::clock::{KernelVersion, boottime_ns};
use super::*;

const STAT: &[u8] = b"4242 (a) R (b) S 4200 4242 4200 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 \
    195230 3133440 359 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n";

const STATUS: &[u8] = b"Name:\tweb\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4242\nNgid:\t0\nPid:\t4243\n\
    PPid:\t1\nTracerPid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t \nNStgid:\t4242\t7\n\
    NSpid:\t4243\t8\nCapInh:\t0000000000000000\nCapPrm:\t000001fffeffffff\nCapEff:\t0000000000000400\n\
    CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000001\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";

#[test]
fn stat_survives_names_with_parentheses() {
    let stat = parse_stat(STAT).unwrap();
    assert_eq!(kernel_str(&stat.comm), b"a) R (b");
    assert_eq!((stat.tid, stat.state, stat.ppid), (4242, b'S', 4200));
    assert_eq!(stat.start_boottime_ns, 1_952_300_000_000);
    assert!(!stat.is_kernel_thread() && !stat.is_exiting());
}

#[test]
fn stat_without_fields_is_refused() {
    assert_eq!(parse_stat(b"1 (x) S 1 2").unwrap_err().field, "starttime");
    assert_eq!(parse_stat(b"1 x S").unwrap_err().field, "comm");
    assert_eq!(parse_stat(b")(").unwrap_err().field, "comm");
    assert_eq!(
        parse_stat(b"").unwrap_err().to_string(),
        "/proc/<pid>/stat: field comm is malformed"
    );
}

#[test]
fn status_keeps_the_order_of_ids() {
    let status = parse_status(STATUS).unwrap();
    let creds = status.creds;
    assert_eq!(
        (creds.uid, creds.euid, creds.suid, creds.fsuid),
        (1, 2, 3, 4)
    );
    assert_eq!(
        (creds.gid, creds.egid, creds.sgid, creds.fsgid),
        (5, 6, 7, 8)
    );
    assert_eq!((creds.cap_effective, creds.cap_ambient), (0x400, 1));
    assert_eq!((status.tgid, status.ns_tid, status.pid_level), (4242, 8, 1));
    assert_eq!(
        (
            status.no_new_privs,
            status.seccomp_mode,
            status.seccomp_filters
        ),
        (true, 2, 3)
    );
}

#[test]
fn status_of_kernels_without_seccomp_is_read() {
    let text = String::from_utf8(STATUS.to_vec()).unwrap();
    let end = text.find("Seccomp:").unwrap();
    assert_eq!(
        parse_status(&text.as_bytes()[..end]).unwrap().seccomp_mode,
        0
    );
    let without = text.replace("CapAmb", "CapXyz");
    assert_eq!(
        parse_status(without.as_bytes()).unwrap_err().field,
        "CapAmb"
    );
}

#[test]
fn namespace_links_parse() {
    assert_eq!(parse_ns_link(b"mnt:[4026531832]"), Ok(4_026_531_832));
    for bad in [
        &b"mnt:4026531832"[..],
        b"mnt:[]",
        b"mnt:[1",
        b"",
        b"mnt:[99999999999]",
    ] {
        assert!(parse_ns_link(bad).is_err());
    }
}

#[test]
fn cgroup_lines_parse() {
    let lines = parse_cgroup(b"9:name=systemd:/\n4:cpu,cpuacct:/a:b (deleted)\n0::/x\n").unwrap();
    assert_eq!(lines[0].controllers, b"name=systemd");
    assert_eq!(lines[1].path, b"/a:b (deleted)");
    assert_eq!((lines[2].hierarchy, lines[2].controllers), (0, &b""[..]));
    assert!(parse_cgroup(b"0:/x\n").is_err() && parse_cgroup(b"0::x\n").is_err());
}

#[test]
fn same_task_tolerates_a_tick() {
    let key = |tid, start_boottime_ns| TaskKey {
        tid,
        tgid: 1,
        start_boottime_ns,
    };
    assert!(same_task(&key(1, 20_000_000), &key(1, 29_999_999)));
    assert!(!same_task(&key(1, 20_000_000), &key(1, 30_000_000)));
    assert!(!same_task(&key(1, 20_000_000), &key(2, 20_000_000)));
}

fn proc() -> ProcFs {
    ProcFs::open("/proc".as_ref(), KernelVersion::new(6, 1)).unwrap()
}

#[test]
fn this_process_reads_as_it_is() {
    let pid = std::process::id();
    let read = proc()
        .read_task(pid, pid, &CgroupTree::default())
        .unwrap()
        .unwrap();
    let state = read.state;
    assert!(!read.kernel_thread);
    let want = known::NS | known::ROOT | known::CWD | known::CREDS | known::CONFINEMENT;
    assert_eq!(state.known & want, want);
    assert_ne!(state.task_flags & task_flags::LEADER, 0);
    assert!(state.key.start_boottime_ns <= boottime_ns());
    let cwd = rustix::fs::stat(".").unwrap();
    assert_eq!(state.cwd.ino, cwd.st_ino);
    assert_eq!(state.creds.uid, rustix::process::getuid().as_raw());
    assert!(state.ns[ns::MNT].inum != 0 && state.ns[ns::USER].inum != 0);
    assert!(proc().threads(pid).unwrap().contains(&pid));
}

#[test]
fn vanished_and_kernel_tasks_are_no_errors() {
    let tree = CgroupTree::default();
    assert!(
        proc()
            .read_task(u32::MAX, u32::MAX, &tree)
            .unwrap()
            .is_none()
    );
    assert!(proc().threads(u32::MAX).unwrap().is_empty());
    let mut child = std::process::Command::new("/proc/self/exe")
        .arg("--list")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.wait().unwrap();
    assert!(
        proc()
            .read_task(child.id(), child.id(), &tree)
            .unwrap()
            .is_none()
    );
    if let Some(kthreadd) = proc().read_task(2, 2, &tree).unwrap() {
        assert!(
            kthreadd.kernel_thread || kthreadd.state.ns_tid != 2 || kthreadd.state.pid_level > 0
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(text in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = (parse_stat(&text), parse_status(&text), parse_ns_link(&text), parse_cgroup(&text));
    }

    #[test]
    fn damaged_texts_are_survived(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (mut stat, mut status) = (STAT.to_vec(), STATUS.to_vec());
        let (in_stat, in_status) = (at.index(stat.len()), at.index(status.len()));
        stat[in_stat] = byte;
        status[in_status] = byte;
        let _ = (parse_stat(&stat), parse_status(&status));
    }
}
