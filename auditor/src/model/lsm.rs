//! What a Linux security module says of a task, in `/proc/PID/attr/current`.
//!
//! Only what the label itself tells: what a profile or a type allows is in a policy that is not read here. So a label is
//! shown, and takes no capability away.

/// A label, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label<'a> {
    /// AppArmor: a profile and its mode (`enforce`, `complain`, `kill`, `mixed`, …).
    AppArmor {
        /// The profile; several that are stacked stand as the kernel writes them, with `//&` between them.
        profile: &'a str,
        /// The mode.
        mode: &'a str,
    },
    /// SELinux: `user:role:type:level`.
    Selinux {
        /// The type, of a process also called its domain.
        kind: &'a str,
        /// Sensitivity and categories (`s0:c1,c2`), or a range of them.
        level: &'a str,
    },
    /// No profile at all.
    Unconfined,
    /// Another module's.
    Other(&'a str),
}

/// Types of SELinux that nothing is forbidden to, or next to nothing.
const FREE: [&str; 6] = [
    "initrc_t",
    "kernel_t",
    "spc_t",
    "unconfined_service_t",
    "unconfined_t",
    "container_runtime_t",
];

impl<'a> Label<'a> {
    /// Reads a label as the kernel writes it, without the end of the line.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        if text == "unconfined" {
            return Self::Unconfined;
        }
        let mode = text.strip_suffix(')').and_then(|t| t.rsplit_once(" ("));
        if let Some((profile, mode)) = mode {
            return Self::AppArmor { profile, mode };
        }
        let mut parts = text.splitn(4, ':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(_), Some(kind), level) if !kind.is_empty() => Self::Selinux {
                kind,
                level: level.unwrap_or_default(),
            },
            _ => Self::Other(text),
        }
    }

    /// Whether it forbids anything. `None`: nobody can tell by the label.
    #[must_use]
    pub fn confines(&self) -> Option<bool> {
        match self {
            Self::AppArmor { mode, .. } => match *mode {
                "enforce" | "kill" | "prompt" => Some(true),
                "complain" | "unconfined" => Some(false),
                _ => None,
            },
            Self::Selinux { kind, .. } => Some(!FREE.contains(kind)),
            Self::Unconfined => Some(false),
            Self::Other(_) => None,
        }
    }

    /// Categories of SELinux, by which containers of one type are kept apart: `c1,c2`. Empty: none, which lets in
    /// whoever has the type.
    #[must_use]
    pub fn categories(&self) -> Option<&'a str> {
        let Self::Selinux { level, .. } = self else {
            return None;
        };
        // Of a range, what it may have at most.
        let high = level.rsplit_once('-').map_or(*level, |(_, high)| high);
        Some(
            high.split_once(':')
                .map_or("", |(_, categories)| categories),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Label;
    use proptest::prelude::*;

    /// Goal: labels as kernels write them are read. Method: each module's, confined and not.
    #[test]
    fn labels_are_taken_apart() {
        let docker = Label::parse("docker-default (enforce)");
        let apparmor = |profile, mode| Label::AppArmor { profile, mode };
        assert_eq!(docker, apparmor("docker-default", "enforce"));
        assert_eq!((docker.confines(), docker.categories()), (Some(true), None));
        let stacked = Label::parse("a (b)//&c (complain)");
        assert_eq!(stacked, apparmor("a (b)//&c", "complain"));
        assert_eq!(stacked.confines(), Some(false));
        assert_eq!(Label::parse("a//&b (mixed)").confines(), None);
        assert_eq!(Label::parse("unconfined").confines(), Some(false));

        let podman = Label::parse("system_u:system_r:container_t:s0:c12,c345");
        let (kind, level) = ("container_t", "s0:c12,c345");
        assert_eq!(podman, Label::Selinux { kind, level });
        assert_eq!(podman.categories(), Some("c12,c345"));
        assert_eq!(podman.confines(), Some(true));
        let user = Label::parse("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023");
        assert_eq!(user.categories(), Some("c0.c1023"));
        assert_eq!(user.confines(), Some(false));
        assert_eq!(Label::parse("u:r:spc_t:s0").categories(), Some(""));

        // SELinux before its policy is loaded; Smack.
        for other in ["kernel", "_", "System"] {
            assert_eq!(Label::parse(other), Label::Other(other));
            assert_eq!(Label::parse(other).confines(), None);
        }
    }

    proptest! {
        /// Goal: no label is too odd. Method: any text.
        #[test]
        fn any_text_is_read(text: String) {
            let label = Label::parse(&text);
            let _ = (label.confines(), label.categories());
        }
    }
}
