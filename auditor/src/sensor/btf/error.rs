//! The ways in which type information fails to answer: it is no BTF, it is corrupt, or this kernel has no such
//! type or member. The first two name the offset in the file, the last one the path that was asked for.

use thiserror::Error;

use super::Kind;
use super::raw::MAGIC;

/// Why a question to BTF has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BtfError {
    /// There is nothing.
    #[error("not BTF: empty")]
    Empty,
    /// The first two bytes are not the magic number.
    #[error("not BTF: bad magic {found:#06x} at offset 0 (expected {MAGIC:#06x})")]
    BadMagic {
        /// The two bytes, read as little endian.
        found: u16,
    },
    /// BTF of a big-endian kernel.
    #[error("BTF of a big-endian kernel (byte-swapped magic at offset 0), which is not supported")]
    BigEndian,
    /// A version that this walker does not know.
    #[error("BTF version {found} at offset 2 is not supported (expected 1)")]
    Version {
        /// The version found.
        found: u8,
    },
    /// Something reaches past the end of the bytes, or of its section.
    #[error("corrupt BTF: {what} at offset {offset} is out of bounds")]
    OutOfBounds {
        /// What reaches too far.
        what: &'static str,
        /// Where it starts, from the start of the file.
        offset: usize,
    },
    /// A kind that neither this walker nor the file's layout section knows.
    #[error("BTF type {id} at offset {offset} has unknown kind {kind}")]
    UnknownKind {
        /// Id of the type.
        id: u32,
        /// Its kind.
        kind: u8,
        /// Where it starts, from the start of the file.
        offset: usize,
    },
    /// A reference to a type that does not exist.
    #[error("corrupt BTF: no type {id}")]
    BadTypeId {
        /// The id.
        id: u32,
    },
    /// A chain of types that has a cycle or is deeper than [`super::MAX_DEPTH`].
    #[error("corrupt BTF: chain of types through {id} is a cycle or too deep")]
    TooDeep {
        /// A type in the chain.
        id: u32,
    },
    /// A lookup visited more than [`super::MAX_VISITS`] members.
    #[error("corrupt BTF: lookup of `{path}` visits too many members")]
    TooMuchWork {
        /// The path looked up.
        path: String,
    },
    /// A size or an offset does not fit.
    #[error("corrupt BTF: size or offset of `{path}` overflows")]
    Overflow {
        /// The path looked up.
        path: String,
    },
    /// No struct, union, enum or typedef has this name.
    #[error("no type `{name}`")]
    NoSuchType {
        /// The name.
        name: String,
    },
    /// The type has no such member or enumerator.
    #[error("`{within}` has no member `{member}`")]
    NoSuchMember {
        /// The path down to where the member was looked for.
        within: String,
        /// The name.
        member: String,
    },
    /// The path goes on, but this part is nothing that has members.
    #[error("`{within}` is {found}, not a struct or union")]
    NotComposite {
        /// The path down to this part.
        within: String,
        /// What it is.
        found: Kind,
    },
    /// The member is a bitfield, which has no byte offset.
    #[error("`{path}` is a bitfield")]
    Bitfield {
        /// The path.
        path: String,
    },
    /// Several types of this name disagree about the answer.
    #[error("several types named `{name}` disagree about `{path}`")]
    Ambiguous {
        /// Name of the types.
        name: String,
        /// The path.
        path: String,
    },
    /// The type is not complete enough to have a size.
    #[error("`{path}` is {found}, which has no size")]
    NoSize {
        /// The path.
        path: String,
        /// What it is.
        found: Kind,
    },
}
