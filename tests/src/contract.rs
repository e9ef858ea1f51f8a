//! The contract: what a watch recorded replays to the very bytes that it printed.
//!
//! Every session records beside its watch, in parts, and is replayed when it has ended: twice here, and once on the
//! machine that reads a guest's [`Bundle`]s. Nothing is removed from the lines before they are compared.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::outcome::Report;

/// Parts are this long, so that even a short session has several.
const PART: &str = "10s";
/// Bytes that an event of the kernel may take on disk, sweeps, ticks and names included.
const BYTES_PER_EVENT: u64 = 20;
/// Bytes that a part may take more: it begins with all that is known, and there are more of them where time is slow.
const BYTES_PER_PART: u64 = 24 << 10;
/// Fewer events say nothing about that: the first snapshot is most of the trace.
const ENOUGH_EVENTS: u64 = 20_000;
/// Lines are compared whole, and shown up to here.
const SHOWN: usize = 600;
/// The lines of a session, beside its traces.
const LINES: &str = "lines.jsonl";
/// What a guest may hand over in one piece.
const MAX_BUNDLE: u64 = 256 << 20;

/// Options that make a watch record into a directory.
///
/// # Errors
/// When the directory cannot be made.
pub fn arguments(traces: &Path) -> Result<[String; 4]> {
    std::fs::create_dir_all(traces).with_context(|| format!("create {}", traces.display()))?;
    Ok([
        "--record".to_owned(),
        traces.display().to_string(),
        "--rotate-after".to_owned(),
        PART.to_owned(),
    ])
}

/// Replays a directory and compares it with the lines of the watch that recorded it; says what differs.
///
/// # Errors
/// When the auditor cannot be started.
pub fn differs(auditor: &Path, traces: &Path, live: &[String]) -> Result<Option<String>> {
    let first = replay(auditor, traces)?;
    if let Some(problem) = first_difference(live, &first.lines) {
        return Ok(Some(problem));
    }
    // That evidence was lost is in the lines, and no news.
    if !first.complaint.is_empty() && !first.lossy {
        return Ok(Some(format!("the replay says: {}", first.complaint)));
    }
    let second = replay(auditor, traces)?;
    Ok(first_difference(&first.lines, &second.lines).map(|p| format!("two replays: {p}")))
}

/// Says whether a recording takes more room than it may.
///
/// # Errors
/// When its directory cannot be read.
pub fn too_large(traces: &Path, events: u64) -> Result<Option<String>> {
    let (mut bytes, mut parts) = (0, 0);
    for file in files(traces)? {
        parts += 1;
        bytes += std::fs::metadata(&file)
            .with_context(|| format!("look at {}", file.display()))?
            .len();
    }
    let each = bytes / events.max(1);
    let said = format!("{bytes} bytes for {events} events, {each} each, in {parts} parts");
    eprintln!("     {said}");
    let enough = events * BYTES_PER_EVENT + parts * BYTES_PER_PART;
    Ok((events >= ENOUGH_EVENTS && bytes > enough).then_some(said))
}

/// Replays here what sessions elsewhere handed over. Their traces stay in `directory`.
///
/// # Errors
/// When it is not what [`Bundle::send`] writes, or the auditor cannot be started.
pub fn replay_elsewhere(
    auditor: &Path,
    handed: &Path,
    directory: &Path,
    report: &mut Report,
) -> Result<()> {
    let file = File::open(handed).with_context(|| format!("open {}", handed.display()))?;
    let mut from = BufReader::new(file);
    while let Some((bundle, live)) = Bundle::receive(&mut from, directory)? {
        let started = Instant::now();
        let traces = directory.join(&bundle.session);
        let problem = differs(auditor, &traces, &live)?;
        let case = format!("{}/replays-elsewhere", bundle.session);
        report.check(case, started.elapsed(), problem)?;
        std::fs::write(traces.join(LINES), live.join("\n") + "\n").context("keep the lines")?;
    }
    Ok(())
}

struct Replayed {
    lines: Vec<String>,
    complaint: String,
    lossy: bool,
}

fn replay(auditor: &Path, traces: &Path) -> Result<Replayed> {
    let output = Command::new(auditor)
        .args(["replay", "--format", "json"])
        .arg(traces)
        .output()
        .context("start a replay")?;
    let text = String::from_utf8(output.stdout).context("read a replay")?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !matches!(output.status.code(), Some(0 | 1 | 4)) {
        bail!("the replay ended with {}: {complaint}", output.status);
    }
    Ok(Replayed {
        lines: text.lines().map(str::to_owned).collect(),
        complaint,
        lossy: output.status.code() == Some(4),
    })
}

fn first_difference(live: &[String], replayed: &[String]) -> Option<String> {
    let cut = |line: Option<&String>| {
        line.map_or_else(
            || "(nothing)".to_owned(),
            |line| line[..line.floor_char_boundary(SHOWN)].to_owned(),
        )
    };
    let longest = live.len().max(replayed.len());
    let at = (0..longest).find(|&n| live.get(n) != replayed.get(n))?;
    Some(format!(
        "line {} of {} and {} differs:\n    live   {}\n    replay {}",
        at + 1,
        live.len(),
        replayed.len(),
        cut(live.get(at)),
        cut(replayed.get(at))
    ))
}

fn files(traces: &Path) -> Result<Vec<PathBuf>> {
    let mut files = std::fs::read_dir(traces)
        .and_then(|entries| {
            entries
                .map(|e| e.map(|e| e.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .with_context(|| format!("list {}", traces.display()))?;
    files.sort();
    Ok(files)
}

/// A session's traces and lines on their way out of a guest: one JSON line, then the bytes that it announces.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bundle {
    /// The session.
    pub session: String,
    /// Bytes of the lines, which come first.
    pub lines: u64,
    /// Names and bytes of the traces.
    pub traces: Vec<(String, u64)>,
}

impl Bundle {
    /// Writes a session.
    ///
    /// # Errors
    /// When a trace cannot be read or the other side takes nothing.
    pub fn send(session: &str, traces: &Path, live: &[String], out: &mut impl Write) -> Result<()> {
        let lines = live
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>();
        let mut bundle = Self {
            session: session.to_owned(),
            lines: lines.len() as u64,
            traces: Vec::new(),
        };
        let mut contents = Vec::new();
        for file in files(traces)? {
            let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            bundle.traces.push((name, bytes.len() as u64));
            contents.extend(bytes);
        }
        let head = serde_json::to_string(&bundle)?;
        for part in [head.as_bytes(), b"\n", lines.as_bytes(), &contents] {
            out.write_all(part).context("hand over the traces")?;
        }
        out.flush().context("hand over the traces")
    }

    /// Reads the next session: its name and lines. Its traces go into a directory of that name.
    ///
    /// # Errors
    /// When what is there is no bundle, or a file cannot be written.
    pub fn receive(
        from: &mut impl BufRead,
        directory: &Path,
    ) -> Result<Option<(Self, Vec<String>)>> {
        let mut head = String::new();
        if from.read_line(&mut head).context("read a bundle")? == 0 {
            return Ok(None);
        }
        let bundle: Self = serde_json::from_str(&head).context("read a bundle's head")?;
        let lines = String::from_utf8(take(from, bundle.lines)?).context("read the lines")?;
        let traces = directory.join(&bundle.session);
        std::fs::create_dir_all(&traces).with_context(|| format!("create {}", traces.display()))?;
        for (name, bytes) in &bundle.traces {
            ensure!(!name.contains('/'), "a trace is called {name}");
            let path = traces.join(name);
            std::fs::write(&path, take(from, *bytes)?)
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(Some((bundle, lines.lines().map(str::to_owned).collect())))
    }
}

fn take(from: &mut impl BufRead, bytes: u64) -> Result<Vec<u8>> {
    ensure!(bytes <= MAX_BUNDLE, "a bundle claims {bytes} bytes");
    let mut taken = Vec::new();
    from.take(bytes)
        .read_to_end(&mut taken)
        .context("read a bundle")?;
    ensure!(taken.len() as u64 == bytes, "a bundle is cut");
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::{Bundle, first_difference};

    /// Goal: what a guest sends arrives. Method: a session through memory, into a directory.
    #[test]
    fn bundles_arrive() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(from.path().join("a.atrace"), b"\0\n\xff").unwrap();
        let live = ["{\"x\":1}".to_owned(), "{}".to_owned()];
        let mut wire = Vec::new();
        Bundle::send("default", from.path(), &live, &mut wire).unwrap();
        let mut wire = wire.as_slice();
        let (bundle, lines) = Bundle::receive(&mut wire, to.path()).unwrap().unwrap();
        assert_eq!(
            (bundle.session.as_str(), lines.as_slice()),
            ("default", &live[..])
        );
        let arrived = std::fs::read(to.path().join("default/a.atrace")).unwrap();
        assert_eq!(arrived, b"\0\n\xff");
        assert!(Bundle::receive(&mut wire, to.path()).unwrap().is_none());
    }

    /// Goal: a missing, added or changed line is named.
    #[test]
    fn differences_are_named() {
        let line = |text: &str| text.to_owned();
        let live = [line("a"), line("b")];
        assert_eq!(first_difference(&live, &live), None);
        assert!(
            first_difference(&live, &live[..1])
                .unwrap()
                .contains("line 2 of 2 and 1")
        );
        assert!(
            first_difference(&live, &[line("a"), line("c")])
                .unwrap()
                .contains("replay c")
        );
    }
}
