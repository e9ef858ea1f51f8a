//! A walker over the kernel's own type information (BTF), so that one object serves every kernel.
//!
//! The compiler emits no CO-RE relocations for our programs, and a kernel's structs move with every
//! release and configuration. So the agent asks the running kernel where its fields are. Of all that BTF
//! says only four questions matter here: where is a member, what is it, how large is a type, what is an
//! enumerator's value.
//!
//! The bytes are not trusted: `--btf FILE` takes any file. Invariants: no index into the bytes without a
//! bounds check, no recursion deeper than [`MAX_DEPTH`], no lookup that visits more than [`MAX_VISITS`]
//! members, no panic.
//!
//! Format: Documentation/bpf/btf.rst. `vlen` has 16 bits and `kind` 5 up to Linux 7.0; later kernels widen
//! them to 24 and 7 into bits that were zero before, and add a layout section that gives the size of kinds
//! that a reader does not know. Both are read here.

mod error;
mod raw;
#[cfg(test)]
pub(crate) mod tests;

pub use error::BtfError;
use raw::{Head, Raw, kind};

/// Depth of modifier chains and of anonymous members within each other.
pub const MAX_DEPTH: usize = 32;
/// Members visited in one lookup. `task_struct`, the largest, needs about 300.
pub const MAX_VISITS: usize = 1 << 20;
/// Bytes of a name. The kernel's own limit is 512 (`KSYM_NAME_LEN`).
pub const MAX_NAME_LEN: usize = 512;

/// Every architecture that the kernel programs are built for.
const POINTER_LEN: u64 = 8;

/// What a type is, modifiers and typedefs removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer, `bool` and `char` included.
    Int,
    /// An enum of any size.
    Enum,
    /// A floating point number.
    Float,
    /// A pointer.
    Ptr,
    /// An array.
    Array,
    /// A struct.
    Struct,
    /// A union.
    Union,
    /// `void`.
    Void,
    /// Anything that cannot be a field: forward declaration, function, section.
    Other,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Int => "an integer",
            Self::Enum => "an enum",
            Self::Float => "a float",
            Self::Ptr => "a pointer",
            Self::Array => "an array",
            Self::Struct => "a struct",
            Self::Union => "a union",
            Self::Void => "void",
            Self::Other => "an incomplete type or a function",
        })
    }
}

/// Answer to [`Btf::field`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the path's first type.
    pub offset: u32,
    /// What the field is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u32,
}

/// Type information of one kernel.
#[derive(Debug)]
pub struct Btf(Raw);

/// A member that a name led to.
#[derive(Clone, Copy)]
struct Member {
    bits: u64,
    type_id: u32,
    bitfield: bool,
}

impl Btf {
    /// Checks the header and indexes all types.
    ///
    /// # Errors
    /// When the bytes are not little-endian BTF of version 1, or a section or type leaves its bounds.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, BtfError> {
        Raw::parse(bytes.into()).map(Self)
    }

    /// Number of types, `void` not counted.
    #[must_use]
    pub fn type_count(&self) -> usize {
        self.0.type_count()
    }

    /// Where the field at `path` is (`task_struct.nsproxy`, `mnt_namespace.ns.inum`) and what it is.
    ///
    /// The first part names a type; each further part a member, also of anonymous structs and unions
    /// within. A path does not go through pointers or arrays.
    ///
    /// # Errors
    /// When a part does not exist or is no struct or union, the field is a bitfield, several types of
    /// the name disagree, or the bytes are corrupt.
    pub fn field(&self, path: &str) -> Result<Field, BtfError> {
        let (name, members) = path.split_once('.').unwrap_or((path, ""));
        self.agreed(name, path, |id| self.field_in(id, name, members, path))
    }

    /// Bytes of the type `name`.
    ///
    /// # Errors
    /// As for [`Btf::field`].
    pub fn size_of(&self, name: &str) -> Result<u32, BtfError> {
        self.agreed(name, name, |id| self.size_of_id(id, name))
    }

    /// Value of an enumerator: `cgroup_subsys_id.memory_cgrp_id`.
    ///
    /// # Errors
    /// As for [`Btf::field`].
    pub fn enumerator(&self, path: &str) -> Result<i64, BtfError> {
        let (name, member) = path.split_once('.').unwrap_or((path, ""));
        self.agreed(name, path, |id| {
            let mut found = None;
            self.each_enumerator(id, name, |name_offset, value| {
                if found.is_none() && !member.is_empty() && self.0.name_is(name_offset, member) {
                    found = Some(value);
                }
            })?;
            found.ok_or_else(|| no_such_member(name, member))
        })
    }

    /// All enumerators of the enum `name`, in order.
    ///
    /// # Errors
    /// As for [`Btf::field`].
    pub fn enumerators(&self, name: &str) -> Result<Vec<(String, i64)>, BtfError> {
        self.agreed(name, name, |id| {
            let mut raw = Vec::new();
            self.each_enumerator(id, name, |name, value| raw.push((name, value)))?;
            let text = |&(name, value): &(u32, i64)| {
                Ok((
                    String::from_utf8_lossy(self.0.name(name)?).into_owned(),
                    value,
                ))
            };
            raw.iter().map(text).collect()
        })
    }

    /// Whether the kernel has a function of this name. It may still be impossible to attach to.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.0
            .heads()
            .any(|head| head.kind == kind::FUNC && self.0.name_is(head.name, name))
    }

    /// Whether the kernel has a typed tracepoint of this name (`btf_trace_<name>` is a typedef).
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        !self.0.ids_named(&format!("btf_trace_{name}")).is_empty()
    }

    /// Asks every type of this name. Those that cannot answer are passed over while another can; those
    /// that can must agree.
    fn agreed<T: PartialEq>(
        &self,
        name: &str,
        path: &str,
        ask: impl Fn(u32) -> Result<T, BtfError>,
    ) -> Result<T, BtfError> {
        let mut answer = Err(BtfError::NoSuchType {
            name: name.to_owned(),
        });
        for &id in self.0.ids_named(name) {
            match (&answer, ask(id)) {
                (Ok(first), Ok(next)) if *first != next => {
                    return Err(BtfError::Ambiguous {
                        name: name.to_owned(),
                        path: path.to_owned(),
                    });
                }
                (Ok(_), _) => {}
                (Err(BtfError::NoSuchType { .. }), next) | (Err(_), next @ Ok(_)) => answer = next,
                (Err(_), Err(_)) => {}
            }
        }
        answer
    }

    fn field_in(&self, id: u32, name: &str, members: &str, path: &str) -> Result<Field, BtfError> {
        let mut visits = MAX_VISITS;
        let mut found = Member {
            bits: 0,
            type_id: id,
            bitfield: false,
        };
        let mut within = name.to_owned();
        for part in members.split('.') {
            let (id, head) = self.0.strip(found.type_id)?;
            if !matches!(head.kind, kind::STRUCT | kind::UNION) {
                return Err(BtfError::NotComposite {
                    within,
                    found: kind_of(head.kind),
                });
            }
            let step = match part {
                "" => None, // Would find any anonymous member.
                _ => self.member(id, part, 0, &mut visits, path)?,
            };
            let step = step.ok_or_else(|| no_such_member(&within, part))?;
            let bits = found.bits.checked_add(step.bits);
            let bits = bits.ok_or_else(|| BtfError::Overflow {
                path: path.to_owned(),
            })?;
            found = Member { bits, ..step };
            within = format!("{within}.{part}");
        }
        if found.bitfield || !found.bits.is_multiple_of(8) {
            return Err(BtfError::Bitfield {
                path: path.to_owned(),
            });
        }
        let offset = u32::try_from(found.bits / 8);
        Ok(Field {
            offset: offset.map_err(|_| BtfError::Overflow {
                path: path.to_owned(),
            })?,
            kind: kind_of(self.0.strip(found.type_id)?.1.kind),
            size: self.size_of_id(found.type_id, path)?,
        })
    }

    /// Finds a member by name, anonymous members included.
    fn member(
        &self,
        id: u32,
        name: &str,
        depth: usize,
        visits: &mut usize,
        path: &str,
    ) -> Result<Option<Member>, BtfError> {
        if depth > MAX_DEPTH {
            return Err(BtfError::TooDeep { id });
        }
        let head = self.0.head(id)?;
        for index in 0..head.vlen {
            let left = visits.checked_sub(1);
            *visits = left.ok_or_else(|| BtfError::TooMuchWork {
                path: path.to_owned(),
            })?;
            let (name_offset, member) = self.member_at(&head, index)?;
            if self.0.name_is(name_offset, name) {
                return Ok(Some(member));
            }
            if !self.0.name_is(name_offset, "") {
                continue;
            }
            let (inner_id, inner) = self.0.strip(member.type_id)?;
            if !matches!(inner.kind, kind::STRUCT | kind::UNION) {
                continue; // An anonymous bitfield: padding.
            }
            if let Some(found) = self.member(inner_id, name, depth + 1, visits, path)? {
                let bits = member.bits.checked_add(found.bits);
                let bits = bits.ok_or_else(|| BtfError::Overflow {
                    path: path.to_owned(),
                })?;
                return Ok(Some(Member { bits, ..found }));
            }
        }
        Ok(None)
    }

    /// The member at this index of a struct or union, with the offset of its name.
    fn member_at(&self, head: &Head, index: usize) -> Result<(u32, Member), BtfError> {
        let at = head.body + index * 12;
        let type_id = self.0.word(at + 4, "member")?;
        let raw = self.0.word(at + 8, "member")?;
        let (bits, bitfield) = match head.kind_flag {
            // The upper byte is the bitfield's width, 0 for ordinary members.
            true => (raw & 0x00ff_ffff, raw >> 24 != 0),
            // The width, if any, is in the integer's own encoding.
            false => (raw, self.is_partial_int(type_id)?),
        };
        let member = Member {
            bits: u64::from(bits),
            type_id,
            bitfield,
        };
        Ok((self.0.word(at, "member")?, member))
    }

    /// Whether a type is an integer that does not fill its bytes.
    fn is_partial_int(&self, id: u32) -> Result<bool, BtfError> {
        let head = match self.0.strip(id) {
            Ok((_, head)) if head.kind == kind::INT => head,
            _ => return Ok(false),
        };
        let encoding = self.0.word(head.body, "integer")?;
        let (width, shift) = (encoding & 0xff, (encoding >> 16) & 0xff);
        Ok(shift != 0 || u64::from(width) != u64::from(head.size_or_type) * 8)
    }

    fn each_enumerator(
        &self,
        id: u32,
        name: &str,
        mut visit: impl FnMut(u32, i64),
    ) -> Result<(), BtfError> {
        let (_, head) = self.0.strip(id)?;
        let each = match head.kind {
            kind::ENUM => 8,
            kind::ENUM64 => 12,
            other => return Err(no_enum(name, kind_of(other))),
        };
        for index in 0..head.vlen {
            let at = head.body + index * each;
            let low = self.0.word(at + 4, "enumerator")?;
            let value = match (head.kind, head.kind_flag) {
                (kind::ENUM, true) => i64::from(low.cast_signed()),
                (kind::ENUM, false) => i64::from(low),
                _ => {
                    let high = self.0.word(at + 8, "enumerator")?;
                    (u64::from(high) << 32 | u64::from(low)).cast_signed()
                }
            };
            visit(self.0.word(at, "enumerator")?, value);
        }
        Ok(())
    }

    fn size_of_id(&self, id: u32, path: &str) -> Result<u32, BtfError> {
        let overflow = || BtfError::Overflow {
            path: path.to_owned(),
        };
        let (mut id, mut count) = (id, 1_u64);
        for _ in 0..MAX_DEPTH {
            let head = self.0.strip(id)?.1;
            let each = match head.kind {
                kind::ARRAY => {
                    let elements = self.0.word(head.body + 8, "array")?;
                    count = count
                        .checked_mul(u64::from(elements))
                        .ok_or_else(overflow)?;
                    id = self.0.word(head.body, "array")?;
                    continue;
                }
                kind::PTR => POINTER_LEN,
                kind::INT
                | kind::FLOAT
                | kind::STRUCT
                | kind::UNION
                | kind::ENUM
                | kind::ENUM64 => u64::from(head.size_or_type),
                other => {
                    return Err(BtfError::NoSize {
                        path: path.to_owned(),
                        found: kind_of(other),
                    });
                }
            };
            let total = count
                .checked_mul(each)
                .and_then(|total| u32::try_from(total).ok());
            return total.ok_or_else(overflow);
        }
        Err(BtfError::TooDeep { id })
    }
}

fn kind_of(kind: u8) -> Kind {
    match kind {
        0 => Kind::Void,
        kind::INT => Kind::Int,
        kind::ENUM | kind::ENUM64 => Kind::Enum,
        kind::FLOAT => Kind::Float,
        kind::PTR => Kind::Ptr,
        kind::ARRAY => Kind::Array,
        kind::STRUCT => Kind::Struct,
        kind::UNION => Kind::Union,
        _ => Kind::Other,
    }
}

fn no_such_member(within: &str, member: &str) -> BtfError {
    BtfError::NoSuchMember {
        within: within.to_owned(),
        member: member.to_owned(),
    }
}

fn no_enum(name: &str, found: Kind) -> BtfError {
    BtfError::NotComposite {
        within: name.to_owned(),
        found,
    }
}
