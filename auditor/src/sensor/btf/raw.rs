//! The bytes of a BTF file as a checked index: header, sections, heads of types, names. What they mean is
//! the parent module's subject.

use std::ops::Range;

use super::{BtfError, MAX_DEPTH, MAX_NAME_LEN};

pub(super) const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
const TYPE_LEN: usize = 12;
/// `BTF_KIND_*`, as far as lookups need them.
pub(super) mod kind {
    pub(in super::super) const INT: u8 = 1;
    pub(in super::super) const PTR: u8 = 2;
    pub(in super::super) const ARRAY: u8 = 3;
    pub(in super::super) const STRUCT: u8 = 4;
    pub(in super::super) const UNION: u8 = 5;
    pub(in super::super) const ENUM: u8 = 6;
    pub(in super::super) const TYPEDEF: u8 = 8;
    pub(in super::super) const VOLATILE: u8 = 9;
    pub(in super::super) const CONST: u8 = 10;
    pub(in super::super) const RESTRICT: u8 = 11;
    pub(in super::super) const FUNC: u8 = 12;
    pub(in super::super) const FLOAT: u8 = 16;
    pub(in super::super) const TYPE_TAG: u8 = 18;
    pub(in super::super) const ENUM64: u8 = 19;
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

/// A file whose sections and types are known to lie within it.
#[derive(Debug)]
pub(super) struct Raw {
    bytes: Vec<u8>,
    strings: Range<usize>,
    /// Offset of each type's head; index 0 is type id 1 (id 0 is `void`).
    types: Vec<u32>,
    /// Ids of named structs, unions, enums and typedefs, ordered by name, then by id.
    named: Vec<u32>,
}

/// Head of one type.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// Where what follows the head starts.
    pub(super) body: usize,
    pub(super) name: u32,
    pub(super) kind: u8,
    pub(super) kind_flag: bool,
    pub(super) vlen: usize,
    /// Size or type id, by kind.
    pub(super) size_or_type: u32,
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
) -> Result<Range<usize>, BtfError> {
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
fn layout_of(bytes: &[u8], layout: &Range<usize>, kind: u8) -> Option<(u8, u8)> {
    if usize::from(kind) < LAYOUT.len() {
        return LAYOUT[usize::from(kind)];
    }
    let entry = bytes.get(layout.clone())?.get(usize::from(kind) * 4..)?;
    Some((*entry.first()?, *entry.get(1)?))
}

impl Raw {
    /// Checks the header and indexes all types.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
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

    fn index(&mut self, range: Range<usize>, layout: &Range<usize>) -> Result<(), BtfError> {
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
    pub(super) fn type_count(&self) -> usize {
        self.types.len()
    }

    /// A word of a type's body.
    pub(super) fn word(&self, offset: usize, what: &'static str) -> Result<u32, BtfError> {
        u32_at(&self.bytes, offset, what)
    }

    /// Heads of all types.
    pub(super) fn heads(&self) -> impl Iterator<Item = Head> + '_ {
        self.types
            .iter()
            .filter_map(|&offset| head_at(&self.bytes, offset as usize).ok())
    }

    pub(super) fn ids_named(&self, name: &str) -> &[u32] {
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

    /// Follows typedefs and modifiers to what they stand for.
    pub(super) fn strip(&self, mut id: u32) -> Result<(u32, Head), BtfError> {
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

    pub(super) fn head(&self, id: u32) -> Result<Head, BtfError> {
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
    pub(super) fn name(&self, offset: u32) -> Result<&[u8], BtfError> {
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

    pub(super) fn name_is(&self, offset: u32, name: &str) -> bool {
        let strings = &self.bytes[self.strings.clone()];
        let rest = strings
            .get(offset as usize..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }
}
