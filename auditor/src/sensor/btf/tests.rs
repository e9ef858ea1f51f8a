//! Goal: the walker answers right on every encoding that kernels use, and survives any bytes. Method: small
//! BTF files built by hand for each encoding, the running kernel's own file where there is one, and random
//! damage to both.

use proptest::prelude::*;

use auditor_common::fields::MISSING;

use super::raw::MAGIC;
use super::*;

/// Builds BTF files, valid or not.
pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

pub(crate) const KIND_FLAG: u32 = 1 << 31;

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            count: 0,
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    pub(crate) fn raw(&mut self, name: &str, info: u32, size_or_type: u32, body: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [name, info, size_or_type].iter().chain(body) {
            self.types.extend(word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    pub(crate) fn int(&mut self, name: &str, size: u32) -> u32 {
        self.raw(name, u32::from(kind::INT) << 24, size, &[size * 8])
    }

    pub(crate) fn reference(&mut self, kind: u8, name: &str, to: u32) -> u32 {
        self.raw(name, u32::from(kind) << 24, to, &[])
    }

    pub(crate) fn array(&mut self, of: u32, count: u32) -> u32 {
        self.raw("", u32::from(kind::ARRAY) << 24, 0, &[of, of, count])
    }

    /// `members`: name, type, encoded offset.
    pub(crate) fn composite(
        &mut self,
        kind: u8,
        flag: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let mut body = Vec::new();
        for &(name, type_id, offset) in members {
            body.extend([self.name(name), type_id, offset]);
        }
        self.raw(
            name,
            u32::from(kind) << 24 | flag | members.len() as u32,
            size,
            &body,
        )
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        self.finish_with(&[])
    }

    /// With a layout section when it is not empty.
    fn finish_with(&self, layout: &[u8]) -> Vec<u8> {
        let header_len = if layout.is_empty() { 24 } else { 32 };
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend([1, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [header_len, 0, types, types, strings] {
            out.extend(word.to_le_bytes());
        }
        if !layout.is_empty() {
            out.extend((types + strings).to_le_bytes());
            out.extend((layout.len() as u32).to_le_bytes());
        }
        out.extend(&self.types);
        out.extend(&self.strings);
        out.extend(layout);
        out
    }
}

/// struct task { u32 pid; union { struct { const counter_t count; }; u64 both; }; struct ns *ns;
/// u32 flags: 3; enum state state; char comm[16]; } and what it needs.
pub(crate) fn sample() -> Builder {
    let mut b = Builder::new();
    let u32_id = b.int("unsigned int", 4);
    let u64_id = b.int("unsigned long", 8);
    let char_id = b.int("char", 1);
    let typedef = b.reference(kind::TYPEDEF, "counter_t", u64_id);
    let constant = b.reference(kind::CONST, "", typedef);
    let inner = b.composite(kind::STRUCT, 0, "", 8, &[("count", constant, 0)]);
    let both = b.composite(
        kind::UNION,
        0,
        "",
        8,
        &[("", inner, 0), ("both", u64_id, 0)],
    );
    let ns = b.composite(kind::STRUCT, 0, "ns", 16, &[("inum", u32_id, 64)]);
    let pointer = b.reference(kind::PTR, "", ns);
    let state = b.composite_enum("state", 0, &[("RUNNING", 0), ("DEAD", MISSING)]);
    let comm = b.array(char_id, 16);
    let members = [
        ("pid", u32_id, 0),
        ("", both, 64),
        ("ns", pointer, 128),
        ("flags", u32_id, 192 | 3 << 24),
        ("state", state, 224),
        ("comm", comm, 256),
        ("own", ns, 384),
    ];
    b.composite(kind::STRUCT, KIND_FLAG, "task", 64, &members);
    b
}

impl Builder {
    fn composite_enum(&mut self, name: &str, flag: u32, values: &[(&str, u32)]) -> u32 {
        let mut body = Vec::new();
        for &(name, value) in values {
            body.extend([self.name(name), value]);
        }
        self.raw(
            name,
            u32::from(kind::ENUM) << 24 | flag | values.len() as u32,
            4,
            &body,
        )
    }
}

fn field(offset: u32, kind: Kind, size: u32) -> Result<Field, BtfError> {
    Ok(Field { offset, kind, size })
}

#[test]
fn members_are_found_through_anonymous_ones_and_modifiers() {
    let btf = Btf::parse(sample().finish()).unwrap();
    assert_eq!(btf.field("task.pid"), field(0, Kind::Int, 4));
    assert_eq!(btf.field("task.count"), field(8, Kind::Int, 8));
    assert_eq!(btf.field("task.both"), field(8, Kind::Int, 8));
    assert_eq!(btf.field("task.ns"), field(16, Kind::Ptr, 8));
    assert_eq!(btf.field("task.state"), field(28, Kind::Enum, 4));
    assert_eq!(btf.field("task.comm"), field(32, Kind::Array, 16));
    assert_eq!(btf.field("task.own"), field(48, Kind::Struct, 16));
    assert_eq!(btf.field("task.own.inum"), field(56, Kind::Int, 4));
    assert_eq!(btf.size_of("task"), Ok(64));
    assert_eq!(btf.size_of("counter_t"), Ok(8));
}

#[test]
fn wrong_paths_say_what_is_there() {
    let btf = Btf::parse(sample().finish()).unwrap();
    let text = |path: &str| btf.field(path).unwrap_err().to_string();
    assert_eq!(text("nope.pid"), "no type `nope`");
    assert_eq!(text("task.nope"), "`task` has no member `nope`");
    assert_eq!(text("task.own.nope"), "`task.own` has no member `nope`");
    assert_eq!(
        text("task.ns.inum"),
        "`task.ns` is a pointer, not a struct or union"
    );
    assert_eq!(text("task.flags"), "`task.flags` is a bitfield");
    for path in ["task", "task.", "task..pid", ".", "", ".pid", "task.pid.x"] {
        assert!(btf.field(path).is_err(), "{path}");
    }
}

#[test]
fn bitfields_are_refused_in_both_encodings() {
    let mut b = Builder::new();
    let whole = b.int("int", 4);
    let partial = b.raw("int", u32::from(kind::INT) << 24, 4, &[3]);
    // Without the flag an offset may use all 32 bits.
    let far = 1 << 27;
    let members = [
        ("whole", whole, 0),
        ("bits", partial, 32),
        ("odd", whole, 33),
        ("far", whole, far),
    ];
    b.composite(kind::STRUCT, 0, "old", 4096, &members);
    let btf = Btf::parse(b.finish()).unwrap();
    assert_eq!(btf.field("old.whole"), field(0, Kind::Int, 4));
    assert_eq!(btf.field("old.far"), field(1 << 24, Kind::Int, 4));
    assert_eq!(
        btf.field("old.bits"),
        Err(BtfError::Bitfield {
            path: "old.bits".into()
        })
    );
    assert_eq!(
        btf.field("old.odd"),
        Err(BtfError::Bitfield {
            path: "old.odd".into()
        })
    );
}

#[test]
fn enumerators_keep_sign_and_width() {
    let mut b = Builder::new();
    b.composite_enum("unsigned", 0, &[("A", 1), ("B", u32::MAX)]);
    b.composite_enum("signed", KIND_FLAG, &[("C", u32::MAX)]);
    let name = b.name("D");
    b.raw("wide", u32::from(kind::ENUM64) << 24 | 1, 8, &[name, 2, 1]);
    let btf = Btf::parse(b.finish()).unwrap();
    assert_eq!(btf.enumerator("unsigned.B"), Ok(i64::from(u32::MAX)));
    assert_eq!(btf.enumerator("signed.C"), Ok(-1));
    assert_eq!(btf.enumerator("wide.D"), Ok(1 << 32 | 2));
    assert_eq!(btf.enumerators("unsigned").unwrap()[0], ("A".into(), 1));
    assert!(btf.enumerator("unsigned.Z").is_err());
    assert!(btf.enumerator("unsigned").is_err());
    assert!(btf.field("unsigned.A").is_err());
}

#[test]
fn types_of_one_name_must_agree() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    b.composite(
        kind::STRUCT,
        0,
        "twice",
        8,
        &[("same", int, 0), ("moved", int, 32)],
    );
    b.composite(
        kind::STRUCT,
        0,
        "twice",
        12,
        &[("same", int, 0), ("moved", int, 64), ("only", int, 32)],
    );
    let btf = Btf::parse(b.finish()).unwrap();
    assert_eq!(btf.field("twice.same"), field(0, Kind::Int, 4));
    assert_eq!(btf.field("twice.only"), field(4, Kind::Int, 4));
    assert!(matches!(
        btf.field("twice.moved"),
        Err(BtfError::Ambiguous { .. })
    ));
}

#[test]
fn cycles_and_blow_ups_end_with_an_error() {
    let mut b = Builder::new();
    b.reference(kind::TYPEDEF, "loop", 1);
    b.composite(kind::STRUCT, 0, "self", 8, &[("", 2, 0), ("x", 1, 0)]);
    b.array(3, 2);
    b.reference(kind::TYPEDEF, "self_array", 3);
    // Each level holds the next one twice: 2^30 paths.
    let first = b.count + 1;
    for level in 0..30 {
        let next = first + level + 1;
        b.composite(
            kind::STRUCT,
            0,
            &format!("level{level}"),
            8,
            &[("", next, 0), ("", next, 0)],
        );
    }
    b.int("int", 4);
    let btf = Btf::parse(b.finish()).unwrap();
    assert!(matches!(btf.size_of("loop"), Err(BtfError::TooDeep { .. })));
    assert!(matches!(
        btf.size_of("self_array"),
        Err(BtfError::TooDeep { .. })
    ));
    assert!(matches!(
        btf.field("self.nope"),
        Err(BtfError::TooDeep { .. })
    ));
    assert!(matches!(
        btf.field("level0.nope"),
        Err(BtfError::TooMuchWork { .. })
    ));
}

#[test]
fn what_is_not_btf_is_named() {
    let good = sample().finish();
    let text = |bytes: &[u8]| Btf::parse(bytes).unwrap_err().to_string();
    assert_eq!(text(&[]), "not BTF: empty");
    assert_eq!(
        text(b"\x7fELF"),
        "not BTF: bad magic 0x457f at offset 0 (expected 0xeb9f)"
    );
    assert!(text(&[0xeb, 0x9f, 1, 0]).starts_with("BTF of a big-endian kernel"));
    let mut version = good.clone();
    version[2] = 9;
    assert_eq!(
        text(&version),
        "BTF version 9 at offset 2 is not supported (expected 1)"
    );
    assert!(text(&good[..good.len() - 1]).contains("string section at offset"));
    for len in 0..good.len() {
        assert!(Btf::parse(&good[..len]).is_err(), "{len}");
    }
}

#[test]
fn unknown_kinds_need_the_layout_section() {
    let mut b = Builder::new();
    b.raw("new", 25 << 24 | 2, 0, &[1, 2, 3]);
    b.int("int", 4);
    assert!(matches!(
        Btf::parse(b.finish()),
        Err(BtfError::UnknownKind { kind: 25, .. })
    ));
    let mut layout = vec![0; 26 * 4];
    layout[25 * 4..25 * 4 + 2].copy_from_slice(&[4, 4]);
    let btf = Btf::parse(b.finish_with(&layout)).unwrap();
    assert_eq!(btf.type_count(), 2);
}

/// The running kernel's own BTF, where it has one.
pub(crate) fn host_bytes() -> Option<Vec<u8>> {
    std::fs::read(crate::sensor::resolve::VMLINUX_BTF).ok()
}

#[test]
fn host_kernel_has_what_every_kernel_has() {
    let Some(bytes) = host_bytes() else { return };
    let btf = Btf::parse(bytes).unwrap();
    assert_eq!(btf.field("task_struct.nsproxy").unwrap().kind, Kind::Ptr);
    assert_eq!(btf.field("task_struct.pid").unwrap().size, 4);
    assert_eq!(btf.field("mnt_namespace.ns.inum").unwrap().size, 4);
    assert_eq!(btf.field("file.f_path").unwrap().kind, Kind::Struct);
    assert_eq!(btf.size_of("kernel_cap_t"), Ok(8));
    assert!(btf.enumerators("cgroup_subsys_id").unwrap().len() > 3);
    assert!(btf.has_function("commit_creds") && !btf.has_function("commit_cred"));
    assert!(btf.has_tracepoint("sched_process_exec") && !btf.has_tracepoint("nope"));
}

/// Asks everything of bytes that may be anything; only termination without panic counts.
fn exercise(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for path in [
        "task.own.inum",
        "task.count",
        "task_struct.nsproxy",
        "file.f_path",
        "x",
        "",
    ] {
        let _ = (
            btf.field(path),
            btf.size_of(path),
            btf.enumerator(path),
            btf.enumerators(path),
        );
    }
    let _ = (
        btf.enumerator("state.DEAD"),
        btf.has_function("commit_creds"),
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        exercise(bytes);
    }

    #[test]
    fn arbitrary_sections_never_panic(
        types in proptest::collection::vec(any::<u8>(), 0..512),
        strings in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        exercise(Builder { types, strings, count: 0 }.finish());
    }

    #[test]
    fn damaged_samples_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = sample().finish();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        exercise(bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn damaged_host_btf_never_panics(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..64),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let Some(mut bytes) = host_bytes() else { return Ok(()) };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        exercise(bytes);
    }
}
