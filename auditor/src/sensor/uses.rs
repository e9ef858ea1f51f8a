//! What the kernel programs remember of who asked for which capability, and who made which system call.

use super::load::LoadError;
use auditor_common::limits::CALL_LIMIT;
use auditor_common::record::capable::own;
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError};

/// Key of the map of uses: four words that mean nothing here.
type User = [u64; 4];
/// Its value: see the kernel programs.
type Uses = [u64; 16];
/// As [`Uses`], for system calls.
type Calls = [u64; CALL_LIMIT / 64];
/// The short way to either.
type Recent = [[u64; 4]; 1024];
/// The value of a call that is not known.
const NO_SYSCALL: u32 = 0xffff;

/// The maps.
pub struct UseMaps {
    told: HashMap<MapData, User, Uses>,
    recent: Array<MapData, Recent>,
    calls: HashMap<MapData, User, Calls>,
    recent_calls: Array<MapData, Recent>,
    own: HashMap<MapData, u32, u8>,
}

impl std::fmt::Debug for UseMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UseMaps").finish_non_exhaustive()
    }
}

/// A way in which the agent, or its helper, asked for a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnUse {
    /// Its number.
    pub capability: u8,
    /// Whether the task had it.
    pub granted: bool,
    /// Whether the kernel only probed; `None`: it does not say.
    pub probe: Option<bool>,
    /// Number of the system call; negative: not known.
    pub syscall: i32,
}

impl From<u32> for OwnUse {
    fn from(key: u32) -> Self {
        let [capability, ..] = key.to_le_bytes();
        let number = key >> own::SYSCALL_SHIFT;
        Self {
            capability,
            granted: key & own::GRANTED != 0,
            probe: (key & own::KNOWN != 0).then_some(key & own::PROBE != 0),
            syscall: match number {
                NO_SYSCALL => -1,
                _ => i32::try_from(number).unwrap_or(-1),
            },
        }
    }
}

impl UseMaps {
    /// Takes them out of the object.
    ///
    /// # Errors
    /// When it has none such.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            told: take(ebpf, "USES")?,
            recent: take(ebpf, ".bss.recent")?,
            calls: take(ebpf, "CALLS")?,
            recent_calls: take(ebpf, ".bss.calls")?,
            own: take(ebpf, "OWN_USES")?,
        })
    }

    /// Has the kernel programs forget which uses and calls they have told: the next of each is told again.
    pub fn forget(&mut self) {
        let users = forget(&mut self.told, &mut self.recent);
        let callers = forget(&mut self.calls, &mut self.recent_calls);
        tracing::debug!(users, callers, "what containers use is told anew");
    }

    /// What the agent asked for since the last call.
    pub fn take_own(&mut self) -> Vec<OwnUse> {
        let keys: Vec<u32> = self.own.keys().filter_map(Result::ok).collect();
        for key in &keys {
            let _gone = self.own.remove(key);
        }
        let mut uses: Vec<OwnUse> = keys.into_iter().map(OwnUse::from).collect();
        uses.sort_unstable();
        uses
    }
}

fn forget<V: aya::Pod>(
    told: &mut HashMap<MapData, User, V>,
    recent: &mut Array<MapData, Recent>,
) -> usize {
    let users: Vec<User> = told.keys().filter_map(Result::ok).collect();
    for user in &users {
        // Who made room by itself is forgotten too.
        let _gone = told.remove(user);
    }
    // After the map that it is filled from.
    if let Err(error) = recent.set(0, [[0; 4]; 1024], 0) {
        tracing::warn!("what containers use may not be told again: {error}");
    }
    users.len()
}

fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, LoadError> {
    ebpf.take_map(name)
        .and_then(|map| M::try_from(map).ok())
        .ok_or(LoadError::Missing { what: "map", name })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel programs put into a key is read out of it.
    #[test]
    fn a_key_says_how_was_asked() {
        let want = OwnUse {
            capability: 21,
            granted: true,
            probe: None,
            syscall: 321,
        };
        assert_eq!(OwnUse::from(321 << 16 | own::GRANTED | 21), want);
        let want = OwnUse {
            capability: 6,
            granted: false,
            probe: Some(true),
            syscall: -1,
        };
        let key = 0xffff << 16 | own::KNOWN | own::PROBE | 6;
        assert_eq!(OwnUse::from(key), want);
    }
}
