// SPDX-License-Identifier: Apache-2.0
//! Equal values once, counted, named by a small number.

use std::collections::HashMap;
use std::hash::Hash;

/// Values in use, by number.
#[derive(Clone, Debug)]
pub(crate) struct Interner<T> {
    numbers: HashMap<T, u32>,
    slots: Vec<Option<(T, u32)>>,
    free: Vec<u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    /// The number of `value`, with one more user.
    pub(crate) fn take(&mut self, value: &T) -> u32 {
        if let Some(&number) = self.numbers.get(value) {
            self.slots[number as usize]
                .as_mut()
                .expect("numbers point at values")
                .1 += 1;
            return number;
        }
        let slot = Some((value.clone(), 1));
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("rows are bounded far below 2^32")
            }
        };
        self.numbers.insert(value.clone(), number);
        number
    }

    /// One user less.
    pub(crate) fn give(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        let (value, users) = slot.as_mut().expect("given back at most as often as taken");
        *users -= 1;
        if *users == 0 {
            self.numbers.remove(value);
            *slot = None;
            self.free.push(number);
        }
    }

    /// How often `number` is in use.
    pub(crate) fn users(&self, number: u32) -> u32 {
        self.slots[number as usize]
            .as_ref()
            .map_or(0, |(_, users)| *users)
    }

    pub(crate) fn get(&self, number: u32) -> &T {
        &self.slots[number as usize]
            .as_ref()
            .expect("a number in use has a value")
            .0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_when_nobody_uses_them() {
        let mut interner = Interner::default();
        let a = interner.take(&"a");
        assert_eq!(interner.take(&"a"), a);
        let b = interner.take(&"b");
        interner.give(a);
        assert_eq!(*interner.get(a), "a");
        interner.give(a);
        assert_eq!(interner.take(&"c"), a);
        assert_eq!(*interner.get(b), "b");
    }
}
