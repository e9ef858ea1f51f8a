//! Names that say nothing about whose machine it is: they stay.

use hashbrown::HashSet;
use std::sync::LazyLock;

/// Programs that most machines have, as command names, file names and units.
const PROGRAMS: &str = "
    (sd-pam) (systemd) agetty apt apt-get ash atd auditd auditor awk basename bash bpftool buildah
    buildkit-runc buildkitd busybox capsh cat chgrp chmod chown chronyd chroot cloud-init conmon
    conmonrs containerd containerd-shim containerd-shim-runc-v1 containerd-shim-runc-v2 coredns cp
    cri-dockerd crictl crio cron crond crun ctr curl cut dash date dbus dbus-broker dbus-daemon dd
    df dhclient dirname dmesg docker docker-compose docker-init docker-proxy dockerd du dumb-init
    echo entrypoint.sh env etcd expr false find flanneld flock fsck fuse-overlayfs getent getpcaps
    getty git gpg-agent grep groups gzip head hostname id incusd init install ionice ip ip6tables
    iptables irqbalance journalctl kata-runtime kill kmod kthreadd kube-apiserver
    kube-controller-manager kube-proxy kube-scheduler kubectl kubelet ld ld.so ldconfig less
    libvirtd ln logger login logrotate ls lsblk lxc-attach lxc-execute lxc-monitord lxc-start
    lxcfs lxd make md5sum mkdir mkfifo mknod mktemp modprobe mount mv nerdctl networkd-dispatcher
    newgidmap newuidmap nft nice nohup nsenter nsexec passt pasta pause perl pidof ping pivot_root
    podman polkitd prlimit ps pwd python python3 qemu-system-x86_64 readlink realpath rm rmdir
    rootlessport rsync rsyslogd runc runc:[0:PARENT] runc:[1:CHILD] runc:[2:INIT] runsc scp sed
    seq setpriv setsid setup-netns sh sha256sum skopeo sleep slirp4netns snapd socat sort ssh sshd
    sshd-session stat strace stress stress-ng su sudo supervisord sync sysctl syslogd systemctl
    systemd systemd-cgroups-agent systemd-executor systemd-hostnamed systemd-journal
    systemd-journald systemd-localed systemd-logind systemd-machined systemd-network
    systemd-networkd systemd-nspawn systemd-oomd systemd-resolve systemd-resolved systemd-run
    systemd-shutdown systemd-sysctl systemd-timedated systemd-timesyn systemd-timesyncd
    systemd-tmpfile systemd-tmpfiles systemd-udevd systemd-update-utmp systemd-userdbd
    systemd-userwor systemd-userwork tail tar tc tee test timeout tini top touch tr true udevadm
    udevd umount uname uniq unshare uptime vi vim wc wget which whoami xargs zsh
";

/// Directories and files that most machines have.
const DIRECTORIES: &str = "
    . .. acpi asound bin block boot bundle bus cgroup clear_refs config.json config.v2.json
    console containers core cwd dev etc exe fd firmware fs full group home hostname hosts
    interrupts ipc irq kcore kernel keys latency_stats lib lib32 lib64 libexec local log media
    memory mnt mqueue net netns ns null opt passwd pid powercap proc ptmx pts random resolv.conf
    root rootfs run sbin sched_debug scsi self serviceaccount shadow share shm snap srv stderr
    stdin stdout sys sysrq-trigger tcp thread-self time timer_list timer_stats tmp tty urandom
    user usr uts var zero
";

/// Components of cgroup paths that managers put there, and those that tell a naming scheme.
const CGROUPS: &str = "
    .. actions_job app.slice background.slice besteffort buildkit buildx burstable conmon
    container default docker ecs guaranteed init init.scope k8s.io kata_overhead kubelet
    kubelet.slice kubepods kubepods.slice leaf libpod-parent libpod_parent libvirt lxc lxc.monitor
    lxc.payload lxc.pivot machine.slice moby ns payload runtime session.slice supervisor
    system.slice user.slice
";

/// Words between the dashes of a slice's name.
const SLICE_WORDS: &str = "
    app background besteffort burstable getty kubelet kubepods machine session system user
";

/// Types of file systems, options of mounts and keys of those that have a value.
const MOUNTS: &str = "
    acl async atime bind bpf btrfs cgroup cgroup2 debugfs defaults dev devpts devtmpfs diratime
    dirsync exec ext4 fuse fuse.fuse-overlayfs gid hugetlbfs idmap iversion lazytime lowerdir mode
    mqueue newinstance nfs nfs4 noatime nodev nodiratime noexec norelatime nosuid nosymfollow
    nr_inodes overlay private proc ptmxmode ramfs rbind rdev relatime remount rexec rnoexec
    rnosuid ro rprivate rro rshared rslave runbindable rw securityfs shared shm silent size slave
    strictatime suid sync sysfs tmpcopyup tmpfs tracefs uid unbindable upperdir virtiofs workdir
    xfs xino zfs
";

/// Profiles that come with runtimes, and types that come with SELinux.
const PROFILES: &str = "
    container_init_t container_kvm_t container_runtime_t container_t cri-containerd.apparmor.d
    crio-default docker-default initrc_t kernel kernel_t nerdctl-default runtime/default spc_t
    svirt_lxc_net_t unconfined unconfined_service_t unconfined_t
";

/// Keys of labels and annotations that come with runtimes and orchestrators.
const LABELS: &str = "
    app.kubernetes.io/component app.kubernetes.io/instance app.kubernetes.io/managed-by
    app.kubernetes.io/name app.kubernetes.io/part-of app.kubernetes.io/version
    com.docker.compose.config-hash com.docker.compose.container-number com.docker.compose.oneoff
    com.docker.compose.project com.docker.compose.service com.docker.compose.version
    io.cri-containerd.kind io.kubernetes.container.name io.kubernetes.cri.container-name
    io.kubernetes.cri.container-type io.kubernetes.cri.image-name io.kubernetes.cri.sandbox-id
    io.kubernetes.cri.sandbox-name io.kubernetes.cri.sandbox-namespace
    io.kubernetes.cri.sandbox-uid io.kubernetes.pod.name io.kubernetes.pod.namespace
    io.kubernetes.pod.uid org.opencontainers.image.version
";

/// Which list a name is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Programs,
    Directories,
    Cgroups,
    SliceWords,
    Mounts,
    Profiles,
    Labels,
}

/// In the order of [`List`].
const TEXTS: [&str; 7] = [
    PROGRAMS,
    DIRECTORIES,
    CGROUPS,
    SLICE_WORDS,
    MOUNTS,
    PROFILES,
    LABELS,
];

static LISTS: LazyLock<[HashSet<&[u8]>; TEXTS.len()]> =
    LazyLock::new(|| TEXTS.map(|text| text.split_whitespace().map(str::as_bytes).collect()));

/// Whether a name stays as it is.
pub(super) fn stays(list: List, name: &[u8]) -> bool {
    LISTS[list as usize].contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each list is the one that its name says. Method: a name of each that no other has.
    #[test]
    fn lists_are_in_order() {
        for (list, name) in [
            (List::Programs, "runc:[2:INIT]"),
            (List::Directories, "rootfs"),
            (List::Cgroups, "libpod_parent"),
            (List::SliceWords, "getty"),
            (List::Mounts, "rbind"),
            (List::Profiles, "docker-default"),
            (List::Labels, "io.kubernetes.pod.uid"),
        ] {
            assert!(stays(list, name.as_bytes()), "{name}");
        }
        assert!(!stays(List::Programs, b"billing"));
    }
}
