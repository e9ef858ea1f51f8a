//! A watch of a simulated node that is recorded as a live one is: the same recorder, the same order.

use auditor::agent::record::{
    Destination, PartStart, Privileges, RecordOptions, Recorder, Retention, Sync,
};
use auditor::engine::{Engine, Event, LossMark};
use auditor::model::NsKind;
use auditor::model::output::Record;
use auditor::model::policy::Policy;
use auditor::sink::jsonl;
use auditor::trace::{Answer, Header, Item};
use auditor_tests::node::{self, Node};
use std::path::Path;

const SECOND_NS: u64 = 1_000_000_000;

/// An engine, what it said, and the recorder beside it.
struct Live {
    engine: Engine,
    recorder: Recorder,
    said: Vec<Record>,
}

/// A node under watch.
pub(crate) struct Story {
    node: Node,
    live: Live,
}

impl Live {
    fn take(&mut self, event: Event<'_>) {
        self.recorder.take(&Item::Event(event));
        self.engine.step(event, &mut self.said);
        while let Some(query) = self.engine.next_query() {
            let answer = node::named(&query.cgroup_path);
            self.recorder.take(&Item::Answer(Answer {
                cgroup_path: &query.cgroup_path,
                init_pid: query.init_pid,
                answer: Some(&answer),
            }));
            let event = Event::Answer {
                query: query.id,
                answer: Some(&answer),
            };
            self.engine.step(event, &mut self.said);
        }
    }
}

impl Story {
    /// A node with this name, recorded to this file; further parts lie beside it.
    pub(crate) fn begin(name: &str, to: &Path) -> Self {
        let config = node::config(name);
        let policy = Policy::default();
        let options = RecordOptions {
            destination: Destination::File(to.to_owned()),
            rotate_bytes: None,
            rotate_after: None,
            retention: Retention::default(),
            sync: Sync::Never,
        };
        let mut node = Node::new(50);
        let header = Header::new(&config, node.now_ns(), policy.digest());
        let mut live = Live {
            engine: Engine::new(config, &policy),
            recorder: Recorder::start(&options, header, Privileges::All).unwrap(),
            said: Vec::new(),
        };
        live.take(Event::Policy(&policy));
        node.sweep(|event| live.take(event));
        let mut story = Self { node, live };
        for _ in 0..4 {
            story.node.start(3);
        }
        story.pass(2);
        story
    }

    /// Seconds pass: what happened is seen, and a sweep looks.
    pub(crate) fn pass(&mut self, seconds: u64) {
        self.node.sweep(|event| self.live.take(event));
        self.node.pass(seconds * SECOND_NS);
        self.live.take(Event::Tick {
            boottime_ns: self.node.now_ns(),
        });
        // As a watch does after a violation.
        self.live.recorder.end_frame();
    }

    /// Containers come and go, and programs run.
    pub(crate) fn churn(&mut self, times: usize) {
        for seed in 0..times {
            self.node.start(3);
            self.node.work_inside(seed);
            self.node.work_outside(7);
        }
        self.pass(1);
    }

    /// The oldest container joins a namespace of the host.
    pub(crate) fn join_host(&mut self, kind: NsKind) {
        self.node.join_host(kind);
        self.pass(1);
    }

    /// The oldest container ends.
    pub(crate) fn end_oldest(&mut self) {
        self.node.stop();
        self.pass(1);
    }

    /// Events are lost at this place.
    pub(crate) fn lose(&mut self, place: &str, count: u64) {
        let mark = LossMark {
            boottime_ns: self.node.now_ns(),
            place: place.to_owned(),
            count,
            ..LossMark::default()
        };
        self.live.take(Event::Loss(&mark));
        self.pass(1);
    }

    /// A new part begins, at a sweep.
    pub(crate) fn rotate(&mut self) {
        let Live {
            engine, recorder, ..
        } = &mut self.live;
        recorder.begin_part(&PartStart {
            boottime_ns: self.node.now_ns(),
            policy: engine.index().policy(),
            saved: &engine.saved(),
            set_ups: &engine.set_ups(),
        });
        self.node.walk();
        self.node.sweep(|event| recorder.take(&Item::Event(event)));
        recorder.end_prologue();
        self.pass(1);
    }

    /// The watch ends; its lines.
    pub(crate) fn end(self) -> Vec<String> {
        let Self { node, mut live } = self;
        let (boottime_ns, reason) = (node.now_ns(), "signal");
        live.recorder.take(&Item::Stop {
            boottime_ns,
            reason,
        });
        live.engine.stop(boottime_ns, reason, &mut live.said);
        assert_eq!(live.recorder.finish(), 0, "the recorder lost something");
        let line = |record| jsonl::encode(record).unwrap();
        live.said.iter().map(line).collect()
    }
}
