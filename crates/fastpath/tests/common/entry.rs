// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! An entry of conntrack in memory.

use std::cell::{Cell, RefCell};

use abi::Flow;
use fastpath::FlowRef;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry(&'static Cell<Flow>);

thread_local! {
    /// Entries of worlds that are gone: a fuzzer makes millions.
    static UNUSED: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

impl Entry {
    pub(crate) fn new(flow: &Flow) -> Entry {
        let used = UNUSED.with_borrow_mut(Vec::pop);
        let entry = used.unwrap_or_else(|| Entry(Box::leak(Box::default())));
        entry.0.set(*flow);
        entry
    }

    /// Gives the entry of a world that is gone to the next.
    pub(crate) fn reuse(self) {
        UNUSED.with_borrow_mut(|unused| unused.push(self));
    }
}

impl FlowRef for Entry {
    fn get(&self) -> Flow {
        self.0.get()
    }
    fn refresh(&self, expires: u32) {
        self.0.set(Flow {
            expires,
            ..self.0.get()
        });
    }
    fn transition(&self, flags: u16, tx_flags: u8, rx_flags: u8) {
        self.0.set(Flow {
            flags,
            tx_flags,
            rx_flags,
            ..self.0.get()
        });
    }
}
