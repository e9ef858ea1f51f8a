//! The kernel fields that the programs read: one table for both sides.
//!
//! rustc emits no CO-RE relocations, so the agent resolves each field's byte offset from the running
//! kernel's BTF and writes it into a `.rodata` global of the object before it is loaded. The macro
//! [`kernel_fields!`] hands the table to a callback macro: the kernel crate makes one global of each row, this
//! crate makes [`FIELDS`] for the resolver.

/// Offset of a field that this kernel does not have. The programs prune the code that needs it.
pub const MISSING: u32 = u32::MAX;

/// What a field must be for the programs to read it correctly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// An integer (or enum, or bool) of this many bytes.
    Int(u32),
    /// A pointer.
    Ptr,
    /// A struct or union that is embedded; only its place is used.
    Embedded,
    /// An array (of anything); only its place is used.
    Array,
    /// An array, struct or integer of exactly this many bytes that is read as opaque bytes.
    Bytes(u32),
    /// Not a field but the byte size of the type named by the path's first part.
    SizeOf,
    /// Not a field but the value of the enumerator (`enum_type.ENUMERATOR`).
    Enumerator,
}

/// What it means when no alternative resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The sensor cannot run.
    Required,
    /// The named thing is not seen.
    Optional,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Name of the global (`u32`) in the object.
    pub symbol: &'static str,
    /// Paths from a type, tried in order: `task_struct.nsproxy`, `mnt_namespace.ns.inum`. The walker
    /// looks into anonymous members by itself.
    pub paths: &'static [&'static str],
    /// What it must be.
    pub kind: FieldKind,
    /// What its absence means.
    pub need: Need,
    /// What is not seen without it, as the end of the sentence "not seen: …".
    pub sees: &'static str,
}

/// Calls `$callback! { SYMBOL: [paths], kind, need, sees; … }` with every row.
#[macro_export]
macro_rules! kernel_fields {
    ($callback:ident) => {
        $callback! {
            TASK_NSPROXY: ["task_struct.nsproxy"], Ptr, Required, "namespaces";
            TASK_TID: ["task_struct.pid"], Int(4), Required, "any task";
            TASK_TGID: ["task_struct.tgid"], Int(4), Required, "any task";
            TASK_START_BOOTTIME: ["task_struct.start_boottime", "task_struct.real_start_time"], Int(8), Required, "any task";
        }
    };
}

macro_rules! field_table {
    ($($symbol:ident: [$($path:literal),+], $kind:expr, $need:ident, $sees:literal;)+) => {
        /// All rows.
        pub const FIELDS: &[FieldSpec] = {
            use FieldKind::*;
            &[$(FieldSpec {
                symbol: stringify!($symbol), paths: &[$($path),+], kind: $kind, need: Need::$need, sees: $sees,
            }),+]
        };
    };
}
kernel_fields!(field_table);
