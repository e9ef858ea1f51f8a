//! Heavier programs of the host inside a container that its configuration lends them to: a package manager and a
//! compiler.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::tool::{Done, Ids, output};
use super::{discard, text};
use crate::bundle::{self, Given};
use crate::identity::container_id;
use crate::runner::Options;
use crate::runtime::{Layout, Runtime};
use crate::scenario::Container;

const PACKAGES: &str = "set -e
mkdir -p /tmp/p/DEBIAN /tmp/p/opt /tmp/db/updates /tmp/db/info /tmp/inst
printf 'Package: life\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody <n@example.org>\\nDescription: life\\n' >/tmp/p/DEBIAN/control
printf '#!/bin/sh\\nexec /bin/true\\n' >/tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
echo data >/tmp/p/opt/data
/usr/bin/dpkg-deb --build --root-owner-group /tmp/p /tmp/life.deb
: >/tmp/db/status
: >/tmp/db/available
/usr/bin/dpkg --admindir=/tmp/db --force-not-root --instdir=/ --log=/tmp/log -i /tmp/life.deb
/usr/bin/dpkg --admindir=/tmp/db -l
/usr/bin/dpkg --admindir=/tmp/db --log=/tmp/log --purge life
";

const COMPILER: &str = "set -e
printf '#include <stdio.h>\\nint main(void){puts(\"built\");return 0;}\\n' >/tmp/a.c
cc -O1 -pipe -o /tmp/a /tmp/a.c
/tmp/a
";

/// Builds, installs and removes a package.
pub(super) fn packages(options: &Options, ids: &mut Ids) -> Result<Done> {
    within(options, ids, "packages", PACKAGES)
}

/// Compiles a program and runs it.
pub(super) fn compiler(options: &Options, ids: &mut Ids) -> Result<Done> {
    within(options, ids, "compiler", COMPILER)
}

/// Runs a script in a container that has the host's /usr, read-only.
fn within(options: &Options, ids: &mut Ids, name: &str, script: &str) -> Result<Done> {
    let layout = Layout::detect();
    let runtime = Runtime {
        name: "runc".to_owned(),
        layout,
        patience: options.patience * 10,
    };
    let id = container_id(&options.prefix, "runc", "silence", name);
    ids.insert(id.clone());
    let given = Given {
        id: &id,
        args: &["/bin/sh", "-c", script],
        net_path: None,
        cgroup_namespace: layout == Layout::Unified,
        cgroup_parent: &options.cgroup_parent(),
        share: None,
    };
    let bundle = bundle::write(
        &options.work,
        &options.programs,
        &Container::plain("silent"),
        &given,
    )?;
    lend(&bundle.directory)?;
    let mut command = runtime.command(None);
    command.args(["run", "--bundle", text(&bundle.directory)?, &id]);
    output(&mut command, options)?;
    discard(&bundle)?;
    Ok(Done::Ran)
}

/// Adds the host's programs to a bundle.
fn lend(bundle: &Path) -> Result<()> {
    let path = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(
        &std::fs::read(&path).with_context(|| format!("read {}", path.display()))?,
    )?;
    let mounts = config["mounts"]
        .as_array_mut()
        .context("a bundle without mounts")?;
    for place in ["/usr", "/lib", "/lib64", "/etc/alternatives", "/etc/dpkg"] {
        if Path::new(place).exists() {
            let options = ["rbind", "ro"];
            mounts.push(json!({ "destination": place, "type": "bind", "source": place, "options": options }));
        }
    }
    config["process"]["env"] = json!(["PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"]);
    std::fs::write(&path, serde_json::to_vec(&config)?)
        .with_context(|| format!("write {}", path.display()))
}
