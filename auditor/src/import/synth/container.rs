//! Containers as a log names them, and the cgroups that stand for them.
//!
//! The engine knows a container by its cgroup. A log knows it by its id, and at most some cgroups by their
//! paths. So each id gets a cgroup: the one whose path has the id in it, where the log shows one, else one
//! of a made-up path below `/imported`.

use super::namespaces::Numbers;
use super::record::{self, ROOT_CGROUP};
use crate::import::{Input, limits};
use crate::inventory::cgroup_path;
use crate::inventory::container::{ContainerAnswer, Runtime};
use auditor_common::record::{cgroup_op, ns};
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// Characters that all tools give of an id.
const SHORT_ID: usize = 12;

/// A container: index in [`Containers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index(usize);

/// One container.
#[derive(Debug)]
pub(super) struct Container {
    short: String,
    answer: ContainerAnswer,
    /// Its cgroup.
    pub(super) cgroup: u64,
    /// Its namespaces, from its first task on.
    pub(super) ns: Option<Numbers>,
    /// The engine was told of its first exec.
    pub(super) started: bool,
    /// Its living tasks.
    pub(super) tasks: BTreeSet<u32>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Containers {
    all: Vec<Option<Container>>,
    free: Vec<usize>,
    by_id: HashMap<String, usize>,
    by_mnt: HashMap<u32, usize>,
    /// Paths of cgroups that were told of, by path.
    paths: HashMap<String, u64>,
    /// The path that names a container, by short id.
    named: HashMap<String, String>,
    next_cgroup: u64,
    /// Containers that there were.
    pub(super) count: u64,
    /// Containers and cgroups that did not fit.
    pub(super) overflow: u64,
}

fn short(id: &str) -> String {
    id.chars().take(SHORT_ID).collect()
}

impl Containers {
    pub(super) fn get(&self, index: Index) -> Option<&Container> {
        self.all.get(index.0)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: Index) -> Option<&mut Container> {
        self.all.get_mut(index.0)?.as_mut()
    }

    /// The container with this identity; tells the driver who it is.
    pub(super) fn find_or_make(
        &mut self,
        answer: &ContainerAnswer,
        now_ns: u64,
        sink: &mut dyn FnMut(Input),
    ) -> Option<Index> {
        let id = short(&answer.id);
        if let Some(&at) = self.by_id.get(&id) {
            self.learn(Index(at), answer, sink);
            return Some(Index(at));
        }
        if self.by_id.len() >= limits::CONTAINERS {
            self.end_empty(now_ns, sink);
        }
        if self.by_id.len() >= limits::CONTAINERS {
            self.overflow += 1;
            return None;
        }
        let path = match self.named.get(&id) {
            Some(path) => path.clone(),
            None => format!("/imported/{}", answer.id),
        };
        let cgroup = self.cgroup(&path, true, now_ns, sink)?;
        let mut answer = answer.clone();
        answer.cgroup_path = path;
        sink(Input::Container(Box::new(answer.clone())));
        let container = Container {
            short: id.clone(),
            answer,
            cgroup,
            ns: None,
            started: false,
            tasks: BTreeSet::new(),
        };
        self.count += 1;
        let at = self.free.pop().unwrap_or(self.all.len());
        if at == self.all.len() {
            self.all.push(Some(container));
        } else {
            self.all[at] = Some(container);
        }
        self.by_id.insert(id, at);
        Some(Index(at))
    }

    /// A later line may know more.
    fn learn(&mut self, index: Index, answer: &ContainerAnswer, sink: &mut dyn FnMut(Input)) {
        let Some(known) = self.get_mut(index).map(|c| &mut c.answer) else {
            return;
        };
        let runtime = known.runtime == Runtime::Unknown && answer.runtime != Runtime::Unknown;
        let name = known.name.is_none() && answer.name.is_some();
        let image = known.image.is_none() && answer.image.is_some();
        let pod = known.pod.is_none() && answer.pod.is_some();
        let id = answer.id.len() > known.id.len();
        if !(runtime || name || image || pod || id) {
            return;
        }
        if runtime {
            known.runtime = answer.runtime;
        }
        if id {
            known.id.clone_from(&answer.id);
        }
        if pod {
            known.pod.clone_from(&answer.pod);
            known.labels.clone_from(&answer.labels);
        }
        known.name = known.name.take().or_else(|| answer.name.clone());
        known.image = known.image.take().or_else(|| answer.image.clone());
        sink(Input::Container(Box::new(known.clone())));
    }

    /// The id of the cgroup at a path. `vital`: whatever the bound says.
    fn cgroup(
        &mut self,
        path: &str,
        vital: bool,
        now_ns: u64,
        sink: &mut dyn FnMut(Input),
    ) -> Option<u64> {
        if path == "/" {
            return Some(ROOT_CGROUP);
        }
        if let Some(&id) = self.paths.get(path) {
            return Some(id);
        }
        if !vital && self.paths.len() >= limits::CGROUPS {
            self.overflow += 1;
            return None;
        }
        self.next_cgroup += 1;
        let id = ROOT_CGROUP + self.next_cgroup;
        self.paths.insert(path.to_owned(), id);
        let op = cgroup_op::MKDIR;
        sink(Input::Cgroup(record::cgroup(id, path, op, now_ns)));
        Some(id)
    }

    /// There is a cgroup at this path. If it names a container, that is the container's.
    pub(super) fn note(&mut self, path: &str) {
        let Some(found) = cgroup_path::identify(path) else {
            return;
        };
        let id = short(&found.identity.id);
        if self.by_id.contains_key(&id) {
            return;
        }
        if self.named.len() >= limits::CGROUPS {
            // Most are of containers that never came to be.
            self.named.clear();
        }
        self.named.insert(id, found.subtree(path).to_owned());
    }

    /// The cgroup at a path that the log shows.
    pub(super) fn place(
        &mut self,
        path: &str,
        now_ns: u64,
        sink: &mut dyn FnMut(Input),
    ) -> Option<u64> {
        if !path.starts_with('/') {
            return None;
        }
        let Some(found) = cgroup_path::identify(path) else {
            return self.cgroup(path, false, now_ns, sink);
        };
        let id = short(&found.identity.id);
        let (_, below) = path.split_at(found.subtree(path).len());
        match self.by_id.get(&id) {
            Some(&at) => {
                let home = self.get(Index(at))?.answer.cgroup_path.clone();
                self.cgroup(&format!("{home}{below}"), false, now_ns, sink)
            }
            None => {
                self.note(path);
                self.cgroup(path, false, now_ns, sink)
            }
        }
    }

    /// A container's cgroup is the one that its first task sits in.
    pub(super) fn adopt_cgroup(
        &mut self,
        index: Index,
        id: u64,
        now_ns: u64,
        sink: &mut dyn FnMut(Input),
    ) {
        let path = self.paths.iter().find(|(_, known)| **known == id);
        let Some(path) = path.map(|(path, _)| path.clone()) else {
            return;
        };
        let Some(container) = self.get_mut(index) else {
            return;
        };
        let (old_id, old) = (container.cgroup, container.answer.cgroup_path.clone());
        container.cgroup = id;
        container.answer.cgroup_path = path;
        sink(Input::Container(Box::new(container.answer.clone())));
        self.remove_cgroup(old_id, &old, now_ns, sink);
    }

    fn remove_cgroup(&mut self, id: u64, path: &str, now_ns: u64, sink: &mut dyn FnMut(Input)) {
        if self.paths.remove(path).is_some() {
            let op = cgroup_op::RMDIR;
            sink(Input::Cgroup(record::cgroup(id, path, op, now_ns)));
        }
    }

    /// Whether a cgroup is some container's.
    pub(super) fn owns(&self, cgroup: u64) -> bool {
        self.all.iter().flatten().any(|c| c.cgroup == cgroup)
    }

    /// Its first task has these namespaces. Gives the container that had the mount namespace's number
    /// before: it must have ended.
    pub(super) fn settle(&mut self, index: Index, numbers: &Numbers) -> Option<Index> {
        self.get_mut(index)?.ns = Some(*numbers);
        let old = self.by_mnt.insert(numbers[ns::MNT], index.0);
        old.filter(|&at| at != index.0).map(Index)
    }

    /// The last of its tasks is gone.
    pub(super) fn end(&mut self, index: Index, now_ns: u64, sink: &mut dyn FnMut(Input)) {
        let Some(container) = self.all.get_mut(index.0).and_then(Option::take) else {
            return;
        };
        self.free.push(index.0);
        self.by_id.remove(&container.short);
        self.named.remove(&container.short);
        if let Some(numbers) = container.ns
            && self.by_mnt.get(&numbers[ns::MNT]) == Some(&index.0)
        {
            self.by_mnt.remove(&numbers[ns::MNT]);
        }
        let (id, path) = (container.cgroup, container.answer.cgroup_path);
        self.remove_cgroup(id, &path, now_ns, sink);
    }

    /// Forgets those that no task is known of.
    fn end_empty(&mut self, now_ns: u64, sink: &mut dyn FnMut(Input)) {
        let is_empty = |c: &Option<Container>| c.as_ref().is_some_and(|c| c.tasks.is_empty());
        let empty: Vec<usize> = (0..self.all.len())
            .filter(|&at| is_empty(&self.all[at]))
            .collect();
        for at in empty {
            self.end(Index(at), now_ns, sink);
        }
    }
}
