//! From names to numbers: every row of the field table is looked up in the kernel's type information, and
//! what the programs assume about it (its size, that it is a pointer) is checked before anything is loaded.
//!
//! A wrong offset reads plausible garbage, and an auditor that reads garbage accuses the innocent. So
//! there is no fall-back for a required field: what cannot be proven refuses to run, with all that was
//! tried. An optional field that is absent becomes [`MISSING`]; the programs prune what needs it, and
//! the report says what is not seen.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use auditor_common::fields::{FieldKind, FieldSpec, MISSING, Need};
use thiserror::Error;

use super::btf::{Btf, BtfError, Field, Kind};

/// Where the running kernel keeps its type information (5.4+, `CONFIG_DEBUG_INFO_BTF`).
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";
/// Bytes of a BTF file. Distribution kernels have 4 to 7 MiB.
pub const MAX_BTF_LEN: u64 = 64 << 20;

/// Why type information could not be loaded.
#[derive(Debug, Error)]
pub enum LoadBtfError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}{hint}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// The file is larger than [`MAX_BTF_LEN`].
    #[error("{} is larger than {MAX_BTF_LEN} bytes: not the BTF of a kernel", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not BTF.
    #[error("{}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BtfError,
    },
}

/// Reads type information from a file, by default from the running kernel.
///
/// # Errors
/// When the file cannot be read, is too large, or is not BTF.
pub fn load_btf(path: Option<&Path>) -> Result<Btf, LoadBtfError> {
    let hint = match path {
        None => "; the kernel may lack CONFIG_DEBUG_INFO_BTF: pass its BTF with --btf FILE",
        Some(_) => "",
    };
    let path = path.unwrap_or(Path::new(VMLINUX_BTF)).to_owned();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path)
        .and_then(|file| file.take(MAX_BTF_LEN + 1).read_to_end(&mut bytes));
    match read {
        Err(source) => Err(LoadBtfError::Unreadable { path, source, hint }),
        Ok(len) if len as u64 > MAX_BTF_LEN => Err(LoadBtfError::TooLarge { path }),
        Ok(_) => Btf::parse(bytes).map_err(|source| LoadBtfError::Invalid { path, source }),
    }
}

/// Where every field is on one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    values: Vec<(&'static str, u32)>,
    /// Optional fields that this kernel lacks.
    pub missing: Vec<Unresolved>,
}

impl Resolved {
    /// The number for a symbol; [`MISSING`] for an absent optional field, `None` for an unknown symbol.
    #[must_use]
    pub fn get(&self, symbol: &str) -> Option<u32> {
        self.iter()
            .find(|&(known, _)| known == symbol)
            .map(|(_, value)| value)
    }

    /// All symbols and their numbers, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        self.values.iter().copied()
    }
}

/// A row that no alternative resolves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Name of the row.
    pub symbol: &'static str,
    /// What the programs need it to be.
    pub kind: FieldKind,
    /// Each path that was tried and what was found instead.
    pub tried: Vec<(&'static str, Mismatch)>,
    /// What is not seen without it.
    pub sees: &'static str,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {} (", self.symbol)?;
        describe(self.kind, f)?;
        f.write_str(") not found: ")?;
        for (index, (path, why)) in self.tried.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}tried `{path}`: {why}")?;
        }
        write!(f, "; not seen: {}", self.sees)
    }
}

/// Why one path is not what a row needs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// The path leads nowhere.
    #[error(transparent)]
    Lookup(#[from] BtfError),
    /// The path leads to something else.
    #[error("is {} of {} bytes", found.kind, found.size)]
    Shape {
        /// What is there.
        found: Field,
    },
    /// The enumerator's value is negative or too large for a global.
    #[error("has value {value}, which does not fit")]
    Value {
        /// The value.
        value: i64,
    },
}

/// Required fields that cannot be resolved: the sensor cannot run on this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError {
    /// The rows.
    pub required: Vec<Unresolved>,
}

impl std::error::Error for ResolveError {}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this kernel lacks {} required field(s)",
            self.required.len()
        )?;
        self.required
            .iter()
            .try_for_each(|row| write!(f, "; {row}"))
    }
}

/// Looks up every row of the table.
///
/// # Errors
/// When a required row cannot be resolved; the error lists all such rows.
pub fn resolve(btf: &Btf, specs: &[FieldSpec]) -> Result<Resolved, ResolveError> {
    let mut resolved = Resolved::default();
    let mut required = Vec::new();
    for spec in specs {
        let value = match (resolve_one(btf, spec), spec.need) {
            (Ok(value), _) => value,
            (Err(unresolved), Need::Optional) => {
                resolved.missing.push(unresolved);
                MISSING
            }
            (Err(unresolved), Need::Required) => {
                required.push(unresolved);
                MISSING
            }
        };
        resolved.values.push((spec.symbol, value));
    }
    if required.is_empty() {
        Ok(resolved)
    } else {
        Err(ResolveError { required })
    }
}

fn resolve_one(btf: &Btf, spec: &FieldSpec) -> Result<u32, Unresolved> {
    let mut tried = Vec::new();
    for path in spec.paths {
        match resolve_path(btf, path, spec.kind) {
            Ok(value) => return Ok(value),
            Err(why) => tried.push((*path, why)),
        }
    }
    Err(Unresolved {
        symbol: spec.symbol,
        kind: spec.kind,
        tried,
        sees: spec.sees,
    })
}

fn resolve_path(btf: &Btf, path: &str, kind: FieldKind) -> Result<u32, Mismatch> {
    match kind {
        FieldKind::SizeOf => {
            let name = path.split('.').next().unwrap_or(path);
            Ok(btf.size_of(name)?)
        }
        FieldKind::Enumerator => {
            let value = btf.enumerator(path)?;
            let fits = u32::try_from(value).ok().filter(|&value| value != MISSING);
            fits.ok_or(Mismatch::Value { value })
        }
        FieldKind::Int(_)
        | FieldKind::Ptr
        | FieldKind::Embedded
        | FieldKind::Array
        | FieldKind::Bytes(_) => {
            let found = btf.field(path)?;
            match fits(found, kind) && found.offset != MISSING {
                true => Ok(found.offset),
                false => Err(Mismatch::Shape { found }),
            }
        }
    }
}

fn fits(found: Field, wanted: FieldKind) -> bool {
    match wanted {
        FieldKind::Int(bytes) => {
            matches!(found.kind, Kind::Int | Kind::Enum) && found.size == bytes
        }
        FieldKind::Ptr => found.kind == Kind::Ptr,
        FieldKind::Embedded => matches!(found.kind, Kind::Struct | Kind::Union),
        FieldKind::Array => found.kind == Kind::Array,
        FieldKind::Bytes(bytes) => {
            let opaque = [
                Kind::Array,
                Kind::Struct,
                Kind::Union,
                Kind::Int,
                Kind::Enum,
            ];
            opaque.contains(&found.kind) && found.size == bytes
        }
        FieldKind::SizeOf | FieldKind::Enumerator => false,
    }
}

fn describe(kind: FieldKind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match kind {
        FieldKind::Int(bytes) => write!(f, "an integer of {bytes} bytes"),
        FieldKind::Ptr => f.write_str("a pointer"),
        FieldKind::Embedded => f.write_str("an embedded struct or union"),
        FieldKind::Array => f.write_str("an array"),
        FieldKind::Bytes(bytes) => write!(f, "{bytes} bytes"),
        FieldKind::SizeOf => f.write_str("a type's size"),
        FieldKind::Enumerator => f.write_str("an enumerator"),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every row kind accepts what it should and names what it refuses. Method: rows against the
    //! walker's sample file, the real table against the running kernel.

    use super::super::btf::tests::{host_bytes, sample};
    use super::*;

    fn spec(paths: &'static [&'static str], kind: FieldKind, need: Need) -> FieldSpec {
        FieldSpec {
            symbol: "FIELD",
            paths,
            kind,
            need,
            sees: "namespaces",
        }
    }

    fn btf() -> Btf {
        Btf::parse(sample().finish()).unwrap()
    }

    fn value(path: &'static [&'static str], kind: FieldKind) -> Option<u32> {
        resolve(&btf(), &[spec(path, kind, Need::Required)])
            .ok()?
            .get("FIELD")
    }

    #[test]
    fn every_kind_of_row_resolves() {
        assert_eq!(value(&["task.pid"], FieldKind::Int(4)), Some(0));
        assert_eq!(value(&["task.state"], FieldKind::Int(4)), Some(28));
        assert_eq!(value(&["task.ns"], FieldKind::Ptr), Some(16));
        assert_eq!(value(&["task.own"], FieldKind::Embedded), Some(48));
        assert_eq!(value(&["task.comm"], FieldKind::Array), Some(32));
        assert_eq!(value(&["task.comm"], FieldKind::Bytes(16)), Some(32));
        assert_eq!(value(&["task.own"], FieldKind::Bytes(16)), Some(48));
        assert_eq!(value(&["task"], FieldKind::SizeOf), Some(64));
        assert_eq!(value(&["state.RUNNING"], FieldKind::Enumerator), Some(0));
        assert_eq!(
            value(&["task.gone", "task.pid"], FieldKind::Int(4)),
            Some(0)
        );
    }

    #[test]
    fn wrong_shapes_are_refused() {
        assert_eq!(value(&["task.pid"], FieldKind::Int(8)), None);
        assert_eq!(value(&["task.pid"], FieldKind::Ptr), None);
        assert_eq!(value(&["task.ns"], FieldKind::Int(8)), None);
        assert_eq!(value(&["task.ns"], FieldKind::Bytes(8)), None);
        assert_eq!(value(&["task.comm"], FieldKind::Embedded), None);
        assert_eq!(
            value(&["state.DEAD"], FieldKind::Enumerator),
            None,
            "collides with MISSING"
        );
    }

    #[test]
    fn absent_optional_field_is_missing_with_its_consequence() {
        let resolved = resolve(
            &btf(),
            &[spec(&["task.gone"], FieldKind::Ptr, Need::Optional)],
        )
        .unwrap();
        assert_eq!(resolved.get("FIELD"), Some(MISSING));
        assert_eq!(resolved.get("OTHER"), None);
        let want = "field FIELD (a pointer) not found: tried `task.gone`: `task` has no member `gone`; \
                    not seen: namespaces";
        assert_eq!(resolved.missing[0].to_string(), want);
    }

    #[test]
    fn absent_required_field_names_all_that_was_tried() {
        let rows = [spec(
            &["task.gone", "task.pid"],
            FieldKind::Ptr,
            Need::Required,
        )];
        let want = "this kernel lacks 1 required field(s); field FIELD (a pointer) not found: \
                    tried `task.gone`: `task` has no member `gone`, \
                    tried `task.pid`: is an integer of 4 bytes; not seen: namespaces";
        assert_eq!(resolve(&btf(), &rows).unwrap_err().to_string(), want);
    }

    #[test]
    fn host_kernel_resolves_the_whole_table() {
        let Some(bytes) = host_bytes() else { return };
        let btf = Btf::parse(bytes).unwrap();
        let resolved = resolve(&btf, auditor_common::fields::FIELDS).unwrap();
        assert_eq!(
            resolved.iter().count(),
            auditor_common::fields::FIELDS.len()
        );
    }

    #[test]
    fn files_that_are_no_btf_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = |path: &Path| load_btf(Some(path)).unwrap_err().to_string();
        assert!(text(&dir.path().join("none")).starts_with("cannot read "));
        assert!(text(dir.path()).starts_with("cannot read "));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(text(&file).ends_with("file: not BTF: empty"));
        std::fs::write(&file, sample().finish()).unwrap();
        assert!(load_btf(Some(&file)).is_ok());
    }
}
