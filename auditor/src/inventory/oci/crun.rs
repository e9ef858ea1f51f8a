//! crun's `status`: a short file; the spec lies beside it as a copy of `config.json`.

use serde::Deserialize;

use super::{CgroupPaths, ParseError, Ticks, json, positive_pid, present};

/// What crun keeps of a container. The id is the name of the directory that the file lies in.
#[derive(Clone, Debug, PartialEq)]
pub struct CrunStatus {
    /// Init's pid; `None` once it is gone.
    pub init_pid: Option<u32>,
    /// Init's start in clock ticks since boot.
    pub init_start_ticks: Option<u64>,
    /// Cgroup.
    pub cgroup_paths: CgroupPaths,
    /// Systemd scope, with the systemd driver.
    pub scope: Option<String>,
    /// Whether systemd made the cgroup.
    pub systemd_cgroup: bool,
    /// Bundle directory.
    pub bundle: Option<String>,
    /// Root file system, relative to the bundle or absolute.
    pub rootfs: Option<String>,
    /// Creation time, RFC 3339.
    pub created: Option<String>,
    /// Name of the user who ran crun.
    pub owner: Option<String>,
}

const CRUN_STATUS: &str = "crun status";

/// Parses crun's `status`.
///
/// # Errors
/// When it is not such a file or names no bundle.
pub fn parse_crun_status(bytes: &[u8]) -> Result<CrunStatus, ParseError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Wire {
        #[serde(default)]
        pid: i64,
        process_start_time: Option<Ticks>,
        cgroup_path: Option<String>,
        scope: Option<String>,
        rootfs: Option<String>,
        #[serde(default)]
        systemd_cgroup: bool,
        bundle: Option<String>,
        created: Option<String>,
        owner: Option<String>,
    }
    let wire: Wire = json(CRUN_STATUS, bytes)?;
    let bundle = present(wire.bundle);
    if bundle.is_none() {
        return Err(ParseError::Missing {
            format: CRUN_STATUS,
            field: "bundle",
        });
    }
    Ok(CrunStatus {
        init_pid: positive_pid(wire.pid),
        init_start_ticks: wire.process_start_time.and_then(Ticks::known),
        cgroup_paths: CgroupPaths::from_path(wire.cgroup_path.as_deref().unwrap_or("")),
        scope: present(wire.scope),
        systemd_cgroup: wire.systemd_cgroup,
        bundle,
        rootfs: present(wire.rootfs),
        created: present(wire.created),
        owner: present(wire.owner),
    })
}
