// SPDX-License-Identifier: Apache-2.0
//! Rows of verdicts by content: equal rows are one row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::cookie::Cookies;
use crate::ids::Ids;
use crate::{Op, RowMatch, RowVerdict};

/// Entries of a row, ingress first.
pub(crate) type RowContent = Arc<[(RowMatch, RowVerdict)]>;

#[derive(Clone, Debug)]
struct Row {
    content: RowContent,
    users: usize,
}

/// All rows.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    by_content: HashMap<RowContent, u32>,
    table: BTreeMap<u32, Row>,
    idle: BTreeSet<u32>,
    ids: Ids,
    /// Of all rows.
    entries: usize,
}

impl Rows {
    pub(crate) fn new() -> Self {
        let (by_content, table) = (HashMap::new(), BTreeMap::new());
        Self {
            by_content,
            table,
            idle: BTreeSet::new(),
            ids: Ids::up_to(u32::MAX),
            entries: 0,
        }
    }

    /// The row with this content, with one more user. Entries of a new row go to `ops`.
    pub(crate) fn acquire(
        &mut self,
        content: RowContent,
        cookies: &mut Cookies,
        ops: &mut Vec<Op>,
    ) -> u32 {
        if let Some(&row) = self.by_content.get(&content) {
            self.hold(row);
            return row;
        }
        let row = self.ids.take(|id| self.table.contains_key(&id));
        for &(matching, verdict) in content.iter() {
            cookies.hold(verdict.rule);
            ops.push(Op::PutRow {
                row,
                matching,
                verdict,
            });
        }
        self.entries += content.len();
        self.by_content.insert(content.clone(), row);
        self.table.insert(row, Row { content, users: 1 });
        row
    }

    /// One more user of a row. Row 0 is none.
    pub(crate) fn hold(&mut self, row: u32) {
        if let Some(row) = self.table.get_mut(&row) {
            row.users += 1;
        }
    }

    /// One user less. The row stays until [`Rows::sweep`].
    pub(crate) fn release(&mut self, id: u32) {
        let Some(row) = self.table.get_mut(&id) else {
            return;
        };
        row.users -= 1;
        if row.users == 0 {
            self.idle.insert(id);
        }
    }

    /// Deletes rows without users.
    pub(crate) fn sweep(&mut self, cookies: &mut Cookies, ops: &mut Vec<Op>) {
        for id in std::mem::take(&mut self.idle) {
            if self.table.get(&id).is_none_or(|row| row.users > 0) {
                continue;
            }
            let row = self.table.remove(&id).expect("just found");
            if self.by_content.get(&row.content) == Some(&id) {
                self.by_content.remove(&row.content);
            }
            self.entries -= row.content.len();
            for &(matching, verdict) in row.content.iter() {
                cookies.release(verdict.rule);
                ops.push(Op::DeleteRow { row: id, matching });
            }
        }
    }

    /// Entries of all rows.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    pub(crate) fn content(&self, row: u32) -> &[(RowMatch, RowVerdict)] {
        self.table.get(&row).map_or(&[], |row| &row.content)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[(RowMatch, RowVerdict)])> {
        self.table.iter().map(|(&id, row)| (id, &*row.content))
    }
}
