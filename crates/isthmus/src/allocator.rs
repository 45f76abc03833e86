// SPDX-License-Identifier: Apache-2.0
//! The allocator of the whole program: mimalloc, because musl's own is slow. Built without transparent huge pages:
//! an agent is small, runs on every node, and would hold several of them nearly empty.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Index of `mi_option_purge_delay` in mimalloc 2 and 3 (`mimalloc.h`); the bindings do not name it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Freed pages go back to the kernel at once. Loading the programs takes tens of megabytes that are never needed again;
/// the default gives them back only as a side effect of later allocations, of which a quiet agent makes few.
pub(crate) fn give_back_at_once() {
    // SAFETY: stores a number in mimalloc's table of options, whose bounds it checks itself; no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}
