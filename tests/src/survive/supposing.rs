//! What would be different if a real container had less.

use anyhow::{Context, Result, ensure};
use auditor::model::{Dimension, Verdict};
use auditor::report::what_if::WhatIfReport;

use super::Survival;
use crate::act::Act;
use crate::act::capability::CapabilityAct;
use crate::runtime::Runtime;

/// Goal: the same is supposed of the machine and of a recording of it; the recording also says what would be missed.
/// Method: a container that gives a file away, in a user namespace of its own and without capabilities.
pub(super) fn what_if(survival: &Survival<'_>, runtime: &Runtime) -> Result<()> {
    let trace = survival.path("what-if.atrace");
    let trace = trace.to_str().context("the path is not UTF-8")?;
    let watch = survival.watch(&["--record", trace, "--heartbeat", "1s"])?;
    let mut container = survival.container(runtime, "what-if")?;
    let id = format!("{}:{}", runtime.name, container.id());
    let path = "/given-away".to_owned();
    container.act(&Act::Capability(CapabilityAct::Chown { path }))?;
    watch.heartbeats(2)?;
    let suppose = |from: &[&str], change: &str| -> Result<WhatIfReport> {
        let change = format!("{change}:{id}");
        let words = ["scan", "--format", "json", "--what-if", &change];
        let ran = survival.run(&[&words[..], from].concat())?;
        ensure!(ran.code == Some(0), "{change}: {:?} {}", ran.code, ran.log);
        let [report] = ran.lines.as_slice() else {
            anyhow::bail!("{} lines", ran.lines.len())
        };
        serde_json::from_value(report.clone()).context("read the report")
    };
    let here = suppose(&[], "userns")?;
    ensure!(
        here.would_break.is_none(),
        "/proc does not tell what is used"
    );
    survival.stop(watch, 0)?;
    let then = suppose(&["--from", trace], "userns")?;
    for report in [&here, &then] {
        let pairs = (report.pairs.iter()).filter(|pair| pair.a == id || pair.b == id);
        let with_host = pairs
            .clone()
            .find(|pair| pair.a == "host" || pair.b == "host");
        let with_host = with_host.context("nothing differs between it and the host")?;
        let user = with_host
            .dimensions
            .iter()
            .find(|d| d.dimension == Dimension::User);
        let user = user.context("the user namespace is the same")?;
        ensure!(user.verdict.after == Verdict::Isolated, "{user:?}");
        ensure!(
            pairs.count() >= 1 && report.privileges.len() == 1,
            "{report:?}"
        );
        ensure!(report.privileges[0].own_user_namespace, "{report:?}");
    }
    let missed = |report: WhatIfReport| -> Result<Vec<String>> {
        let uses = report.would_break.context("what is used is not known")?;
        Ok(uses.into_iter().map(|one| one.capability).collect())
    };
    // Its own files are its own there too.
    ensure!(
        missed(then)?.is_empty(),
        "giving a file away takes no power over the machine"
    );
    let without = suppose(&["--from", trace], "drop=ALL")?;
    ensure!(!without.privileges[0].lost.is_empty(), "it loses nothing");
    let missed = missed(without)?;
    ensure!(missed == ["CHOWN"], "would be missed: {missed:?}");
    container.end()
}
