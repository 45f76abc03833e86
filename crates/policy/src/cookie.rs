// SPDX-License-Identifier: Apache-2.0
//! Numbers for what decided, so that an event can name it.

use std::collections::{HashMap, VecDeque};

use crate::compile::Origin;
use crate::{Direction, PolicyKey};

/// Contributors that a cookie names; further ones are left out.
const NAMED: usize = 8;
/// Cookies that are kept after their last row is gone, so that late events can still be explained.
const REMEMBERED: usize = 4096;

/// What decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Decision {
    Allowed,
    Denied,
    Localhost,
    DefaultDeny,
    /// Closed because the enforcement mode is `always`.
    ModeAlways,
    /// Closed because the endpoint is in state init.
    Init,
    /// Closed because the labels of the endpoint's identity are not known.
    Unlabelled,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Cause {
    decision: Decision,
    direction: Direction,
    by: Vec<Origin>,
    more: bool,
}

/// What a cookie stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleInfo {
    /// The policies behind it, at most 8; empty for what no policy decides.
    pub policies: Vec<PolicyKey>,
    /// In words: `allowed by cnp demo/backend ingress[0]`, `default deny of ingress begun by cnp demo/backend`.
    pub text: String,
}

/// Cookies by cause and back. A number is given to one cause only, for ever.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    by_cause: HashMap<Cause, u32>,
    table: HashMap<u32, (Cause, usize)>,
    unused: VecDeque<u32>,
    next: u32,
}

impl Cookies {
    pub(crate) fn new() -> Self {
        let (by_cause, table) = (HashMap::new(), HashMap::new());
        Self {
            by_cause,
            table,
            unused: VecDeque::new(),
            next: 1,
        }
    }

    /// Knows the same causes under the same numbers; no row holds them.
    pub(crate) fn unheld(&self) -> Self {
        let mut unused: Vec<u32> = self.table.keys().copied().collect();
        unused.sort_unstable();
        let causes = self.table.iter();
        let table = causes.map(|(&cookie, (cause, _))| (cookie, (cause.clone(), 0)));
        Self {
            by_cause: self.by_cause.clone(),
            table: table.collect(),
            unused: unused.into(),
            next: self.next,
        }
    }

    /// The cookie of a cause. The order and repetition of `by` do not matter.
    pub(crate) fn of(
        &mut self,
        decision: Decision,
        direction: Direction,
        mut by: Vec<Origin>,
    ) -> u32 {
        by.sort();
        by.dedup();
        let more = by.len() > NAMED;
        by.truncate(NAMED);
        let cause = Cause {
            decision,
            direction,
            by,
            more,
        };
        if let Some(&cookie) = self.by_cause.get(&cause) {
            return cookie;
        }
        let cookie = self.next;
        if cookie == u32::MAX {
            return 0;
        }
        self.next += 1;
        self.by_cause.insert(cause.clone(), cookie);
        self.table.insert(cookie, (cause, 0));
        cookie
    }

    /// A row holds it.
    pub(crate) fn hold(&mut self, cookie: u32) {
        if let Some((_, holders)) = self.table.get_mut(&cookie) {
            *holders += 1;
        }
    }

    /// A row lets it go.
    pub(crate) fn release(&mut self, cookie: u32) {
        let Some((_, holders)) = self.table.get_mut(&cookie) else {
            return;
        };
        *holders -= 1;
        if *holders == 0 {
            self.unused.push_back(cookie);
        }
        while self.unused.len() > REMEMBERED {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(cookie) = self.unused.pop_front() else {
            return;
        };
        if self
            .table
            .get(&cookie)
            .is_some_and(|(_, holders)| *holders == 0)
            && let Some((cause, _)) = self.table.remove(&cookie)
        {
            self.by_cause.remove(&cause);
        }
    }

    /// What a cookie stands for.
    pub(crate) fn info(&self, cookie: u32) -> Option<RuleInfo> {
        let (cause, _) = self.table.get(&cookie)?;
        let mut policies: Vec<PolicyKey> = cause.by.iter().map(|o| (*o.policy).clone()).collect();
        policies.dedup();
        Some(RuleInfo {
            policies,
            text: cause.text(),
        })
    }
}

impl Cause {
    fn text(&self) -> String {
        let direction = match self.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let named = |origin: &Origin| {
            let space = if origin.path.is_empty() { "" } else { " " };
            format!("{}{space}{}", origin.policy, origin.path)
        };
        let mut by = self.by.iter().map(named).collect::<Vec<_>>().join(", ");
        if self.more {
            by.push_str(" and others");
        }
        match self.decision {
            Decision::Allowed => format!("allowed by {by}"),
            Decision::Denied => format!("denied by {by}"),
            Decision::Localhost => "allowed: the local host may reach its endpoints".into(),
            Decision::DefaultDeny => format!("default deny of {direction} begun by {by}"),
            Decision::ModeAlways => format!("default deny of {direction}: enable-policy is always"),
            Decision::Init => {
                format!("default deny of {direction}: the endpoint has no labels yet")
            }
            Decision::Unlabelled => {
                format!(
                    "default deny of {direction}: the labels of the endpoint's identity are not known"
                )
            }
        }
    }
}
