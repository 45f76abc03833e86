// SPDX-License-Identifier: Apache-2.0
//! Numbers of policies, rows and classes.

/// Hands out numbers in order, and again only after all others.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    next: u32,
    last: u32,
}

impl Ids {
    /// From 1 to `last`.
    pub(crate) fn up_to(last: u32) -> Self {
        Self { next: 1, last }
    }

    /// Continues after a number that is in use.
    pub(crate) fn start_above(&mut self, used: u32) {
        if used >= self.next {
            self.next = if used >= self.last { 1 } else { used + 1 };
        }
    }

    /// The next number that is free. There are far fewer in use than numbers.
    pub(crate) fn take(&mut self, in_use: impl Fn(u32) -> bool) -> u32 {
        loop {
            let id = self.next;
            self.next = if id >= self.last { 1 } else { id + 1 };
            if !in_use(id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuse_is_last_resort() {
        let mut ids = Ids::up_to(3);
        ids.start_above(1);
        assert_eq!(ids.take(|_| false), 2);
        assert_eq!(ids.take(|_| false), 3);
        assert_eq!(ids.take(|id| id == 1), 2);
    }
}
