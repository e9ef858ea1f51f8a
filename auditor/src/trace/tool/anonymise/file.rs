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
