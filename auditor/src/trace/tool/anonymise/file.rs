//! Command names and paths of files under other names.

use super::allowed::{List, stays};
use super::pseudonym::{Pseudonyms, is_decimal};

impl Pseudonyms {
    /// A command name: at most 15 bytes.
    pub(super) fn command(&self, name: &[u8]) -> Vec<u8> {
        if stays(List::Programs, name) || is_decimal(name) {
            return name.to_vec();
        }
        self.word(name).into_bytes()
    }

    /// A path: each component that most machines have stays. What is no path is one component.
    pub(super) fn file_path(&self, path: &[u8]) -> String {
        let components: Vec<String> = path
            .split(|&b| b == b'/')
            .map(|name| {
                let known = stays(List::Programs, name) || stays(List::Directories, name);
                match known {
                    true => String::from_utf8_lossy(name).into_owned(),
                    false => self.id(name),
                }
            })
            .collect();
        components.join("/")
    }

    /// A path by component, each ended by a NUL, the last one first.
    pub(super) fn components(&self, components: &[u8]) -> Vec<u8> {
        let mut hidden = Vec::with_capacity(components.len());
        for name in components
            .split(|&b| b == 0)
            .filter(|name| !name.is_empty())
        {
            match name {
                b"/" => hidden.push(b'/'),
                _ => hidden.extend_from_slice(self.file_path(name).as_bytes()),
            }
            hidden.push(0);
        }
        hidden
    }

    /// The name of a sysctl stays; behind its NUL, the value goes.
    pub(super) fn sysctl(&self, name: &[u8]) -> Vec<u8> {
        let mut parts = name.splitn(2, |&b| b == 0);
        let mut hidden = parts.next().unwrap_or_default().to_vec();
        if let Some(value) = parts.next() {
            hidden.push(0);
            hidden.extend_from_slice(self.word(value).as_bytes());
        }
        hidden
    }

    /// The name of a unix socket: a path, or behind a NUL an abstract one.
    pub(super) fn socket(&self, name: &[u8]) -> Vec<u8> {
        match name.split_first() {
            Some((0, rest)) => [&[0], self.file_path(rest).as_bytes()].concat(),
            _ => self.file_path(name).into_bytes(),
        }
    }

    /// The path of a text that is there or not.
    pub(super) fn path_text(&self, path: &mut String) {
        *path = self.file_path(path.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::Pseudonyms;

    /// Goal: the usual names stay, the others go, and one name has one pseudonym as a file and as a command.
    #[test]
    fn paths_and_commands() {
        let names = Pseudonyms::new(b"key");
        for path in [
            "/usr/bin/runc",
            "/proc/self/exe",
            "/proc/417/ns/net",
            "",
            "/",
        ] {
            assert_eq!(names.file_path(path.as_bytes()), path);
        }
        let other = names.file_path(b"/opt/acme/bin/billing");
        assert!(
            other.starts_with("/opt/x") && !other.contains("acme"),
            "{other}"
        );
        let file = other.rsplit('/').next().unwrap().as_bytes();
        assert_eq!(names.command(b"billing"), file);
        assert!(file.len() < auditor_common::limits::COMM_LEN);
        assert_eq!(names.command(b"systemd"), b"systemd");
    }
}
