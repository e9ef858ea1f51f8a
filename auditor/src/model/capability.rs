//! Capabilities by name: policies and output speak of `NET_ADMIN`, the kernel of bit 12.
//!
//! Numbers are those of `include/uapi/linux/capability.h` as of 5.9, where `CAP_CHECKPOINT_RESTORE`
//! came last; no kernel up to 7.2 has added one.

/// Names without `CAP_`; the index is the bit.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Every capability that has a name.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// Names of a set, in order of their bits. Bits without a name are left out: see [`unnamed`].
#[must_use]
pub fn names(mask: u64) -> Vec<&'static str> {
    (0..)
        .zip(NAMES)
        .filter(|(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, name)| name)
        .collect()
}

/// The name of one; `?` where it has none yet.
#[must_use]
pub fn name(bit: u8) -> &'static str {
    NAMES.get(usize::from(bit)).copied().unwrap_or("?")
}

/// The bits of a set that have no name yet.
#[must_use]
pub const fn unnamed(mask: u64) -> u64 {
    mask & !ALL
}

/// The bit number of a capability, with or without `CAP_`, in any case.
#[must_use]
pub fn parse(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    (0..)
        .zip(NAMES)
        .find(|(_, known)| *known == bare)
        .map(|(bit, _)| bit)
}

#[cfg(test)]
mod tests {
    use super::{ALL, NAMES, names, parse, unnamed};

    /// Each name parses to its own bit, with and without prefix, and back.
    #[test]
    fn names_and_bits_agree() {
        for (bit, name) in (0u8..).zip(NAMES) {
            assert_eq!(parse(name), Some(bit));
            assert_eq!(parse(&format!("cap_{}", name.to_lowercase())), Some(bit));
            assert_eq!(names(1 << bit), [name]);
        }
        assert_eq!(names(ALL).len(), NAMES.len());
        assert_eq!(parse("SYS_ADMIN"), Some(21));
        assert_eq!(parse("CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(parse("CAP_"), None);
        assert_eq!(unnamed(u64::MAX), u64::MAX << 41);
    }
}
