// SPDX-License-Identifier: Apache-2.0
//! What the process keeps in memory: its allocator, and how much of its own program.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// mimalloc, because musl's own is slow. Built without transparent huge pages: an agent is small, runs on every node, and
/// would hold several of them nearly empty.
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

/// Lets go of the pages of the program itself, most of which only its start needed. What is needed again is mapped again when
/// it is, from the kernel's cache of the file. That this cannot be done, where `/proc` is hidden, costs memory only.
pub(crate) fn forget_the_start() {
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    let Ok(program) = fs::metadata("/proc/self/exe") else {
        return;
    };
    for (start, end) in unchanged(&maps, program.ino()) {
        // SAFETY: the range is a mapping of the program's file that cannot be written and of which no page was ever changed, so
        // dropping its pages changes nothing that it holds: the next access reads the same bytes from the file.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// The mappings of the file with this inode in `smaps` that cannot be written and have no page of their own (relocated
/// data has: it cannot be read from the file again).
fn unchanged(smaps: &str, inode: u64) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if let Some(range) = range(first) {
            let (access, of) = (words.next(), words.nth(2));
            let is_fixed = access.is_some_and(|access| access.starts_with("r-"));
            let is_program = of.and_then(|of| of.parse().ok()) == Some(inode);
            current = (is_fixed && is_program).then_some(range);
        } else if first == "Anonymous:" && words.next() == Some("0") {
            found.extend(current.take());
        }
    }
    found
}

/// `start-end` in hexadecimal.
fn range(word: &str) -> Option<(usize, usize)> {
    let (start, end) = word.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_still_says_is_let_go() {
        let maps = "\
1000-2000 r--p 00000000 fe:00 77 /usr/bin/isthmus
Rss: 4 kB
Anonymous: 0 kB
2000-5000 r-xp 00001000 fe:00 77 /usr/bin/isthmus
Anonymous: 0 kB
5000-6000 r--p 00004000 fe:00 77 /usr/bin/isthmus
Anonymous: 4 kB
6000-7000 rw-p 00005000 fe:00 77 /usr/bin/isthmus
Anonymous: 0 kB
8000-9000 r--p 00000000 fe:00 78 /lib/other
Anonymous: 0 kB
7f00-7f10 rw-p 00000000 00:00 0 [heap]
Anonymous: 0 kB
";
        assert_eq!(unchanged(maps, 77), [(0x1000, 0x2000), (0x2000, 0x5000)]);
    }

    #[test]
    fn the_process_goes_on() {
        let texts: Vec<String> = (0..1000).map(|n| format!("{n:x}")).collect();
        forget_the_start();
        assert_eq!(texts[255], "ff");
        let maps = fs::read_to_string("/proc/self/smaps").expect("it is there");
        let program = fs::metadata("/proc/self/exe").expect("it is there");
        assert!(!unchanged(&maps, program.ino()).is_empty());
    }
}
