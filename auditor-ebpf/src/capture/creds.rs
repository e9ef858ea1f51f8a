//! Credentials and the user namespace that gives them meaning.

use crate::kernel::globals::{
    CRED_AMB, CRED_BND, CRED_EFF, CRED_EGID, CRED_EUID, CRED_FSGID, CRED_FSUID, CRED_GID, CRED_INH,
    CRED_PRM, CRED_SECUREBITS, CRED_SGID, CRED_SUID, CRED_UID, CRED_USERNS, USERNS_INUM,
    USERNS_LEVEL, USERNS_PARENT, USERNS_UNIQUE,
};
use crate::kernel::{Access, Ptr};
use auditor_common::record::{TaskState, known, ns};

/// Writes credentials over whatever the state says.
///
/// # Safety
/// As for [`Access`]; `out` is writable.
#[inline(always)]
pub unsafe fn fill<A: Access>(cred: Ptr, out: *mut TaskState) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let creds = &raw mut (*out).creds;
        (*creds).uid = A::u32(cred, &CRED_UID);
        (*creds).gid = A::u32(cred, &CRED_GID);
        (*creds).suid = A::u32(cred, &CRED_SUID);
        (*creds).sgid = A::u32(cred, &CRED_SGID);
        (*creds).euid = A::u32(cred, &CRED_EUID);
        (*creds).egid = A::u32(cred, &CRED_EGID);
        (*creds).fsuid = A::u32(cred, &CRED_FSUID);
        (*creds).fsgid = A::u32(cred, &CRED_FSGID);
        (*creds).cap_inheritable = A::u64(cred, &CRED_INH);
        (*creds).cap_permitted = A::u64(cred, &CRED_PRM);
        (*creds).cap_effective = A::u64(cred, &CRED_EFF);
        (*creds).cap_bounding = A::u64(cred, &CRED_BND);
        (*creds).cap_ambient = A::u64(cred, &CRED_AMB);
        (*creds).securebits = A::u32(cred, &CRED_SECUREBITS);
        (*out).known |= known::CREDS;
        let namespace = A::ptr(cred, &CRED_USERNS);
        if !namespace.is_null() {
            user_namespace::<A>(namespace, out);
        }
    }
}

#[inline(always)]
unsafe fn user_namespace<A: Access>(namespace: Ptr, out: *mut TaskState) {
    // SAFETY: the caller's promise; pointers are checked.
    unsafe {
        let slot = &raw mut (*out).ns[ns::USER];
        (*slot).inum = A::u32(namespace, &USERNS_INUM);
        (*slot).unique_id = A::u64(namespace, &USERNS_UNIQUE);
        (*out).user_level = A::u32(namespace, &USERNS_LEVEL);
        let parent = A::ptr(namespace, &USERNS_PARENT);
        let mut owner = 0;
        if !parent.is_null() {
            owner = A::u32(parent, &USERNS_INUM);
        }
        (*slot).owner_inum = owner;
    }
}

/// Whether two sets of credentials belong to different user namespaces.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn is_other_namespace<A: Access>(a: Ptr, b: Ptr) -> bool {
    // SAFETY: the caller's promise.
    unsafe { A::ptr(a, &CRED_USERNS) != A::ptr(b, &CRED_USERNS) }
}

/// Whether two sets of credentials differ in anything that a record holds.
///
/// # Safety
/// As for [`Access`].
#[inline(always)]
pub unsafe fn differ<A: Access>(a: Ptr, b: Ptr) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if is_other_namespace::<A>(a, b) {
            return true;
        }
        let words = [
            &CRED_UID,
            &CRED_GID,
            &CRED_SUID,
            &CRED_SGID,
            &CRED_EUID,
            &CRED_EGID,
            &CRED_FSUID,
            &CRED_FSGID,
            &CRED_SECUREBITS,
        ];
        let mut difference = 0u64;
        for field in words {
            difference |= u64::from(A::u32(a, field) ^ A::u32(b, field));
        }
        for field in [&CRED_INH, &CRED_PRM, &CRED_EFF, &CRED_BND, &CRED_AMB] {
            difference |= A::u64(a, field) ^ A::u64(b, field);
        }
        difference != 0
    }
}
