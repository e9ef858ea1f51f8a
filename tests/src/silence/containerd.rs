//! containerd with its CRI plug-in, as a kubelet uses it: a pod on a network of CNI plug-ins, and two containers.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::cri::{Client, Message};
use super::image::{self, LIFE};
use super::tool::{Done, Ids, Place, Service, command, expect, output};
use crate::runner::Options;

/// Programs.
pub(super) const NEEDS: &[&str] = &[
    "containerd",
    "ctr",
    "containerd-shim-runc-v2",
    "runc",
    "curl",
    "tar",
    "sha256sum",
];

const IMAGE: &str = "localhost/auditor-life:1";
const PAUSE: &str = "localhost/auditor-pause:1";
/// Where Debian has the CNI plug-ins.
const PLUGINS: &str = "/usr/lib/cni";
const POD_UID: &str = "11111111-2222-3333-4444-555555555555";

/// Pods as a kubelet makes them: containers with a pid namespace each, and all with that of the sandbox
/// (`shareProcessNamespace`).
pub(super) fn pods(options: &Options, ids: &mut Ids) -> Result<Done> {
    let place = Place::new(options, "containerd")?;
    let _service = start(options, &place)?;
    for name in [PAUSE, IMAGE] {
        let archive = image::archive(options, &place, name)?;
        let mut import = command("ctr");
        import
            .arg("-a")
            .arg(place.join("socket"))
            .args(["-n", "k8s.io", "images", "import"]);
        output(import.arg(archive), options)?;
    }
    let client = Client {
        options,
        socket: place.join("socket"),
        scratch: &place.path,
    };
    for (name, pid_mode) in [("cri", PID_OF_CONTAINER), ("cri-shared", PID_OF_POD)] {
        live(&client, &place, name, pid_mode, ids)?;
    }
    Ok(Done::Ran)
}

/// A pod, which goes with its containers.
struct Pod<'a> {
    client: &'a Client<'a>,
    id: String,
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            // Whatever keeps it is named by the case that failed.
            let _ = self
                .client
                .call(method, &Message::default().text(1, &self.id));
        }
    }
}

/// One pod, its life, and its end.
fn live(
    client: &Client<'_>,
    place: &Place,
    name: &str,
    pid_mode: u64,
    ids: &mut Ids,
) -> Result<()> {
    let options = client.options;
    let pod_name = format!("{}-{name}", options.prefix);
    let sandbox_config = sandbox_config(place, &pod_name, pid_mode, options);
    let request = Message::default().message(1, &sandbox_config);
    let sandbox = Pod {
        client,
        id: client.call("RunPodSandbox", &request)?.first_text()?,
    };
    ids.insert(sandbox.id.clone());
    let pod = format!("default/{pod_name}");
    expect(
        options,
        &format!("containerd:{}", sandbox.id),
        &[("pod", &pod)],
    )?;
    let mut containers = Vec::new();
    for name in ["main", "sidecar"] {
        let request = Message::default()
            .text(1, &sandbox.id)
            .message(2, &container_config(name, pid_mode))
            .message(3, &sandbox_config);
        let id = client.call("CreateContainer", &request)?.first_text()?;
        ids.insert(id.clone());
        client.call("StartContainer", &Message::default().text(1, &id))?;
        let fields = [
            ("name", name),
            ("image", IMAGE),
            ("pod", pod.as_str()),
            ("runtime", "containerd"),
        ];
        expect(options, &format!("containerd:{id}"), &fields)?;
        containers.push(id);
    }
    for id in &containers {
        let request = Message::default()
            .text(1, id)
            .texts(2, &["/bin/sh", "-c", LIFE])
            .number(3, 60);
        let reply = client.call("ExecSync", &request)?;
        // An exit code of zero is left out.
        ensure!(
            reply.ends_with_number(3).is_none(),
            "exec: {}",
            reply.lossy()
        );
    }
    for id in &containers {
        client.call("StopContainer", &Message::default().text(1, id))?;
        client.call("RemoveContainer", &Message::default().text(1, id))?;
    }
    Ok(())
}

/// Whose pid namespace a container has, as CRI numbers it.
const PID_OF_POD: u64 = 0;
const PID_OF_CONTAINER: u64 = 1;

/// The security context of a container or sandbox, with its choice of namespaces.
fn context(field: u64, pid_mode: u64) -> Message {
    let namespaces = Message::default().number(2, pid_mode);
    Message::default().message(field, &namespaces)
}

fn sandbox_config(place: &Place, name: &str, pid_mode: u64, options: &Options) -> Message {
    let metadata = Message::default()
        .text(1, name)
        .text(2, POD_UID)
        .text(3, "default");
    let parent = format!(
        "{}/kubepods/burstable/pod{POD_UID}",
        options.cgroup_parent()
    );
    Message::default()
        .message(1, &metadata)
        .text(2, name)
        .text(3, &place.join("logs").display().to_string())
        .message(
            8,
            &Message::default()
                .text(1, &parent)
                .message(2, &context(1, pid_mode)),
        )
}

fn container_config(name: &str, pid_mode: u64) -> Message {
    Message::default()
        .message(1, &Message::default().text(1, name))
        .message(2, &Message::default().text(1, IMAGE))
        .texts(3, &["/bin/sleep"])
        .texts(4, &["1000"])
        .text(11, &format!("{name}.log"))
        .message(15, &Message::default().message(2, &context(3, pid_mode)))
}

/// Starts the daemon and waits until it answers.
fn start(options: &Options, place: &Place) -> Result<Service> {
    let at = |name: &str| place.join(name).display().to_string();
    let config = format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{cni}"
"#,
        root = at("root"),
        state = at("state"),
        socket = at("socket"),
        opt = at("opt"),
        cni = at("cni"),
    );
    std::fs::create_dir_all(place.join("cni")).context("create a directory for CNI")?;
    let network = serde_json::json!({
        "cniVersion": "0.4.0", "name": "auditor-tests",
        "plugins": [{ "type": "ptp", "ipam": {
            "type": "host-local", "ranges": [[{ "subnet": "10.231.77.0/24" }]], "dataDir": at("ipam"),
        }}],
    });
    std::fs::write(place.join("cni/10-test.conflist"), network.to_string())
        .context("write a network")?;
    std::fs::write(place.join("config.toml"), config)
        .context("write containerd's configuration")?;
    let log = File::create(place.join("log")).context("create a log")?;
    let service = command("containerd")
        .arg("--config")
        .arg(place.join("config.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log)
        .spawn()
        .context("start containerd")?;
    let service = Service(service);
    let deadline = Instant::now() + options.patience * 10;
    loop {
        let mut version = command("ctr");
        version.arg("-a").arg(place.join("socket")).arg("version");
        if is_well(&mut version) {
            return Ok(service);
        }
        let said = || std::fs::read_to_string(place.join("log")).unwrap_or_default();
        ensure!(
            Instant::now() < deadline,
            "containerd does not answer: {}",
            said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_well(command: &mut Command) -> bool {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
