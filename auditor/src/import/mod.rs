//! Logs of other tools as events for the engine.
//!
//! What Tetragon, Tracee and Falco recorded is mapped onto the engine's own records as far as it goes.
//! Pure: bytes of lines in, [`Input`]s out; no file, no clock. Who reads the log feeds its lines to an
//! [`Importer`] and what comes out to a [`Player`] with an [`Engine`] that was made with
//! [`Tool::config`], and at the end stops that engine (at time 0: it knows a later one). There stands a
//! [`Summary`] of what was not understood and what could not be judged.
//!
//! Every verdict is *inferred*: a log has gaps that nobody sees, numbers of namespaces without their
//! lives, and no sweep that could correct the model. What maps to what stands in `docs/import.md`.
//!
//! Nothing in a log is fatal. Unknown fields and events are skipped and counted, malformed lines too, with
//! their numbers. Everything is bounded by [`limits`].

mod act;
mod falco;
mod json;
pub mod limits;
mod play;
mod summary;
mod synth;
#[cfg(test)]
mod tests;
mod tetragon;
mod tool;
mod tracee;

pub use play::{Input, Player};
pub use summary::{NotEvaluated, Problem, Summary, Tally};
pub use tool::{Tool, UnknownTool};

#[cfg(doc)]
use crate::engine::Engine;
use act::Act;
use serde_json::Value;
use synth::Synth;

/// What a line turned out to be.
enum Line {
    /// Statements, maybe none.
    Acts(Vec<Act>),
    /// Not an event of this tool: why, as a lower-case fragment.
    Malformed(String),
}

/// What a log had at least once.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    /// Namespaces of processes.
    namespaces: bool,
    /// Switches of namespaces as events.
    switches: bool,
    /// Credentials with capabilities.
    credentials: bool,
    /// Moves between cgroups.
    attaches: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Importer {
    tool: Tool,
    node: Option<String>,
    summary: Summary,
    evidence: Evidence,
    synth: Synth,
    /// Statements from before the machine's own namespaces are known.
    prologue: Vec<Act>,
    began: bool,
    number: u64,
}

impl Importer {
    /// For a log of this tool. `node`: the machine whose lines count; `None`: the one of the first line that
    /// names one.
    #[must_use]
    pub fn new(tool: Tool, node: Option<String>) -> Self {
        Self {
            tool,
            node,
            summary: Summary::new(tool),
            evidence: Evidence::default(),
            synth: Synth::new(tool.tells_hosts()),
            prologue: Vec::new(),
            began: false,
            number: 0,
        }
    }

    /// Takes in one line, with or without its end, and gives what follows from it.
    ///
    /// The first inputs may come only some lines later: the stream begins when the log has told which
    /// namespaces are the machine's own.
    pub fn line(&mut self, line: &[u8], sink: &mut dyn FnMut(Input)) {
        self.number += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.summary.lines += 1;
        if line.len() > limits::LINE_BYTES {
            self.summary.too_long += 1;
            let reason = format!("{} bytes, over {}", line.len(), limits::LINE_BYTES);
            self.summary.problem(self.number, reason);
            return;
        }
        let value = match serde_json::from_slice::<Value>(line) {
            Ok(value) if value.is_object() => value,
            Ok(_) => return self.malformed("no JSON object".to_owned()),
            Err(e) => return self.malformed(format!("no JSON: {e}")),
        };
        if self.is_elsewhere(&value) {
            return;
        }
        let (summary, evidence) = (&mut self.summary, &mut self.evidence);
        let read = match self.tool {
            Tool::Tetragon => tetragon::read(&value, summary, evidence),
            Tool::Tracee => tracee::read(&value, summary, evidence),
            Tool::Falco => falco::read(&value, summary, evidence),
        };
        match read {
            Line::Malformed(reason) => self.malformed(reason),
            Line::Acts(acts) => {
                self.summary.mapped += u64::from(!acts.is_empty());
                for act in acts {
                    self.take(act, sink);
                }
            }
        }
    }

    /// The machine that the log is about, as soon as it is known.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// The log is over.
    pub fn finish(mut self, sink: &mut dyn FnMut(Input)) -> Summary {
        if !self.began {
            self.begin(sink);
        }
        self.synth.end(sink);
        self.summary.containers = self.synth.containers();
        self.summary.not_evaluated = self.tool.not_judged(&self.evidence);
        self.summary.notes = self.notes();
        self.summary.node = self.node;
        self.summary
    }

    fn malformed(&mut self, reason: String) {
        self.summary.malformed += 1;
        self.summary.problem(self.number, reason);
    }

    /// Whether a line is about another machine: the engine models one.
    fn is_elsewhere(&mut self, value: &Value) -> bool {
        let Some(node) = self.tool.node_of(value) else {
            return false;
        };
        match &self.node {
            None => self.node = Some(node.to_owned()),
            Some(own) if own != node => {
                self.summary.other_nodes.add(node);
                return true;
            }
            Some(_) => {}
        }
        false
    }

    fn take(&mut self, act: Act, sink: &mut dyn FnMut(Input)) {
        if let act::What::Lost { count } = act.what {
            self.summary.lost = self.summary.lost.saturating_add(count);
        }
        if self.began {
            self.play(&act, sink);
            return;
        }
        self.synth.learn(&act);
        self.prologue.push(act);
        let waits = self.tool.has_namespaces() && !self.synth.knows_machine();
        if !waits || self.prologue.len() >= limits::PROLOGUE {
            self.begin(sink);
        }
    }

    fn begin(&mut self, sink: &mut dyn FnMut(Input)) {
        self.began = true;
        let prologue = std::mem::take(&mut self.prologue);
        let first = prologue.iter().map(|act| act.at_ns).find(|&at| at != 0);
        self.synth.begin(first.unwrap_or(0), sink);
        for act in prologue {
            self.play(&act, sink);
        }
    }

    fn play(&mut self, act: &Act, sink: &mut dyn FnMut(Input)) {
        self.synth.blind = match self.tool {
            Tool::Falco => true,
            Tool::Tetragon => !self.evidence.namespaces,
            Tool::Tracee => false,
        };
        self.synth.act(act, sink);
    }

    fn notes(&self) -> Vec<String> {
        let doubts = self.synth.doubts();
        let mut notes = Vec::new();
        let mut note = |count: u64, text: &str| {
            if count > 0 {
                notes.push(format!("{count} {text}"));
            }
        };
        note(
            doubts.strangers,
            "tasks that the log puts into a container were first seen with the machine's mounts: they count as the machine's",
        );
        note(
            doubts.unclear,
            "changes of namespaces were left out: the log does not tell whether these are the machine's",
        );
        note(
            doubts.grown,
            "tasks gained credentials outside of an exec: theirs are not judged from there on",
        );
        note(
            doubts.unplaced,
            "moves between cgroups were left out: the task or the cgroup is not known",
        );
        note(
            doubts.forgotten,
            "tasks were given up for want of room: their exits are not in the log",
        );
        note(
            self.synth.overflow(),
            "containers or cgroups did not fit and count as the machine's",
        );
        if self.summary.mapped > 0 && self.synth.containers() == 0 {
            notes.push("the log puts no task into a container: nothing was judged".to_owned());
        }
        if self.tool.has_namespaces() && !self.synth.knows_machine() {
            notes.push(
                "the log does not tell the machine's own mount namespace early enough: it is shown as a small number"
                    .to_owned(),
            );
        }
        notes
    }
}
