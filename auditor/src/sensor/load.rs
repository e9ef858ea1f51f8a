//! Loads the object: writes what this kernel looks like into its globals, sizes its rings, creates its maps.
//!
//! No program enters the kernel here; each is loaded when it is attached ([`super::attach`]), so that one that a
//! kernel refuses never takes the others with it.

use super::resolve::Resolved;
use auditor_common::ABI_VERSION;
use auditor_common::hook::HOOKS;
use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfError, EbpfLoader};
use thiserror::Error;

/// The kernel programs, as committed beside their sources' hash.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/ebpf/auditor.bpf.o"));

/// Native syscall numbers, which are small on every machine.
const NR_SETNS: i32 = libc::SYS_setns as i32;
const NR_UNSHARE: i32 = libc::SYS_unshare as i32;

/// Why the object could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel refuses BPF or a map.
    #[error("cannot load the kernel programs")]
    Object(#[from] EbpfError),
    /// A size that a ring buffer cannot have.
    #[error("ring {ring} cannot have {bytes} bytes: not a power of two of whole pages")]
    RingSize {
        /// The map.
        ring: &'static str,
        /// What was asked for.
        bytes: u32,
    },
    /// The object lacks a map.
    #[error("the object has no usable map {map}")]
    Map {
        /// The map.
        map: &'static str,
    },
}

/// What the programs must know of this machine and this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The agent's thread group id **in the initial pid namespace**; its own events are dropped.
    pub own_tgid: u32,
    /// Bit n: the controller of cgroup slot n (1..) is mounted as v1.
    pub v1_slots: u32,
    /// Bytes of a kernel stack, to find syscall numbers before 5.15; 0: unknown.
    pub thread_size: u32,
    /// Bytes waiting in a ring from which on each event wakes the reader.
    pub wake_bytes: u32,
    /// Size of the ring for state-bearing events.
    pub events_bytes: u32,
    /// Size of the ring for frequent events.
    pub bulk_bytes: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            own_tgid: std::process::id(),
            v1_slots: 0,
            thread_size: thread_size(),
            wake_bytes: 256 << 10,
            events_bytes: 8 << 20,
            bulk_bytes: 1 << 20,
        }
    }
}

/// Bytes of a kernel stack where it is fixed (`THREAD_SIZE`); only a witness depends on it.
const fn thread_size() -> u32 {
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        16 << 10
    } else {
        0
    }
}

/// The two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// State-bearing events.
    Events,
    /// Frequent events.
    Bulk,
}

impl Ring {
    /// Name of the map.
    #[must_use]
    pub const fn map(self) -> &'static str {
        match self {
            Self::Events => "EVENTS",
            Self::Bulk => "BULK",
        }
    }
}

/// What one hook wrote and lost, over all CPUs, since the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookCount {
    /// Records written.
    pub emitted: u64,
    /// Records that did not fit.
    pub lost: u64,
    /// Events that the program knew not to matter.
    pub filtered: u64,
}

/// The loaded object. Programs stay attached while it lives.
pub struct Sensor {
    pub(super) ebpf: Ebpf,
    lost: PerCpuArray<MapData, u64>,
    emitted: PerCpuArray<MapData, u64>,
    filtered: PerCpuArray<MapData, u64>,
    pub(super) keep_creds: Array<MapData, u32>,
}

impl Sensor {
    /// Creates the maps and prepares the programs.
    ///
    /// # Errors
    /// When a size is impossible, or the kernel refuses a map.
    pub fn load(resolved: &Resolved, setup: &Setup) -> Result<Self, LoadError> {
        check_ring(Ring::Events, setup.events_bytes)?;
        check_ring(Ring::Bulk, setup.bulk_bytes)?;
        let fields: Vec<(&'static str, u32)> = resolved.iter().collect();
        let Setup {
            own_tgid,
            v1_slots,
            thread_size,
            wake_bytes,
            events_bytes,
            bulk_bytes,
        } = setup;
        let mut loader = EbpfLoader::new();
        for (symbol, value) in &fields {
            loader.override_global(symbol, value, true);
        }
        let mut ebpf = loader
            .override_global("OWN_TGID", own_tgid, true)
            .override_global("V1_SLOTS", v1_slots, true)
            .override_global("THREAD_SIZE", thread_size, true)
            .override_global("WAKE_BYTES", wake_bytes, true)
            .override_global("NR_SETNS", &NR_SETNS, true)
            .override_global("NR_UNSHARE", &NR_UNSHARE, true)
            .override_global("ABI_VERSION", &ABI_VERSION, true)
            .map_max_entries(Ring::Events.map(), *events_bytes)
            .map_max_entries(Ring::Bulk.map(), *bulk_bytes)
            .load(OBJECT)?;
        let lost = counters(&mut ebpf, "LOST")?;
        let emitted = counters(&mut ebpf, "EMITTED")?;
        let filtered = counters(&mut ebpf, "FILTERED")?;
        let keep_creds = ebpf
            .take_map("KEEP_CREDS")
            .and_then(|map| Array::try_from(map).ok());
        let keep_creds = keep_creds.ok_or(LoadError::Map { map: "KEEP_CREDS" })?;
        Ok(Self {
            ebpf,
            lost,
            emitted,
            filtered,
            keep_creds,
        })
    }

    /// Takes a ring for reading. `None` when it was taken before.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn take_ring(
        &mut self,
        ring: Ring,
    ) -> Option<Result<RingBuf<MapData>, aya::maps::MapError>> {
        self.ebpf.take_map(ring.map()).map(RingBuf::try_from)
    }

    /// What each hook wrote and lost, indexed as [`HOOKS`].
    ///
    /// # Errors
    /// When a counter cannot be read.
    pub fn counts(&self) -> Result<Vec<HookCount>, aya::maps::MapError> {
        let sum =
            |map: &PerCpuArray<MapData, u64>, index: u32| -> Result<u64, aya::maps::MapError> {
                Ok(map.get(&index, 0)?.iter().sum())
            };
        (0u32..)
            .zip(HOOKS)
            .map(|(index, _)| {
                let emitted = sum(&self.emitted, index)?;
                let lost = sum(&self.lost, index)?;
                let filtered = sum(&self.filtered, index)?;
                Ok(HookCount {
                    emitted,
                    lost,
                    filtered,
                })
            })
            .collect()
    }
}

fn counters(ebpf: &mut Ebpf, name: &'static str) -> Result<PerCpuArray<MapData, u64>, LoadError> {
    let map: Option<Map> = ebpf.take_map(name);
    map.and_then(|map| PerCpuArray::try_from(map).ok())
        .ok_or(LoadError::Map { map: name })
}

fn check_ring(ring: Ring, bytes: u32) -> Result<(), LoadError> {
    /// Smallest page of any machine that runs the sensor.
    const PAGE: u32 = 4096;
    if bytes.is_power_of_two() && bytes >= PAGE {
        Ok(())
    } else {
        Err(LoadError::RingSize {
            ring: ring.map(),
            bytes,
        })
    }
}
