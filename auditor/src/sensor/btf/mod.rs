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
#[cfg(test)]
pub(crate) mod tests;

pub use error::BtfError;

/// Depth of modifier chains and of anonymous members within each other.
pub const MAX_DEPTH: usize = 32;
/// Members visited in one lookup. `task_struct`, the largest, needs about 300.
pub const MAX_VISITS: usize = 1 << 20;
/// Bytes of a name. The kernel's own limit is 512 (`KSYM_NAME_LEN`).
pub const MAX_NAME_LEN: usize = 512;

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
const TYPE_LEN: usize = 12;
/// Every architecture that the kernel programs are built for.
const POINTER_LEN: u64 = 8;

/// `BTF_KIND_*`, as far as lookups need them.
mod kind {
    pub(super) const INT: u8 = 1;
    pub(super) const PTR: u8 = 2;
    pub(super) const ARRAY: u8 = 3;
    pub(super) const STRUCT: u8 = 4;
    pub(super) const UNION: u8 = 5;
    pub(super) const ENUM: u8 = 6;
    pub(super) const TYPEDEF: u8 = 8;
    pub(super) const VOLATILE: u8 = 9;
    pub(super) const CONST: u8 = 10;
    pub(super) const RESTRICT: u8 = 11;
    pub(super) const FUNC: u8 = 12;
    pub(super) const FLOAT: u8 = 16;
    pub(super) const TYPE_TAG: u8 = 18;
    pub(super) const ENUM64: u8 = 19;
}

/// Bytes after a type's head, as (fixed, for each of its `vlen` elements), by kind from 0 on.
const LAYOUT: [Option<(u8, u8)>; 20] = {
    let mut layout = [Some((0, 0)); 20];
    layout[0] = None;
    layout[1] = Some((4, 0)); // INT
    layout[3] = Some((12, 0)); // ARRAY
    layout[4] = Some((0, 12)); // STRUCT
    layout[5] = Some((0, 12)); // UNION
    layout[6] = Some((0, 8)); // ENUM
    layout[13] = Some((0, 8)); // FUNC_PROTO
    layout[14] = Some((4, 0)); // VAR
    layout[15] = Some((0, 12)); // DATASEC
    layout[17] = Some((4, 0)); // DECL_TAG
    layout[19] = Some((0, 12)); // ENUM64
    layout
};

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
pub struct Btf {
    bytes: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// Offset of each type's head; index 0 is type id 1 (id 0 is `void`).
    types: Vec<u32>,
    /// Ids of named structs, unions, enums and typedefs, ordered by name, then by id.
    named: Vec<u32>,
}

/// Head of one type.
#[derive(Clone, Copy)]
struct Head {
    /// Where what follows the head starts.
    body: usize,
    name: u32,
    kind: u8,
    kind_flag: bool,
    vlen: usize,
    /// Size or type id, by kind.
    size_or_type: u32,
}

/// A member that a name led to.
#[derive(Clone, Copy)]
struct Member {
    bits: u64,
    type_id: u32,
    bitfield: bool,
}

fn u16_at(bytes: &[u8], offset: usize, what: &'static str) -> Result<u16, BtfError> {
    let found = offset.checked_add(2).and_then(|end| bytes.get(offset..end));
    let found = found.and_then(|b| b.try_into().ok());
    found
        .map(u16::from_le_bytes)
        .ok_or(BtfError::OutOfBounds { what, offset })
}

fn u32_at(bytes: &[u8], offset: usize, what: &'static str) -> Result<u32, BtfError> {
    let found = offset.checked_add(4).and_then(|end| bytes.get(offset..end));
    let found = found.and_then(|b| b.try_into().ok());
    found
        .map(u32::from_le_bytes)
        .ok_or(BtfError::OutOfBounds { what, offset })
}

/// A section of the file, from the offset and length that stand at `at` in the header.
fn section(
    bytes: &[u8],
    header_len: usize,
    at: usize,
    what: &'static str,
) -> Result<std::ops::Range<usize>, BtfError> {
    let start = header_len.checked_add(u32_at(bytes, at, what)? as usize);
    let start = start.ok_or(BtfError::OutOfBounds { what, offset: at })?;
    let end = start.checked_add(u32_at(bytes, at + 4, what)? as usize);
    match end {
        Some(end) if end <= bytes.len() => Ok(start..end),
        _ => Err(BtfError::OutOfBounds {
            what,
            offset: start,
        }),
    }
}

fn head_at(bytes: &[u8], offset: usize) -> Result<Head, BtfError> {
    let info = u32_at(bytes, offset + 4, "type")?;
    Ok(Head {
        body: offset + TYPE_LEN,
        name: u32_at(bytes, offset, "type")?,
        kind: ((info >> 24) & 0x7f) as u8,
        kind_flag: info >> 31 == 1,
        vlen: (info & 0x00ff_ffff) as usize,
        size_or_type: u32_at(bytes, offset + 8, "type")?,
    })
}

/// (fixed, per element) bytes after the head of this kind, from our table, else from the file's.
fn layout_of(bytes: &[u8], layout: &std::ops::Range<usize>, kind: u8) -> Option<(u8, u8)> {
    if usize::from(kind) < LAYOUT.len() {
        return LAYOUT[usize::from(kind)];
    }
    let entry = bytes.get(layout.clone())?.get(usize::from(kind) * 4..)?;
    Some((*entry.first()?, *entry.get(1)?))
}

impl Btf {
    /// Checks the header and indexes all types.
    ///
    /// # Errors
    /// When the bytes are not little-endian BTF of version 1, or a section or type leaves its bounds.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, BtfError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(BtfError::Empty);
        }
        match u16_at(&bytes, 0, "magic")? {
            MAGIC => {}
            found if found == MAGIC.swap_bytes() => return Err(BtfError::BigEndian),
            found => return Err(BtfError::BadMagic { found }),
        }
        let header_len = u32_at(&bytes, 4, "header")? as usize;
        if bytes[2] != 1 {
            return Err(BtfError::Version { found: bytes[2] });
        }
        if header_len < HEADER_LEN || header_len > bytes.len() {
            return Err(BtfError::OutOfBounds {
                what: "header length",
                offset: 4,
            });
        }
        let type_range = section(&bytes, header_len, 8, "type section")?;
        let strings = section(&bytes, header_len, 16, "string section")?;
        let layout = match header_len >= HEADER_LEN + 8 {
            true => section(&bytes, header_len, 24, "layout section")?,
            false => 0..0,
        };
        let mut btf = Self {
            bytes,
            strings,
            types: Vec::new(),
            named: Vec::new(),
        };
        btf.index(type_range, &layout)?;
        Ok(btf)
    }

    fn index(
        &mut self,
        range: std::ops::Range<usize>,
        layout: &std::ops::Range<usize>,
    ) -> Result<(), BtfError> {
        let bytes = &self.bytes[..range.end];
        let (mut types, mut names) = (Vec::new(), Vec::new());
        let mut offset = range.start;
        while offset < range.end {
            let head = head_at(bytes, offset)?;
            let out_of_bounds = BtfError::OutOfBounds {
                what: "type",
                offset,
            };
            let id = u32::try_from(types.len() + 1).map_err(|_| out_of_bounds.clone())?;
            let (fixed, each) =
                layout_of(&self.bytes, layout, head.kind).ok_or(BtfError::UnknownKind {
                    id,
                    kind: head.kind,
                    offset,
                })?;
            let len = TYPE_LEN + usize::from(fixed) + usize::from(each) * head.vlen;
            if len > range.end - offset {
                return Err(out_of_bounds);
            }
            types.push(u32::try_from(offset).map_err(|_| out_of_bounds)?);
            let is_named = matches!(
                head.kind,
                kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::TYPEDEF
            );
            if is_named && !self.name(head.name)?.is_empty() {
                names.push((self.name(head.name)?, id));
            }
            offset += len;
        }
        names.sort_unstable();
        let named = names.into_iter().map(|(_, id)| id).collect();
        (self.types, self.named) = (types, named);
        Ok(())
    }

    /// Number of types, `void` not counted.
    #[must_use]
    pub fn type_count(&self) -> usize {
        self.types.len()
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
                if found.is_none() && !member.is_empty() && self.name_is(name_offset, member) {
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
                    String::from_utf8_lossy(self.name(name)?).into_owned(),
                    value,
                ))
            };
            raw.iter().map(text).collect()
        })
    }

    /// Whether the kernel has a function of this name. It may still be impossible to attach to.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.types.iter().any(|&offset| {
            head_at(&self.bytes, offset as usize)
                .is_ok_and(|head| head.kind == kind::FUNC && self.name_is(head.name, name))
        })
    }

    /// Whether the kernel has a typed tracepoint of this name (`btf_trace_<name>` is a typedef).
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        !self.ids_named(&format!("btf_trace_{name}")).is_empty()
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
        for &id in self.ids_named(name) {
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

    fn ids_named(&self, name: &str) -> &[u32] {
        let key = |&id: &u32| {
            self.head(id)
                .and_then(|head| self.name(head.name))
                .unwrap_or_default()
                .cmp(name.as_bytes())
        };
        let start = self.named.partition_point(|id| key(id).is_lt());
        let len = self.named[start..].partition_point(|id| key(id).is_eq());
        // Far more than any kernel has, far less than a hostile file could make us look at.
        &self.named[start..start + len.min(MAX_DEPTH)]
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
            let (id, head) = self.strip(found.type_id)?;
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
            kind: kind_of(self.strip(found.type_id)?.1.kind),
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
        let head = self.head(id)?;
        for index in 0..head.vlen {
            let left = visits.checked_sub(1);
            *visits = left.ok_or_else(|| BtfError::TooMuchWork {
                path: path.to_owned(),
            })?;
            let (name_offset, member) = self.member_at(&head, index)?;
            if self.name_is(name_offset, name) {
                return Ok(Some(member));
            }
            if !self.name_is(name_offset, "") {
                continue;
            }
            let (inner_id, inner) = self.strip(member.type_id)?;
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
        let type_id = u32_at(&self.bytes, at + 4, "member")?;
        let raw = u32_at(&self.bytes, at + 8, "member")?;
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
        Ok((u32_at(&self.bytes, at, "member")?, member))
    }

    /// Whether a type is an integer that does not fill its bytes.
    fn is_partial_int(&self, id: u32) -> Result<bool, BtfError> {
        let head = match self.strip(id) {
            Ok((_, head)) if head.kind == kind::INT => head,
            _ => return Ok(false),
        };
        let encoding = u32_at(&self.bytes, head.body, "integer")?;
        let (width, shift) = (encoding & 0xff, (encoding >> 16) & 0xff);
        Ok(shift != 0 || u64::from(width) != u64::from(head.size_or_type) * 8)
    }

    fn each_enumerator(
        &self,
        id: u32,
        name: &str,
        mut visit: impl FnMut(u32, i64),
    ) -> Result<(), BtfError> {
        let (_, head) = self.strip(id)?;
        let each = match head.kind {
            kind::ENUM => 8,
            kind::ENUM64 => 12,
            other => return Err(no_enum(name, kind_of(other))),
        };
        for index in 0..head.vlen {
            let at = head.body + index * each;
            let low = u32_at(&self.bytes, at + 4, "enumerator")?;
            let value = match (head.kind, head.kind_flag) {
                (kind::ENUM, true) => i64::from(low.cast_signed()),
                (kind::ENUM, false) => i64::from(low),
                _ => {
                    let high = u32_at(&self.bytes, at + 8, "enumerator")?;
                    (u64::from(high) << 32 | u64::from(low)).cast_signed()
                }
            };
            visit(u32_at(&self.bytes, at, "enumerator")?, value);
        }
        Ok(())
    }

    fn size_of_id(&self, id: u32, path: &str) -> Result<u32, BtfError> {
        let overflow = || BtfError::Overflow {
            path: path.to_owned(),
        };
        let (mut id, mut count) = (id, 1_u64);
        for _ in 0..MAX_DEPTH {
            let head = self.strip(id)?.1;
            let each = match head.kind {
                kind::ARRAY => {
                    let elements = u32_at(&self.bytes, head.body + 8, "array")?;
                    count = count
                        .checked_mul(u64::from(elements))
                        .ok_or_else(overflow)?;
                    id = u32_at(&self.bytes, head.body, "array")?;
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

    /// Follows typedefs and modifiers to what they stand for.
    fn strip(&self, mut id: u32) -> Result<(u32, Head), BtfError> {
        for _ in 0..MAX_DEPTH {
            let head = self.head(id)?;
            match head.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = head.size_or_type;
                }
                _ => return Ok((id, head)),
            }
        }
        Err(BtfError::TooDeep { id })
    }

    fn head(&self, id: u32) -> Result<Head, BtfError> {
        let Some(index) = id.checked_sub(1) else {
            let body = self.bytes.len();
            return Ok(Head {
                body,
                name: 0,
                kind: 0,
                kind_flag: false,
                vlen: 0,
                size_or_type: 0,
            });
        };
        let offset = self
            .types
            .get(index as usize)
            .ok_or(BtfError::BadTypeId { id })?;
        head_at(&self.bytes, *offset as usize)
    }

    /// A name, cut at [`MAX_NAME_LEN`].
    fn name(&self, offset: u32) -> Result<&[u8], BtfError> {
        let strings = &self.bytes[self.strings.clone()];
        let rest = strings
            .get(offset as usize..)
            .filter(|rest| !rest.is_empty());
        let rest = rest.ok_or(BtfError::OutOfBounds {
            what: "name",
            offset: self.strings.start.saturating_add(offset as usize),
        })?;
        let rest = &rest[..rest.len().min(MAX_NAME_LEN)];
        Ok(rest
            .iter()
            .position(|&byte| byte == 0)
            .map_or(rest, |end| &rest[..end]))
    }

    fn name_is(&self, offset: u32, name: &str) -> bool {
        let strings = &self.bytes[self.strings.clone()];
        let rest = strings
            .get(offset as usize..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
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
