//! A root file system with the ordinary programs of a small container, and an image of it that every tool loads.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::tool::{Place, output};
use crate::bundle;
use crate::runner::Options;

/// What an ordinary container does, as a script for its shell. It fails where an ordinary program would.
pub(super) const LIFE: &str = "set -e
busybox ps >/dev/null
busybox top -b -n 1 >/dev/null
busybox find / -xdev >/dev/null
busybox mkdir -p /tmp/life
echo data >/tmp/life/file
busybox chmod 600 /tmp/life/file
busybox ln -s file /tmp/life/link
busybox mkfifo /tmp/life/pipe
(echo through >/tmp/life/pipe) & cat /tmp/life/pipe >/dev/null
busybox cp /bin/busybox /tmp/life/busybox
/tmp/life/busybox true
busybox tar -cf /tmp/life.tar -C /tmp life
busybox rm -r /tmp/life /tmp/life.tar
sleep 100 & kill $!; wait $! || true
(exec sleep 0.01) ; (sh -c 'exit 0')
cat /proc/self/status /proc/self/mountinfo /proc/meminfo /proc/cpuinfo >/dev/null
/bin/actor life
";

/// Writes the root file system: a static busybox, the actor, and its libraries.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn root(options: &Options, root: &Path) -> Result<()> {
    for directory in [
        "bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr", "var", "root",
    ] {
        let path = root.join(directory);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to.parent().unwrap_or(root))
            .and_then(|()| std::fs::copy(from, to))
            .with_context(|| format!("copy {} to {}", from.display(), to.display()))
    };
    copy(&options.programs.busybox, &root.join("bin/busybox"))?;
    for applet in ["sh", "true", "sleep", "cat", "kill"] {
        let link = root.join("bin").join(applet);
        std::os::unix::fs::symlink("busybox", &link)
            .with_context(|| format!("link {}", link.display()))?;
    }
    copy(&options.programs.actor, &root.join("bin/actor"))?;
    for library in bundle::shared_libraries(&options.programs.actor)? {
        copy(
            &library,
            &root.join(library.strip_prefix("/").unwrap_or(&library)),
        )?;
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")
        .context("write a passwd")
}

/// Writes an archive in the format of `docker save` with one image of that name, and gives its path.
///
/// # Errors
/// When a file cannot be written or a program fails.
pub(super) fn archive(options: &Options, place: &Place, name: &str) -> Result<std::path::PathBuf> {
    let root_path = place.join("image-root");
    if !root_path.exists() {
        root(options, &root_path)?;
    }
    let directory = place.join("archive");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("create {}", directory.display()))?;
    let tar = |from: &Path, to: &Path, what: &[&str]| {
        output(
            Command::new("tar")
                .arg("-C")
                .arg(from)
                .arg("-cf")
                .arg(to)
                .args(what),
            options,
        )
    };
    let layer = directory.join("layer.tar");
    tar(&root_path, &layer, &["."])?;
    let digest = output(Command::new("sha256sum").arg(&layer), options)?;
    let digest = digest.split_whitespace().next().unwrap_or_default();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        // Images are told apart by their configurations' digests.
        "config": { "Cmd": ["/bin/sleep", "1000"], "Env": ["PATH=/bin"], "Labels": { "name": name } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    for (file, content) in [("config.json", &config), ("manifest.json", &manifest)] {
        let path = directory.join(file);
        std::fs::write(&path, content.to_string())
            .with_context(|| format!("write {}", path.display()))?;
    }
    let archive = place.join("archive.tar");
    tar(
        &directory,
        &archive,
        &["manifest.json", "config.json", "layer.tar"],
    )?;
    Ok(archive)
}
