//! OCI bundles: a small root file system and a config.json, made without any image tool.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::scenario::{Container, Leaked, Net};
use crate::sys;

/// What the containers run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The actor of this crate.
    pub actor: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
}

/// A bundle on disk.
#[derive(Debug)]
pub struct Bundle {
    /// The container's id.
    pub id: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Its leaf in every hierarchy, from the root.
    pub cgroup: String,
    /// See [`Container::leaked`].
    pub leaked: Leaked,
    /// Its root file system, where that is an overlay.
    pub overlay: Option<Overlay>,
}

/// Whether this kernel has overlayfs.
#[must_use]
pub fn has_overlays() -> bool {
    let known = std::fs::read_to_string("/proc/filesystems");
    known.is_ok_and(|all| all.lines().any(|line| line == "nodev\toverlay"))
}

/// A mounted overlay, for as long as this lives.
#[derive(Debug)]
pub struct Overlay(PathBuf);

impl Overlay {
    /// Puts what a bundle has as `rootfs` below a layer that takes what is written, `upper`.
    fn over(bundle: &Path) -> Result<Self> {
        let at = |name: &str| bundle.join(name);
        for name in ["upper", "work"] {
            std::fs::create_dir_all(at(name)).with_context(|| format!("create {name}"))?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            at("rootfs").display(),
            at("upper").display(),
            at("work").display()
        );
        sys::mount("overlay", &at("rootfs"), "overlay", 0, &layers)
            .with_context(|| format!("mount an overlay of {layers}"))?;
        Ok(Self(at("rootfs")))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // The directory is temporary; a mount that stays would be seen when it is removed.
        let _ = sys::umount_detach(&self.0);
    }
}

/// What becomes of a container's configuration at run time.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The container's id.
    pub id: &'a str,
    /// What it executes.
    pub args: &'a [&'a str],
    /// The scenario's prepared network namespace.
    pub net_path: Option<&'a Path>,
    /// Whether containers get a cgroup namespace (they do on a pure version 2 host).
    pub cgroup_namespace: bool,
    /// Parent of the leaf cgroups.
    pub cgroup_parent: &'a str,
    /// The directory that is bound at /share.
    pub share: Option<&'a Path>,
}

/// Writes a bundle below `parent`.
///
/// # Errors
/// When a file cannot be written or a program is missing.
pub fn write(
    parent: &Path,
    programs: &Programs,
    container: &Container,
    given: &Given<'_>,
) -> Result<Bundle> {
    let directory = parent.join(given.id);
    root_file_system(&directory.join("rootfs"), programs)?;
    let overlay = match container.overlay && has_overlays() {
        true => Some(Overlay::over(&directory)?),
        false => None,
    };
    let cgroup = configure(&directory, container, given)?;
    let bundle = Bundle {
        id: given.id.to_owned(),
        directory,
        cgroup,
        leaked: container.leaked,
        overlay,
    };
    if container.promises {
        promise(&bundle, programs)?;
    }
    Ok(bundle)
}

/// Writes a bundle's config.json and gives the path of the leaf cgroup that it names.
///
/// # Errors
/// When the file cannot be written.
pub fn configure(directory: &Path, container: &Container, given: &Given<'_>) -> Result<String> {
    let leaf = container.cgroup.unwrap_or(given.id);
    let cgroup = format!("{}/{leaf}", given.cgroup_parent);
    let mut config = config(container, given, &cgroup);
    if let Some(patch) = container.patch {
        merge(
            &mut config,
            serde_json::from_str(patch).context("the patch")?,
        );
    }
    let path = directory.join("config.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&config)?)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(cgroup)
}

/// Has the runtime's own hook put another config.json in place once the runtime has read the first: it promises more
/// than what will run, and knows of no hook and no device.
fn promise(bundle: &Bundle, programs: &Programs) -> Result<()> {
    let path = bundle.directory.join("config.json");
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let mut config: Value = serde_json::from_slice(&text)?;
    let mut real = config.clone();
    let kvm = json!({ "path": "/dev/kvm", "type": "c", "major": 10, "minor": 232 });
    real["linux"]["devices"] = json!([kvm]);
    config["hooks"] = json!({});
    config["linux"]["devices"] = json!([]);
    let fewer: Vec<&str> = CAPABILITIES[..CAPABILITIES.len() - 1].to_vec();
    config["process"]["capabilities"] =
        json!({ "bounding": fewer, "effective": fewer, "permitted": fewer });
    config["process"]["noNewPrivileges"] = json!(true);
    config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ERRNO" });
    add(&mut config["linux"]["maskedPaths"], json!("/proc/version"));
    add(&mut config["linux"]["readonlyPaths"], json!("/proc/tty"));
    add(
        &mut config["mounts"],
        json!({ "destination": "/promised", "type": "tmpfs", "source": "tmpfs" }),
    );
    replace_config(bundle, programs, real, &config)
}

/// Has the runtime's own hook put another config.json in place of the real one, once the runtime has read that.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn replace_config(
    bundle: &Bundle,
    programs: &Programs,
    mut real: Value,
    promised: &Value,
) -> Result<()> {
    let at = |name: &str| bundle.directory.join(name);
    // It takes what the runtime writes to it first: crun fails where a hook ends before it has written.
    let copies = format!(
        "cat > /dev/null; cp {from} {to}; [ ! -e /run/crun/{id}/config.json ] || cp {from} /run/crun/{id}/config.json",
        from = at("promised.json").display(),
        to = at("config.json").display(),
        id = bundle.id,
    );
    let busybox = programs.busybox.display().to_string();
    real["hooks"] = json!({
        "createRuntime": [{ "path": busybox, "args": ["busybox", "sh", "-c", copies] }],
    });
    for (name, config) in [("config.json", &real), ("promised.json", promised)] {
        std::fs::write(at(name), serde_json::to_vec_pretty(config)?)
            .with_context(|| format!("write {}", at(name).display()))?;
    }
    Ok(())
}

/// Applies a merge patch: objects are merged, null removes, everything else replaces.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(&key)),
            value => merge(target.entry(key).or_insert(Value::Null), value),
        }
    }
}

fn add(list: &mut Value, value: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

/// Writes the root file system of a container.
///
/// # Errors
/// When a file cannot be written or a program is missing.
pub fn root_file_system(root: &Path, programs: &Programs) -> Result<()> {
    for directory in [
        "bin",
        "dev",
        "etc",
        "proc",
        "sys",
        "tmp",
        "hostproc",
        "hostcgroup",
        "share",
    ] {
        std::fs::create_dir_all(root.join(directory))
            .with_context(|| format!("create {}", root.join(directory).display()))?;
    }
    let bin = root.join("bin");
    copy(&programs.busybox, &bin.join("busybox"))?;
    for applet in ["sh", "true", "sleep", "cat"] {
        let link = bin.join(applet);
        if !link.exists() {
            std::os::unix::fs::symlink("busybox", &link)
                .with_context(|| format!("link {}", link.display()))?;
        }
    }
    for library in shared_libraries(&programs.actor)? {
        copy(
            &library,
            &root.join(library.strip_prefix("/").unwrap_or(&library)),
        )?;
    }
    copy(&programs.actor, &bin.join("actor"))?;
    let setuid = bin.join("actor-setuid");
    copy(&programs.actor, &setuid)?;
    std::fs::set_permissions(&setuid, std::fs::Permissions::from_mode(0o4755))?;
    let capable = bin.join("actor-capable");
    copy(&programs.actor, &capable)?;
    sys::set_file_capability(&capable, CAP_NET_RAW)
        .with_context(|| format!("give {} a capability", capable.display()))
}

/// A capability that changes nothing in a test.
const CAP_NET_RAW: u32 = 13;

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    std::fs::copy(from, to)
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The shared libraries of a program, the dynamic loader included, by asking the loader.
///
/// # Errors
/// When there is no known loader, or it fails.
pub fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    const LOADERS: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let loader = LOADERS
        .into_iter()
        .find(|path| Path::new(path).exists())
        .context("no dynamic loader of a known architecture")?;
    let output = Command::new(loader)
        .arg("--list")
        .arg(program)
        .output()
        .context("run the loader")?;
    ensure!(
        output.status.success(),
        "{loader} --list {}: {}",
        program.display(),
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let named = text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && *word != loader)
        .map(PathBuf::from);
    Ok(named.chain([PathBuf::from(loader)]).collect())
}

fn config(container: &Container, given: &Given<'_>, cgroup: &str) -> Value {
    let mut linux = json!({
        "namespaces": namespaces(container, given),
        "cgroupsPath": cgroup,
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        "resources": { "devices": [{ "allow": container.all_devices, "access": "rwm" }] },
    });
    if container.user_namespace {
        let mapping = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        linux["uidMappings"] = mapping.clone();
        linux["gidMappings"] = mapping;
    }
    let user = if container.ordinary_user { 1000 } else { 0 };
    let held: &[&str] = if container.ordinary_user {
        &[]
    } else {
        &CAPABILITIES
    };
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": user, "gid": user },
            "args": given.args,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": held,
                "permitted": held,
            },
            "noNewPrivileges": false,
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": given.id,
        "mounts": mounts(container, given),
        "linux": linux,
    })
}

/// Wide on purpose: the acts must be possible.
const CAPABILITIES: [&str; 15] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
];

fn namespaces(container: &Container, given: &Given<'_>) -> Vec<Value> {
    let mut all = vec![
        json!({"type": "ipc"}),
        json!({"type": "uts"}),
        json!({"type": "mount"}),
    ];
    if !container.host_pid {
        all.push(json!({"type": "pid"}));
    }
    match (container.net, given.net_path) {
        (Net::Fresh, _) => all.push(json!({"type": "network"})),
        (Net::Declared, Some(path)) => all.push(json!({"type": "network", "path": path})),
        (Net::Declared | Net::Inherited, _) => {}
    }
    if container.user_namespace {
        all.push(json!({"type": "user"}));
    }
    if given.cgroup_namespace {
        all.push(json!({"type": "cgroup"}));
    }
    all
}

fn mounts(container: &Container, given: &Given<'_>) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let quiet = ["nosuid", "noexec", "nodev"];
    let mut all = vec![
        mount("/proc", "proc", &[]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/dev/mqueue", "mqueue", &quiet),
    ];
    if container.net == Net::Fresh {
        all.push(mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
    }
    let bind = |from: &str, to: &str| json!({ "destination": to, "type": "bind", "source": from, "options": ["rbind", "rw"] });
    if container.host_proc {
        all.push(bind("/proc", "/hostproc"));
    }
    if container.host_cgroup {
        all.push(bind("/sys/fs/cgroup", "/hostcgroup"));
    }
    if let (true, Some(share)) = (container.share, given.share) {
        all.push(bind(&share.to_string_lossy(), "/share"));
    }
    all
}
