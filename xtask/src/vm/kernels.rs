//! The kernels of the matrix: Debian's cloud images, pinned by name and hash.
//!
//! Debian removes superseded packages. When a pinned one is gone, the newest of its series is installed from the same
//! suite through apt (with a directory tree of its own), which checks signatures instead of our hash, and a warning
//! says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::project;

/// One kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// How people and options call it.
    pub(crate) series: &'static str,
    /// Debian suite, for when the pinned file is gone.
    suite: &'static str,
    /// Debian's criu knows it. It knows neither the vDSO of newer ones, nor how older ones tell of restartable sequences.
    pub(crate) checkpoints: bool,
    /// Files, the one with the image first.
    packages: &'static [Package],
}

/// One pinned file.
#[derive(Debug)]
struct Package {
    /// Pool directory on the mirror.
    pool: &'static str,
    file: &'static str,
    sha256: &'static str,
}

/// A kernel on disk.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Compressed image, as QEMU boots it.
    pub(crate) image: PathBuf,
    /// Where its packages are unpacked.
    pub(crate) tree: PathBuf,
}

const MIRROR: &str = "http://deb.debian.org";
const SIGNED: &str = "debian/pool/main/l/linux-signed-amd64";

/// The matrix.
pub(crate) const KERNELS: [Kernel; 4] = [
    Kernel {
        series: "5.10",
        suite: "bullseye",
        checkpoints: false,
        packages: &[Package {
            pool: SIGNED,
            file: "linux-image-5.10.0-32-cloud-amd64_5.10.223-1_amd64.deb",
            sha256: "fb4a1229952d892138532c1d9f40a7fd0bd408e4dcf969c12e4524b6a89fdcb8",
        }],
    },
    Kernel {
        series: "6.1",
        suite: "bookworm",
        checkpoints: true,
        packages: &[Package {
            pool: "debian-security/pool/updates/main/l/linux-signed-amd64",
            file: "linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb",
            sha256: "e7d02b943971edcb8790e256c02cfab3bca6c3d37c1bf25392a57c71300615ee",
        }],
    },
    Kernel {
        series: "6.12",
        suite: "trixie",
        checkpoints: true,
        packages: &[Package {
            pool: SIGNED,
            file: "linux-image-6.12.117+deb13-cloud-amd64_6.12.117-1_amd64.deb",
            sha256: "e9893e5295d0549b8852611f12a4b8b5f6cc4b8128dcc2086b9847793b904ab7",
        }],
    },
    Kernel {
        series: "7.2",
        suite: "sid",
        checkpoints: false,
        packages: &[
            Package {
                pool: SIGNED,
                file: "linux-binary-7.2.13+deb14-cloud-amd64_7.2.13-1_amd64.deb",
                sha256: "03e41f1c34c16583462f029e81944a85ebcdb78098c258dedfa1cfdd680a27f8",
            },
            Package {
                pool: "debian/pool/main/l/linux",
                file: "linux-modules-7.2.13+deb14-cloud-amd64_7.2.13-1_amd64.deb",
                sha256: "97d79546041e3fdfb44dccff180938894d1bf8eb298f091f88539c1b37080bef",
            },
        ],
    },
];

impl Package {
    /// What Debian calls it without the version: `linux-image`.
    fn kind(&self) -> Option<&'static str> {
        let digit = self
            .file
            .find(|character: char| character.is_ascii_digit())?;
        self.file[..digit].strip_suffix('-')
    }
}

/// Gives the kernel of a series.
pub(crate) fn by_series(series: &str) -> Result<&'static Kernel> {
    let known = || {
        KERNELS
            .iter()
            .map(|kernel| kernel.series)
            .collect::<Vec<_>>()
            .join(", ")
    };
    KERNELS
        .iter()
        .find(|kernel| kernel.series == series)
        .with_context(|| format!("no kernel {series} in the matrix ({})", known()))
}

/// Downloads and unpacks a kernel, unless that was done before.
pub(crate) fn fetch(kernel: &Kernel) -> Result<Ready> {
    let Kernel {
        series, packages, ..
    } = kernel;
    let trees = project::target().join("vm/kernels");
    let debs = project::target().join("vm/debs");
    std::fs::create_dir_all(&debs).with_context(|| format!("create {}", debs.display()))?;
    // A changed pin is another tree.
    let tree = trees.join(format!("{series}-{}", &packages[0].sha256[..12]));
    if let Some(image) = find_image(&tree) {
        return Ok(Ready { image, tree });
    }
    let download = |package: &Package| {
        let path = debs.join(package.file);
        pinned(package, &path).map(|()| path)
    };
    let error = match packages
        .iter()
        .map(download)
        .collect::<Result<Vec<PathBuf>>>()
    {
        Ok(files) => return unpack(&files, tree),
        Err(error) => error,
    };
    eprintln!(
        "warning: kernel {series}: {error:#}; taking the newest of its series, which no hash pins"
    );
    let tree = trees.join(format!("{series}-newest"));
    match find_image(&tree) {
        Some(image) => Ok(Ready { image, tree }),
        None => unpack(&newest(kernel, &debs)?, tree),
    }
}

fn pinned(package: &Package, path: &Path) -> Result<()> {
    let Package { pool, file, sha256 } = package;
    if !path.is_file() {
        let partial = path.with_extension("partial");
        eprintln!("downloading {file}");
        project::run(
            Command::new("curl")
                .args([
                    "--fail",
                    "--silent",
                    "--show-error",
                    "--location",
                    "--retry",
                    "5",
                    "--retry-all-errors",
                    "--connect-timeout",
                    "30",
                    // Bytes a second, and for how many seconds at least.
                    "--speed-limit",
                    "1000",
                    "--speed-time",
                    "60",
                    "--output",
                ])
                .arg(&partial)
                .arg(format!("{MIRROR}/{pool}/{}", file.replace('+', "%2B"))),
        )?;
        std::fs::rename(&partial, path).with_context(|| format!("rename {}", partial.display()))?;
    }
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if digest != *sha256 {
        std::fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    }
    ensure!(
        digest == *sha256,
        "{file} has sha256 {digest}, not {sha256}"
    );
    Ok(())
}

/// The newest packages of a series in its suite, by apt: as many as are pinned.
fn newest(kernel: &Kernel, debs: &Path) -> Result<Vec<PathBuf>> {
    let tree = debs.join(format!("apt-{}", kernel.suite));
    for directory in ["state/lists/partial", "cache/archives/partial"] {
        let path = tree.join(directory);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    let Kernel { series, suite, .. } = kernel;
    let list = tree.join("sources.list");
    std::fs::write(&list, format!("deb {MIRROR}/debian {suite} main\n"))
        .with_context(|| format!("write {}", list.display()))?;
    let apt = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(debs);
        for (option, value) in [
            ("Dir::Etc::sourcelist", list.as_path()),
            ("Dir::Etc::sourceparts", Path::new("-")),
            ("Dir::State", &tree.join("state")),
            ("Dir::State::status", Path::new("/dev/null")),
            ("Dir::Cache", &tree.join("cache")),
            ("APT::Architecture", Path::new("amd64")),
            ("APT::Sandbox::User", Path::new("root")),
        ] {
            command
                .arg("--option")
                .arg(format!("{option}={}", value.display()));
        }
        command
    };
    project::run(apt("apt-get").args(["--quiet", "update"]))?;
    let kinds: Vec<&str> = kernel.packages.iter().filter_map(Package::kind).collect();
    let first = kinds.first().context("no package is pinned")?;
    let pattern = format!("^{first}-{}[.-].*-cloud-amd64$", series.replace('.', "\\."));
    let found = project::output(apt("apt-cache").args(["search", "--names-only", &pattern]))?;
    let names = found
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let name = names
        .max_by_key(|name| numbers(name))
        .with_context(|| format!("{suite} has no package {pattern}"))?;
    eprintln!("kernel {series} is {name}");
    let version = name.strip_prefix(first).unwrap_or_default();
    let names: Vec<String> = kinds
        .iter()
        .map(|kind| format!("{kind}{version}"))
        .collect();
    project::run(apt("apt-get").args(["--quiet", "download"]).args(&names))?;
    names.iter().map(|name| downloaded(name, debs)).collect()
}

/// The file that apt left of a package.
fn downloaded(name: &str, debs: &Path) -> Result<PathBuf> {
    let start = format!("{name}_");
    let mut paths = std::fs::read_dir(debs)?.flatten().map(|entry| entry.path());
    let file = paths.find(|path| {
        let file = path.file_name().and_then(|file| file.to_str());
        file.is_some_and(|file| file.starts_with(&start))
    });
    file.with_context(|| format!("apt did not leave {name} in {}", debs.display()))
}

/// The numbers in a name, so that 6.1.0-9 sorts before 6.1.0-10.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn unpack(files: &[PathBuf], tree: PathBuf) -> Result<Ready> {
    let partial = PathBuf::from(format!("{}.partial", tree.display()));
    if partial.exists() {
        std::fs::remove_dir_all(&partial)
            .with_context(|| format!("remove {}", partial.display()))?;
    }
    std::fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
    for file in files {
        project::run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(file)
                .arg(&partial),
        )?;
    }
    std::fs::rename(&partial, &tree).with_context(|| format!("rename {}", partial.display()))?;
    let image = find_image(&tree).with_context(|| format!("no image in {}", tree.display()))?;
    Ok(Ready { image, tree })
}

/// Debian keeps the image in /boot, and since 7.1 beside the modules.
fn find_image(tree: &Path) -> Option<PathBuf> {
    let entries = |path: &Path| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect::<Vec<_>>()
    };
    let is_image = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("vmlinuz"))
    };
    let modules = entries(&tree.join("usr/lib/modules"))
        .into_iter()
        .flat_map(|path| entries(&path));
    entries(&tree.join("boot"))
        .into_iter()
        .chain(modules)
        .find(is_image)
}

/// A module's file, by name, if the kernel's packages hold it.
pub(crate) fn find_module(tree: &Path, name: &str) -> Option<PathBuf> {
    let start = format!("{name}.ko");
    let mut queue = vec![tree.join("lib/modules"), tree.join("usr/lib/modules")];
    while let Some(directory) = queue.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                queue.push(path);
            } else if entry
                .file_name()
                .to_str()
                .is_some_and(|file| file.starts_with(&start))
            {
                return Some(path);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{KERNELS, Package, numbers};

    /// Goal: the newest package wins. Method: names whose text order is wrong.
    #[test]
    fn names_sort_by_number() {
        let older = "linux-image-6.1.0-9-cloud-amd64";
        let newer = "linux-image-6.1.0-10-cloud-amd64";
        assert!(numbers(newer) > numbers(older));
    }

    /// Goal: a kernel that is gone is looked for under the names of all its packages. Method: those that are pinned.
    #[test]
    fn packages_have_names() {
        for kernel in &KERNELS {
            let kinds: Vec<_> = kernel.packages.iter().map(Package::kind).collect();
            let image = [Some("linux-image")];
            let split = [Some("linux-binary"), Some("linux-modules")];
            assert!(kinds == image || kinds == split, "{kinds:?}");
        }
    }
}
