//! Numbers of namespaces: which are the machine's own, which somebody is known to be in, and numbers for
//! those that a log does not name.

use crate::import::act::{HOSTS, Seen};
use crate::import::limits;
use crate::model::NsKind;
use auditor_common::limits::NS_SLOTS;
use auditor_common::record::ns;
use hashbrown::HashMap;

/// Numbers by slot; 0: not known.
pub(super) type Numbers = [u32; NS_SLOTS];

/// The machine's own namespaces that have the same number on every machine (`PROC_*_INIT_INO`, the same
/// since 3.8; time since 5.6). Those of mounts and of the network have one only on newer kernels.
const INITIAL: [(usize, u32); 8] = [
    (ns::IPC, 0xefff_ffff),
    (ns::UTS, 0xefff_fffe),
    (ns::USER, 0xefff_fffd),
    (ns::PID, 0xefff_fffc),
    (ns::PID_FOR_CHILDREN, 0xefff_fffc),
    (ns::CGROUP, 0xefff_fffb),
    (ns::TIME, 0xefff_fffa),
    (ns::TIME_FOR_CHILDREN, 0xefff_fffa),
];
/// The kernel gives out no number below this one.
const FIRST_REAL: u32 = 0xefff_fff0;
/// Slots in which a container that is first seen in the middle of its life is taken to share with the machine
/// where the log does not say: most do, and nothing is judged by it.
const COMMON: [usize; 3] = [ns::USER, ns::TIME, ns::TIME_FOR_CHILDREN];

/// The slot of the namespace itself, for those that name the namespace of children.
pub(super) fn object(slot: usize) -> usize {
    NsKind::ALL[slot].object_kind().slot()
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// The machine's own.
    pub(super) machine: Numbers,
    /// Slots of which the log told the machine's own number.
    told: u16,
    /// What a number really means: the machine's own that became known late, a container's stand-in.
    aliases: HashMap<(usize, u32), u32>,
    /// How often each is held, by what the engine was told.
    held: HashMap<(usize, u32), u32>,
    stand_ins: u32,
}

impl Namespaces {
    /// Takes from a description what it says of the machine's own namespaces, before the stream begins.
    pub(super) fn learn(&mut self, seen: &Seen) {
        let is_first = seen.tgid == 1;
        for (slot, &number) in seen.ns.iter().enumerate() {
            let says_so = seen.hosts & (1 << slot) != 0 || is_first && seen.container.is_none();
            if says_so {
                self.set_machine(slot, number);
            }
        }
    }

    /// The machine's own namespaces, told outright.
    pub(super) fn learn_machine(&mut self, numbers: &Numbers) {
        for (slot, &number) in numbers.iter().enumerate() {
            self.set_machine(slot, number);
        }
    }

    fn set_machine(&mut self, slot: usize, number: u32) {
        if number == 0 || number == HOSTS || self.told & (1 << slot) != 0 {
            return;
        }
        self.told |= 1 << slot;
        self.machine[slot] = number;
    }

    /// Whether the log told the machine's own mount namespace.
    pub(super) fn knows_machine(&self) -> bool {
        self.told & (1 << ns::MNT) != 0
    }

    /// Whether the machine's own number is known: told, or the same everywhere.
    pub(super) fn is_known(&self, slot: usize) -> bool {
        self.machine[slot] >= FIRST_REAL
    }

    /// No more is learnt before the stream begins: what is missing gets its usual number or a stand-in.
    pub(super) fn begin(&mut self) {
        for (slot, number) in INITIAL {
            if self.machine[slot] == 0 {
                self.machine[slot] = number;
            }
        }
        for slot in 0..NS_SLOTS {
            if self.machine[slot] == 0 {
                self.machine[slot] = self.stand_in();
            }
        }
        let machine = self.machine;
        self.hold(&machine);
    }

    /// A number that no namespace has.
    pub(super) fn stand_in(&mut self) -> u32 {
        self.stand_ins = (self.stand_ins + 1).min(FIRST_REAL - 1);
        self.stand_ins
    }

    pub(super) fn is_stand_in(number: u32) -> bool {
        number != 0 && number < FIRST_REAL
    }

    /// The numbers of a description as they are called here.
    pub(super) fn canonical(&mut self, seen: &Seen) -> Numbers {
        let mut numbers = seen.ns;
        for (slot, number) in numbers.iter_mut().enumerate() {
            let machine = self.machine[slot];
            if *number == HOSTS {
                *number = machine;
            } else if *number != 0 && seen.hosts & (1 << slot) != 0 && *number != machine {
                self.alias(slot, *number, machine);
            }
            if let Some(known) = self.aliases.get(&(object(slot), *number)) {
                *number = *known;
            }
        }
        numbers
    }

    /// From here on `number` is called `means`.
    pub(super) fn alias(&mut self, slot: usize, number: u32, means: u32) {
        if self.aliases.len() < limits::ALIASES {
            self.aliases.insert((object(slot), number), means);
        }
    }

    /// The machine's own namespaces, told after the stream began.
    pub(super) fn learn_late(&mut self, numbers: &Numbers) {
        for (slot, &number) in numbers.iter().enumerate() {
            let machine = self.machine[slot];
            if number != 0 && number != machine {
                self.alias(slot, number, machine);
            }
        }
    }

    /// Fills what is not known of a container with numbers that stand for namespaces of its own.
    pub(super) fn fill_own(&mut self, numbers: &mut Numbers) {
        for slot in 0..NS_SLOTS {
            if numbers[slot] != 0 {
                continue;
            }
            numbers[slot] = if COMMON.contains(&slot) {
                self.machine[slot]
            } else if object(slot) != slot && numbers[object(slot)] != 0 {
                numbers[object(slot)]
            } else {
                self.stand_in()
            };
        }
    }

    /// Fills what is not known of a task of the machine's.
    pub(super) fn fill_machine(&self, numbers: &mut Numbers) {
        for slot in 0..NS_SLOTS {
            if numbers[slot] != 0 {
                continue;
            }
            numbers[slot] = match numbers[object(slot)] {
                0 => self.machine[slot],
                number => number,
            };
        }
    }

    /// One more task, or the machine, has these.
    pub(super) fn hold(&mut self, numbers: &Numbers) {
        for (slot, &number) in numbers.iter().enumerate() {
            *self.held.entry((object(slot), number)).or_insert(0) += 1;
        }
    }

    /// One less.
    pub(super) fn release(&mut self, numbers: &Numbers) {
        for (slot, &number) in numbers.iter().enumerate() {
            let key = (object(slot), number);
            if let Some(count) = self.held.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.held.remove(&key);
                }
            }
        }
    }

    /// Whether somebody is known to be in it.
    pub(super) fn is_held(&self, slot: usize, number: u32) -> bool {
        self.held.contains_key(&(object(slot), number))
    }
}
