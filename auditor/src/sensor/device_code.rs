//! What device programs allow.
//!
//! In the version 2 hierarchy of cgroups no list says which devices a cgroup may reach: runtimes and systemd write a small
//! kernel program for each (`BPF_PROG_TYPE_CGROUP_DEVICE`), which is asked about a kind of device, its numbers, and what is
//! to be done with it. Such a program compares, and no more. So it is run here, about every number that it compares with
//! and about one that it knows nothing of; what it answers are the rules. A program that does anything else (calls,
//! memory, ranges of numbers) is not understood, and nothing is said of it.
//!
//! The instruction set is that of RFC 9669.

use super::decode::{Decoded, records};
use super::device_query;
use super::load::{Attached, Loaded};
use super::procfs::same_task;
use crate::model::setup::{DeviceRule, MAX_RULES};
use auditor_common::hook;
use auditor_common::record::{CODE_PROGRAMS, CodeRecord, TaskKey};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::BorrowedFd;

/// Instructions that are executed for all answers together: some tens of milliseconds.
const MAX_STEPS: u32 = 1 << 24;
/// Pairs of a major and a minor number that are asked about.
const MAX_PAIRS: usize = 1 << 12;

/// What is asked (`struct bpf_cgroup_dev_ctx`, `include/uapi/linux/bpf.h`).
#[derive(Clone, Copy)]
struct Question {
    /// Kind of device, in the lower half; what is to be done, in the upper one.
    access_type: u32,
    major: u32,
    minor: u32,
}

/// Kinds of device.
const BLOCK: u32 = 1;
const CHAR: u32 = 2;
/// What is to be done.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

/// Which number of the question a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Major,
    Minor,
}

/// A value in a register.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// Nothing was written to it.
    Unset,
    /// The question.
    Question,
    /// Known from the program, the kind and what is to be done.
    Known(u64),
    /// A number of the question as it is.
    Asked(u64, Number),
    /// Reckoned from one.
    Mixed,
}

/// Numbers that programs compare with.
#[derive(Debug, Default)]
struct Compared {
    major: BTreeSet<u32>,
    minor: BTreeSet<u32>,
    /// Instructions executed to find them.
    steps: u32,
}

/// An instruction.
struct Instruction {
    opcode: u8,
    to: usize,
    from: usize,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    fn of(word: u64) -> Self {
        let [opcode, registers, low, high, immediate @ ..] = word.to_le_bytes();
        Self {
            opcode,
            to: usize::from(registers & 0xf),
            from: usize::from(registers >> 4),
            offset: i16::from_le_bytes([low, high]),
            immediate: i32::from_le_bytes(immediate),
        }
    }
}

/// Classes of instructions, and fields of their codes.
mod op {
    pub(super) const LD: u8 = 0x0;
    pub(super) const LDX: u8 = 0x1;
    pub(super) const ST: u8 = 0x2;
    pub(super) const ALU: u8 = 0x4;
    pub(super) const JMP: u8 = 0x5;
    pub(super) const JMP32: u8 = 0x6;
    pub(super) const ALU64: u8 = 0x7;
    pub(super) const CLASS: u8 = 0x7;
    /// The operand is a register.
    pub(super) const REGISTER: u8 = 0x8;
    pub(super) const OPERATION: u8 = 0xf0;
    pub(super) const LOAD_IMMEDIATE: u8 = 0x18;
    /// Stands in front of nothing: the kernel put it there against speculation.
    pub(super) const NO_SPECULATION: u8 = 0xc2;
}

/// The devices that a version 2 cgroup allows, by system calls; `None` as for [`Loaded::device_rules`].
pub(super) fn query(cgroup: BorrowedFd<'_>) -> Option<Vec<DeviceRule>> {
    let programs = device_query::programs(cgroup);
    let programs = programs.inspect_err(|error| tracing::debug!("device programs: {error}"));
    rules(&programs.ok()?)
}

impl Loaded {
    /// The devices that a process's version 2 cgroup lets it reach; `None` where that cannot be read, or is not understood.
    pub fn device_rules(&mut self, key: &TaskKey) -> Option<Vec<DeviceRule>> {
        if self.hooks[usize::from(hook::ITER_DEVICE)] != Attached::Yes {
            return None;
        }
        let bytes = self.read_device_code(key.tgid);
        let bytes = bytes.inspect_err(|error| tracing::debug!("device programs: {error}"));
        let of_task = |record| match record {
            Ok(Decoded::Code(code)) if same_task(&code.task, key) => Some(code),
            _ => None,
        };
        let code: Vec<_> = records(&bytes.ok()?).filter_map(of_task).collect();
        rules(&programs(&code)?)
    }

    fn read_device_code(&mut self, tgid: u32) -> std::io::Result<Vec<u8>> {
        let looked_at = self.looked_at.set(0, tgid, 0);
        looked_at.map_err(std::io::Error::other)?;
        let mut bytes = Vec::new();
        self.iterate(hook::ITER_DEVICE)
            .map_err(std::io::Error::other)?
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Puts together what an iterator wrote about one task: its programs; `None` where they are not all there.
fn programs(records: &[CodeRecord]) -> Option<Vec<Vec<u64>>> {
    let (head, rest) = records.split_first()?;
    let total = head.total as usize;
    if head.program != 0 || total > CODE_PROGRAMS {
        return None;
    }
    let mut programs = vec![Vec::new(); total];
    let mut lengths = vec![None; total];
    for record in rest {
        let index = usize::try_from(record.program.checked_sub(1)?).ok()?;
        let program = programs.get_mut(index)?;
        if record.first as usize != program.len() {
            return None;
        }
        program.extend(record.code.get(..record.count as usize)?);
        lengths[index] = Some(record.length as usize);
    }
    let all = programs.iter().zip(&lengths);
    let whole = |(program, length): (&Vec<u64>, &Option<usize>)| *length == Some(program.len());
    all.into_iter().all(whole).then_some(programs)
}

/// What all of these programs allow together, as rules; `None` where one is not understood, or forbids some of what it
/// allows in general.
fn rules(programs: &[Vec<u64>]) -> Option<Vec<DeviceRule>> {
    let mut compared = Compared::default();
    loop {
        let before = compared.major.len() + compared.minor.len();
        let allowed = ask_all(programs, &mut compared)?;
        if compared.major.len() + compared.minor.len() == before {
            return allowed.rules();
        }
    }
}

/// What is allowed with which devices: bits, as in what is to be done.
#[derive(Debug, Default)]
struct Allowed {
    /// By kind, major, and minor number (`None`: one that no program knows).
    cells: BTreeMap<(u32, Option<u32>, Option<u32>), u32>,
}

/// Asks about every pair of numbers, `None` standing for all others.
fn ask_all(programs: &[Vec<u64>], compared: &mut Compared) -> Option<Allowed> {
    let choices = |numbers: &BTreeSet<u32>| -> Vec<(Option<u32>, u32)> {
        let other = (0..).find(|n| !numbers.contains(&(u32::MAX - n)));
        let other = (None, u32::MAX - other.unwrap_or_default());
        let own = numbers.iter().map(|n| (Some(*n), *n));
        own.chain([other]).collect()
    };
    let (majors, minors) = (choices(&compared.major), choices(&compared.minor));
    if majors.len() * minors.len() > MAX_PAIRS {
        return None;
    }
    let mut allowed = Allowed::default();
    for kind in [BLOCK, CHAR] {
        for &(major, asked_major) in &majors {
            for &(minor, asked_minor) in &minors {
                let mut bits = 0;
                for access in [MKNOD, READ, WRITE] {
                    let question = Question {
                        access_type: access << 16 | kind,
                        major: asked_major,
                        minor: asked_minor,
                    };
                    let mut all = true;
                    for program in programs {
                        all &= answer(program, question, compared)?;
                    }
                    bits |= if all { access } else { 0 };
                }
                allowed.cells.insert((kind, major, minor), bits);
            }
        }
    }
    Some(allowed)
}

impl Allowed {
    fn bits(&self, kind: u32, major: Option<u32>, minor: Option<u32>) -> u32 {
        let bits = self.cells.get(&(kind, major, minor));
        bits.copied().unwrap_or_default()
    }

    /// Each cell by the most general rule that allows it. A rule cannot take away.
    fn rules(&self) -> Option<Vec<DeviceRule>> {
        let both = self.bits(BLOCK, None, None);
        let both = (both != 0 && both == self.bits(CHAR, None, None)).then_some(both);
        let mut rules = Vec::from_iter(both.map(|bits| rule(None, None, None, bits)));
        for (&(kind, major, minor), &bits) in &self.cells {
            let general = match (major, minor) {
                (None, None) if both.is_some() => continue,
                (None, None) => 0,
                (_, None) | (None, _) => self.bits(kind, None, None),
                _ => self.bits(kind, major, None) | self.bits(kind, None, minor),
            };
            if general & !bits != 0 {
                return None;
            }
            if bits != general {
                rules.push(rule(Some(kind == BLOCK), major, minor, bits));
            }
        }
        (rules.len() < MAX_RULES).then_some(rules)
    }
}

fn rule(block: Option<bool>, major: Option<u32>, minor: Option<u32>, bits: u32) -> DeviceRule {
    DeviceRule {
        block,
        major,
        minor,
        read: bits & READ != 0,
        write: bits & WRITE != 0,
        mknod: bits & MKNOD != 0,
    }
}

/// What one program answers; `None` where it does what is not understood.
fn answer(program: &[u64], question: Question, compared: &mut Compared) -> Option<bool> {
    let mut registers = [Value::Unset; 16];
    registers[1] = Value::Question;
    let mut at = 0_usize;
    while compared.steps < MAX_STEPS {
        compared.steps += 1;
        let one = Instruction::of(*program.get(at)?);
        at += 1;
        let operand = match one.opcode & op::REGISTER {
            0 => Value::Known(i64::from(one.immediate).cast_unsigned()),
            _ => registers[one.from],
        };
        match one.opcode & op::CLASS {
            op::LD if one.opcode == op::LOAD_IMMEDIATE && one.from == 0 => {
                let high = Instruction::of(*program.get(at)?).immediate;
                at += 1;
                let low = u64::from(one.immediate.cast_unsigned());
                registers[one.to] = Value::Known(u64::from(high.cast_unsigned()) << 32 | low);
            }
            op::LDX => registers[one.to] = load(&one, registers[one.from], question)?,
            op::ST if one.opcode == op::NO_SPECULATION => {}
            op::ALU | op::ALU64 => {
                registers[one.to] = reckon(&one, registers[one.to], operand)?;
            }
            op::JMP | op::JMP32 => match one.opcode {
                // exit
                0x95 => {
                    let Value::Known(answer) = registers[0] else {
                        return None;
                    };
                    return Some(answer & 1 == 1);
                }
                // ja
                0x05 => at = at.checked_add_signed(isize::from(one.offset))?,
                0x06 => at = at.checked_add_signed(isize::try_from(one.immediate).ok()?)?,
                _ => {
                    if jumps(&one, registers[one.to], operand, compared)? {
                        at = at.checked_add_signed(isize::from(one.offset))?;
                    }
                }
            },
            _ => return None,
        }
    }
    None
}

/// Loads from the question.
fn load(one: &Instruction, base: Value, question: Question) -> Option<Value> {
    let Value::Question = base else {
        return None;
    };
    Some(match (one.opcode, one.offset) {
        // Words, and parts of the first one.
        (0x61, 0) => Value::Known(u64::from(question.access_type)),
        (0x69, 0) => Value::Known(u64::from(question.access_type & 0xffff)),
        (0x69, 2) => Value::Known(u64::from(question.access_type >> 16)),
        (0x71, 0) => Value::Known(u64::from(question.access_type & 0xff)),
        (0x71, 2) => Value::Known(u64::from(question.access_type >> 16 & 0xff)),
        (0x61, 4) => Value::Asked(u64::from(question.major), Number::Major),
        (0x61, 8) => Value::Asked(u64::from(question.minor), Number::Minor),
        _ => return None,
    })
}

/// Arithmetic.
fn reckon(one: &Instruction, left: Value, right: Value) -> Option<Value> {
    let is_wide = one.opcode & op::CLASS == op::ALU64;
    let operation = one.opcode & op::OPERATION;
    // Moves that extend signs have an offset.
    if operation == 0xb0 && one.offset == 0 {
        return Some(match right {
            Value::Known(value) if !is_wide => Value::Known(value & 0xffff_ffff),
            // Numbers have 32 bits.
            Value::Unset => return None,
            Value::Question if !is_wide => return None,
            other => other,
        });
    }
    let (left, right) = match (left, right) {
        (Value::Known(left), Value::Known(right)) => (left, right),
        (Value::Asked(..) | Value::Mixed, Value::Known(_) | Value::Asked(..) | Value::Mixed)
        | (Value::Known(_), Value::Asked(..) | Value::Mixed) => return Some(Value::Mixed),
        _ => return None,
    };
    let (left, right, bits) = match is_wide {
        true => (left, right, 63),
        false => (left & 0xffff_ffff, right & 0xffff_ffff, 31),
    };
    let value = match operation {
        0x00 => left.wrapping_add(right),
        0x10 => left.wrapping_sub(right),
        0x20 => left.wrapping_mul(right),
        0x40 => left | right,
        0x50 => left & right,
        0x60 => left << (right & bits),
        0x70 => left >> (right & bits),
        0x80 => left.wrapping_neg(),
        0xa0 => left ^ right,
        _ => return None,
    };
    let value = if is_wide { value } else { value & 0xffff_ffff };
    Some(Value::Known(value))
}

/// Whether a conditional jump is taken.
fn jumps(one: &Instruction, left: Value, right: Value, compared: &mut Compared) -> Option<bool> {
    let width = match one.opcode & op::CLASS {
        op::JMP32 => 0xffff_ffff,
        _ => u64::MAX,
    };
    let operation = one.opcode & op::OPERATION;
    let (left, right) = match (left, right) {
        (Value::Known(left), Value::Known(right)) => (left & width, right & width),
        (Value::Asked(asked, number), Value::Known(with))
        | (Value::Known(with), Value::Asked(asked, number))
            if matches!(operation, 0x10 | 0x50) =>
        {
            let with = with & width;
            if let Ok(with) = u32::try_from(with) {
                match number {
                    Number::Major => compared.major.insert(with),
                    Number::Minor => compared.minor.insert(with),
                };
            }
            (asked, with)
        }
        _ => return None,
    };
    let signed = |value: u64| match width {
        u64::MAX => value.cast_signed(),
        _ => i64::from((value as u32).cast_signed()),
    };
    Some(match operation {
        0x10 => left == right,
        0x50 => left != right,
        0x20 => left > right,
        0x30 => left >= right,
        0xa0 => left < right,
        0xb0 => left <= right,
        0x40 => left & right != 0,
        0x60 => signed(left) > signed(right),
        0x70 => signed(left) >= signed(right),
        0xc0 => signed(left) < signed(right),
        0xd0 => signed(left) <= signed(right),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    //! Goal: rules say of every device what the programs say. Method: programs as runc and systemd write them, and an
    //! interpreter of the list that they were made from.

    use super::*;
    use proptest::prelude::*;

    fn code(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
        let [low, high] = offset.to_le_bytes();
        let [a, b, c, d] = immediate.to_le_bytes();
        u64::from_le_bytes([opcode, to | from << 4, low, high, a, b, c, d])
    }

    fn prologue() -> Vec<u64> {
        vec![
            code(0x61, 2, 1, 0, 0),
            code(0x54, 2, 0, 0, 0xffff),
            code(0x61, 3, 1, 0, 0),
            code(0x74, 3, 0, 0, 16),
            code(0x61, 4, 1, 4, 0),
            code(0x61, 5, 1, 8, 0),
        ]
    }

    fn end(answer: i32) -> [u64; 2] {
        [code(0xb4, 0, 0, 0, answer), code(0x95, 0, 0, 0, 0)]
    }

    fn bits(rule: &DeviceRule) -> i32 {
        i32::from(rule.mknod) | i32::from(rule.read) << 1 | i32::from(rule.write) << 2
    }

    /// As runc writes a list that allows: a block for each rule, whose comparisons jump to the next one.
    fn runc(allows: &[DeviceRule]) -> Vec<u64> {
        let mut program = prologue();
        for rule in allows {
            let mut tests = Vec::new();
            if let Some(block) = rule.block {
                tests.push((0x55, 2, 0, if block { 1 } else { 2 }));
            }
            if bits(rule) != 7 {
                tests.push((0xbc, 1, 3, 0));
                tests.push((0x54, 1, 0, bits(rule)));
                tests.push((0x5d, 1, 3, 0));
            }
            tests.extend(rule.major.map(|n| (0x55, 4, 0, n.cast_signed())));
            tests.extend(rule.minor.map(|n| (0x55, 5, 0, n.cast_signed())));
            let length = tests.len() + 2;
            for (index, (opcode, to, from, immediate)) in tests.into_iter().enumerate() {
                let jumps = opcode & 0x7 == 0x5;
                let over = i16::try_from(length - index - 1).unwrap();
                program.push(code(
                    opcode,
                    to,
                    from,
                    if jumps { over } else { 0 },
                    immediate,
                ));
            }
            program.extend(end(1));
        }
        program.extend(end(0));
        program
    }

    fn allows(rules: &[DeviceRule], block: bool, major: u32, minor: u32) -> i32 {
        let fits = |rule: &&DeviceRule| {
            rule.block.is_none_or(|only| only == block)
                && rule.major.is_none_or(|only| only == major)
                && rule.minor.is_none_or(|only| only == minor)
        };
        rules
            .iter()
            .filter(fits)
            .fold(0, |all, rule| all | bits(rule))
    }

    fn some_rule() -> impl Strategy<Value = DeviceRule> {
        let number = || prop::option::of(0_u32..4);
        let block = prop::option::of(any::<bool>());
        (block, number(), number(), 1_u32..8)
            .prop_map(|(block, major, minor, bits)| rule(block, major, minor, bits))
    }

    proptest! {
        #[test]
        fn rules_say_what_the_program_says(list in prop::collection::vec(some_rule(), 0..8)) {
            let found = rules(&[runc(&list)]).unwrap();
            for block in [true, false] {
                for major in 0..5 {
                    for minor in 0..5 {
                        let want = allows(&list, block, major, minor);
                        prop_assert_eq!(allows(&found, block, major, minor), want);
                    }
                }
            }
        }

        /// What two programs say must both be so.
        #[test]
        fn all_programs_must_allow(
            one in prop::collection::vec(some_rule(), 0..5),
            other in prop::collection::vec(some_rule(), 0..5),
        ) {
            let found = rules(&[runc(&one), runc(&other)]).unwrap();
            for block in [true, false] {
                for major in 0..5 {
                    for minor in 0..5 {
                        let want = allows(&one, block, major, minor) & allows(&other, block, major, minor);
                        prop_assert_eq!(allows(&found, block, major, minor), want);
                    }
                }
            }
        }

        /// Nothing that the kernel may hold makes it panic, or run for long.
        #[test]
        fn any_program_is_survived(program in prop::collection::vec(any::<u64>(), 0..64)) {
            let _ = rules(&[program]);
        }
    }

    /// Where there is no program, nothing is forbidden.
    #[test]
    fn no_program_allows_all() {
        let all = rule(None, None, None, MKNOD | READ | WRITE);
        assert_eq!(rules(&[]), Some(vec![all]));
        assert_eq!(rules(&[end(1).to_vec()]), Some(vec![all]));
        assert_eq!(rules(&[end(0).to_vec()]), Some(vec![]));
    }

    /// `/dev/null` for reading and writing as systemd has it compiled: the question is compared in another order, and the
    /// answer is reached by jumps.
    #[test]
    fn as_systemd_writes_it() {
        let mut program = prologue();
        program.extend([
            code(0xbc, 1, 3, 0, 0),
            code(0x54, 1, 0, 0, 6),
            code(0x5d, 1, 3, 4, 0),
            code(0x55, 2, 0, 3, 2),
            code(0x55, 4, 0, 2, 1),
            code(0x55, 5, 0, 1, 3),
            code(0x05, 0, 0, 2, 0),
        ]);
        program.extend(end(0));
        program.extend(end(1));
        let null = rule(Some(false), Some(1), Some(3), READ | WRITE);
        assert_eq!(rules(&[program]), Some(vec![null]));
    }

    /// Constants that the kernel has blinded are put together again at run time.
    #[test]
    fn as_a_kernel_hardens_it() {
        let mut program = prologue();
        program.extend([
            code(0xb4, 11, 0, 0, 0x1234 ^ 5),
            code(0xa4, 11, 0, 0, 0x1234),
            code(0x5d, 4, 11, 2, 0),
            code(op::NO_SPECULATION, 0, 0, 0, 0),
            code(0x05, 0, 0, 2, 0),
        ]);
        program.extend(end(0));
        program.extend(end(1));
        let found = rules(&[program]).unwrap();
        let all = MKNOD | READ | WRITE;
        let want = [
            rule(Some(true), Some(5), None, all),
            rule(Some(false), Some(5), None, all),
        ];
        assert_eq!(found, want);
    }

    /// All but one device, a range of numbers, a call, memory, and no end: no rules say that.
    #[test]
    fn what_is_not_understood() {
        let but_one = [
            prologue(),
            vec![code(0x55, 4, 0, 2, 8)],
            end(0).to_vec(),
            end(1).to_vec(),
        ];
        let range = [
            prologue(),
            vec![code(0x25, 5, 0, 2, 100)],
            end(1).to_vec(),
            end(0).to_vec(),
        ];
        let call = [vec![code(0x85, 0, 0, 0, 14)], end(1).to_vec()];
        let memory = [vec![code(0x7a, 10, 0, -8, 1)], end(1).to_vec()];
        let no_end = [vec![code(0x05, 0, 0, -1, 0)]];
        let shifted = [
            prologue(),
            vec![code(0x74, 4, 0, 0, 1), code(0x55, 4, 0, 2, 0)],
            end(1).to_vec(),
            end(0).to_vec(),
        ];
        for program in [
            but_one.concat(),
            range.concat(),
            call.concat(),
            memory.concat(),
            no_end.concat(),
            shifted.concat(),
            vec![],
        ] {
            assert_eq!(rules(&[program]), None);
        }
    }

    fn record(total: u32, program: u32, length: u32, first: u32, count: u32) -> CodeRecord {
        let mut record: CodeRecord = zerocopy::FromZeros::new_zeroed();
        (record.total, record.program) = (total, program);
        (record.length, record.first, record.count) = (length, first, count);
        record
    }

    /// Programs that are not all there are not taken for those that are.
    #[test]
    fn pieces_are_put_together() {
        let head = || record(2, 0, 0, 0, 0);
        let whole = [
            head(),
            record(2, 1, 64, 0, 63),
            record(2, 1, 64, 63, 1),
            record(2, 2, 5, 0, 5),
        ];
        let found = programs(&whole).unwrap();
        assert_eq!((found[0].len(), found[1].len()), (64, 5));
        assert_eq!(programs(&[record(0, 0, 0, 0, 0)]), Some(vec![]));
        for cut in [
            vec![],
            vec![head()],
            whole[..3].to_vec(),
            vec![head(), record(2, 1, 64, 63, 1)],
            vec![record(5, 0, 0, 0, 0)],
            vec![head(), record(2, 3, 5, 0, 5)],
            vec![head(), record(2, 1, 200, 0, 100)],
        ] {
            assert_eq!(programs(&cut), None);
        }
    }
}
