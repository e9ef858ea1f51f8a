//! Tracee's JSON output, in both of its forms.
//!
//! In the older one (`types/trace` of its repository) each event carries its task's mount and pid
//! namespace, read at the event: any event, whatever it is about, tells where its task is. The newer one
//! (`api/v1beta1`, see [`modern`]) carries no namespace. The other namespaces are only in `switch_task_ns`, and there only those that change;
//! credentials only in `commit_creds`. Both fire before the kernel acts, and so tell what is about to be.

use super::act::{Act, Seen, What};
use super::json;
use super::summary::{Summary, bounded};
use super::{Evidence, Line, limits};
use crate::inventory::container::ContainerAnswer;
use auditor_common::limits::NS_SLOTS;
use auditor_common::record::{Creds, ns};
use serde_json::Value;

mod modern;

const TOP: [&str; 37] = [
    "timestamp",
    "threadStartTime",
    "processorId",
    "processId",
    "cgroupId",
    "threadId",
    "parentProcessId",
    "hostProcessId",
    "hostThreadId",
    "hostParentProcessId",
    "userId",
    "mountNamespace",
    "pidNamespace",
    "processName",
    "executable",
    "hostName",
    "container",
    "containerId",
    "containerImage",
    "containerName",
    "kubernetes",
    "podName",
    "podNamespace",
    "podUID",
    "podSandbox",
    "eventId",
    "eventName",
    "matchedPolicies",
    "argsNum",
    "returnValue",
    "syscall",
    "stackAddresses",
    "contextFlags",
    "threadEntityId",
    "processEntityId",
    "parentEntityId",
    "args",
];
/// Mount namespaces that a machine boots with: the constant of newer kernels (`MNT_NS_INIT_INO`), and the
/// first numbers that older ones gave out.
const BOOT_MNT: [u32; 3] = [0xefff_fff8, 0xf000_0000, 0xf000_0001];
/// Network namespaces with such numbers were made while the machine booted. Those made later get higher
/// ones: /proc takes hundreds of the same numbers in between.
const BOOT_NET: std::ops::Range<u32> = 0xefff_fff0..0xf000_00a0;
/// What `switch_task_ns` and `init_namespaces` call the namespaces.
const SWITCHED: [(&str, usize); 6] = [
    ("new_mnt", ns::MNT),
    ("new_pid", ns::PID_FOR_CHILDREN),
    ("new_uts", ns::UTS),
    ("new_ipc", ns::IPC),
    ("new_net", ns::NET),
    ("new_cgroup", ns::CGROUP),
];
const INITIAL: [(&str, usize); 10] = [
    ("mnt", ns::MNT),
    ("pid", ns::PID),
    ("pid_for_children", ns::PID_FOR_CHILDREN),
    ("uts", ns::UTS),
    ("ipc", ns::IPC),
    ("net", ns::NET),
    ("cgroup", ns::CGROUP),
    ("time", ns::TIME),
    ("time_for_children", ns::TIME_FOR_CHILDREN),
    ("user", ns::USER),
];

/// An event of either form.
struct Event<'a> {
    name: &'a str,
    at_ns: u64,
    /// `None`: not about a task.
    task: Option<Seen>,
    syscall: &'a str,
    args: Vec<(&'a str, &'a Value)>,
}

impl<'a> Event<'a> {
    fn arg(&self, name: &str) -> Option<&'a Value> {
        self.args
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| *value)
    }

    fn number(&self, name: &str) -> Option<u32> {
        let number = self.arg(name).and_then(json::number)?;
        u32::try_from(number).ok().filter(|&n| n != 0)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.arg(name)?.as_str().filter(|text| !text.is_empty())
    }

    fn namespaces(&self, names: &[(&str, usize)]) -> [u32; NS_SLOTS] {
        let mut found = [0; NS_SLOTS];
        for (name, slot) in names {
            // What did not change is missing, or written as 0.
            found[*slot] = self.number(name).unwrap_or(0);
        }
        found
    }
}

/// Reads one line.
pub(super) fn read(value: &Value, summary: &mut Summary, evidence: &mut Evidence) -> Line {
    let event = if value.get("eventName").is_some() {
        classic(value, summary)
    } else {
        modern::event(value, summary)
    };
    let Some(event) = event else {
        return Line::Malformed("no event of Tracee".to_owned());
    };
    evidence.namespaces |= event.task.as_ref().is_some_and(|t| t.ns[ns::MNT] != 0);
    let what = what(&event, evidence);
    if what.is_some() {
        summary.events.add(event.name);
    } else {
        summary.unknown_events.add(event.name);
    }
    Line::Acts(act(event, what.unwrap_or(Meaning::Context)))
}

/// What an event means.
enum Meaning<'a> {
    /// Nothing, but its task was where it was.
    Context,
    /// Nothing at all.
    Nothing,
    /// The machine's namespaces.
    Machine([u32; NS_SLOTS]),
    /// A cgroup was made.
    Cgroup(&'a str),
    /// Who a container is.
    Named(Box<ContainerAnswer>),
    /// Namespaces are about to change to these; 0: stays.
    Switch([u32; NS_SLOTS]),
    /// A task did it.
    Task(What),
}

fn act(event: Event<'_>, meaning: Meaning<'_>) -> Vec<Act> {
    let at_ns = event.at_ns;
    let one = |task, what| vec![Act { at_ns, task, what }];
    let (mut task, what) = match (meaning, event.task) {
        (Meaning::Machine(found), _) => {
            let task = Seen {
                ns: found,
                ..Seen::default()
            };
            return one(task, What::Machine);
        }
        (Meaning::Cgroup(path), _) => {
            let path = bounded(path, limits::PATH_BYTES).to_owned();
            return one(Seen::default(), What::Cgroup { path });
        }
        (Meaning::Named(answer), _) => {
            let task = Seen {
                container: Some(answer),
                ..Seen::default()
            };
            return one(task, What::Seen);
        }
        (Meaning::Nothing, _) | (_, None) => return Vec::new(),
        (Meaning::Context, Some(task)) => (task, What::Switch),
        (Meaning::Switch(to), Some(mut task)) => {
            for (now, new) in task.ns.iter_mut().zip(to) {
                *now = if new == 0 { *now } else { new };
            }
            (task, What::Switch)
        }
        (Meaning::Task(what), Some(task)) => (task, what),
    };
    mark_hosts(&mut task);
    one(task, what)
}

/// Numbers that only the machine's own namespaces have.
fn mark_hosts(task: &mut Seen) {
    if BOOT_MNT.contains(&task.ns[ns::MNT]) {
        task.hosts |= 1 << ns::MNT;
    }
    if BOOT_NET.contains(&task.ns[ns::NET]) {
        task.hosts |= 1 << ns::NET;
    }
}

/// `None`: not known what it means.
fn what<'a>(event: &Event<'a>, evidence: &mut Evidence) -> Option<Meaning<'a>> {
    Some(match event.name {
        "init_namespaces" => Meaning::Machine(event.namespaces(&INITIAL)),
        "tracee_info" | "cgroup_rmdir" | "container_remove" => Meaning::Nothing,
        "cgroup_mkdir" => event
            .text("cgroup_path")
            .map_or(Meaning::Nothing, Meaning::Cgroup),
        "container_create" | "existing_container" => {
            named(event).map_or(Meaning::Nothing, |answer| Meaning::Named(Box::new(answer)))
        }
        "switch_task_ns" => {
            evidence.switches = true;
            Meaning::Switch(event.namespaces(&SWITCHED))
        }
        "sched_process_exec" => {
            let file = event.text("pathname").or_else(|| event.text("cmdpath"));
            let file = bounded(file.unwrap_or(""), limits::TEXT_BYTES).to_owned();
            Meaning::Task(What::Exec {
                file,
                newborn: false,
            })
        }
        "sched_process_fork" => {
            let tgid = event
                .number("child_pid")
                .or(event.number("child_process_pid"));
            match (event.number("child_tid").or(tgid), tgid) {
                (Some(tid), Some(tgid)) => Meaning::Task(What::Fork { tid, tgid }),
                _ => Meaning::Context,
            }
        }
        "sched_process_exit" => Meaning::Task(What::Exit),
        "commit_creds" => {
            let creds = |name| event.arg(name).and_then(credentials);
            match (creds("old_cred"), creds("new_cred")) {
                (Some(before), Some(after)) => {
                    evidence.credentials = true;
                    Meaning::Task(What::Creds {
                        before,
                        after,
                        in_exec: matches!(event.syscall, "execve" | "execveat"),
                    })
                }
                _ => Meaning::Context,
            }
        }
        "cgroup_attach_task" => match event.text("cgroup_path") {
            Some(path) => {
                evidence.attaches = true;
                Meaning::Task(What::Attach {
                    path: bounded(path, limits::PATH_BYTES).to_owned(),
                    moved: event.number("pid"),
                })
            }
            None => Meaning::Context,
        },
        _ => return None,
    })
}

fn named(event: &Event<'_>) -> Option<ContainerAnswer> {
    let text = |name| {
        let text = event.text(name)?;
        Some(bounded(text, limits::TEXT_BYTES).to_owned())
    };
    let mut answer = json::container(event.text("container_id")?)?;
    answer.runtime = json::runtime(event.text("runtime").unwrap_or(""));
    answer.name = text("container_name");
    answer.image = text("container_image");
    answer.pod = json::pod(text("pod_namespace"), text("pod_name"), text("pod_uid"));
    Some(answer)
}

/// Either spelling of the fields; `None` without capabilities.
fn credentials(value: &Value) -> Option<Creds> {
    let get = |names: [&str; 3]| names.iter().find_map(|name| value.get(*name));
    let id = |names| get(names).and_then(json::number);
    let id = |names| id(names).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let set = |names| json::capabilities(get(names));
    Some(Creds {
        uid: id(["Uid", "uid", "uid"]),
        gid: id(["Gid", "gid", "gid"]),
        suid: id(["Suid", "suid", "suid"]),
        sgid: id(["Sgid", "sgid", "sgid"]),
        euid: id(["Euid", "euid", "euid"]),
        egid: id(["Egid", "egid", "egid"]),
        fsuid: id(["Fsuid", "fsuid", "fsuid"]),
        fsgid: id(["Fsgid", "fsgid", "fsgid"]),
        cap_inheritable: set(["CapInheritable", "capInheritable", "cap_inheritable"]).unwrap_or(0),
        cap_permitted: set(["CapPermitted", "capPermitted", "cap_permitted"])?,
        cap_effective: set(["CapEffective", "capEffective", "cap_effective"])?,
        cap_bounding: set(["CapBounding", "capBounding", "cap_bounding"]).unwrap_or(0),
        cap_ambient: set(["CapAmbient", "capAmbient", "cap_ambient"]).unwrap_or(0),
        securebits: id(["SecureBits", "secureBits", "secure_bits"]),
        reserved: 0,
    })
}

/// The older form.
fn classic<'a>(value: &'a Value, summary: &mut Summary) -> Option<Event<'a>> {
    let name = json::text(value, "eventName")?;
    json::count_unknown(value, "", &TOP, &mut summary.unknown_fields);
    let args = value.get("args").and_then(Value::as_array);
    let args = args
        .into_iter()
        .flatten()
        .filter_map(|arg| Some((json::text(arg, "name")?, arg.get("value")?)))
        .collect();
    Some(Event {
        name,
        at_ns: json::field(value, "timestamp").unwrap_or(0),
        task: classic_task(value),
        syscall: json::text(value, "syscall").unwrap_or(""),
        args,
    })
}

fn classic_task(value: &Value) -> Option<Seen> {
    let nonzero = |name| json::field32(value, name).filter(|&n| n != 0);
    let tgid = nonzero("hostProcessId")?;
    let flags = value.get("contextFlags");
    let started = flags.and_then(|flags| flags.get("containerStarted"));
    let mut task = Seen {
        tid: nonzero("hostThreadId").unwrap_or(tgid),
        tgid,
        start: json::field(value, "threadStartTime").filter(|&start| start != 0),
        parent: nonzero("hostParentProcessId"),
        comm: json::text(value, "processName").map_or_else(String::new, json::base_name),
        uid: json::field32(value, "userId").unwrap_or(0),
        container: classic_container(value).map(Box::new),
        prepares: started.and_then(Value::as_bool) == Some(false),
        ..Seen::default()
    };
    task.ns[ns::MNT] = nonzero("mountNamespace").unwrap_or(0);
    task.ns[ns::PID] = nonzero("pidNamespace").unwrap_or(0);
    Some(task)
}

fn classic_container(value: &Value) -> Option<ContainerAnswer> {
    let inner = value.get("container").unwrap_or(&Value::Null);
    let pod = value.get("kubernetes").unwrap_or(&Value::Null);
    let id = json::text(inner, "id").or_else(|| json::text(value, "containerId"))?;
    let either =
        |object, name, flat| json::short(object, name).or_else(|| json::short(value, flat));
    let mut answer = json::container(id)?;
    answer.name = either(inner, "name", "containerName");
    answer.image = either(inner, "image", "containerImage");
    answer.pod = json::pod(
        either(pod, "podNamespace", "podNamespace"),
        either(pod, "podName", "podName"),
        either(pod, "podUID", "podUID"),
    );
    Some(answer)
}
