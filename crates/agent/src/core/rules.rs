// SPDX-License-Identifier: Apache-2.0
//! Policy on its way into the kernel. What a full map refuses waits, with all that builds on it, and what is in force
//! stays. When something changes meanwhile, a policy is taken back or a pod goes, what waits is given up, and everything is
//! numbered anew, as after a restart: what nobody needs any more makes room first.

use std::time::{Duration, Instant};

use datapath::{Kernel, Map};
use model::NumericIdentity;
use policy::Op;
use tables::Backoff;

use super::Core;
use crate::addresses::{Claim, Source};

/// Numbering anew looks through all of policy: not more often than this, ever more rarely while it does not help.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Where policy is.
const MAPS: [Map; 3] = [Map::Identities, Map::Policies, Map::Rows];

/// Classes that the identities of one remote cluster may make: what hundreds of policies of a node can tell apart.
pub(super) const MAX_CLASSES: usize = 2048;

/// When policy may be numbered anew.
#[derive(Debug)]
pub(super) struct Renewal {
    backoff: Backoff,
    pub(super) not_before: Option<Instant>,
    /// When what nobody uses was removed last while policy waits.
    pruned: Option<Instant>,
}

impl Renewal {
    /// Whether what nobody uses was removed a moment ago; it is now.
    pub(super) fn was_pruned(&mut self) -> bool {
        let before = self.pruned.filter(|at| at.elapsed() < LONGEST);
        self.pruned = before.or_else(|| Some(Instant::now()));
        before.is_some()
    }
}

impl Default for Renewal {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(FIRST, LONGEST),
            not_before: None,
            pruned: None,
        }
    }
}

impl<K: Kernel> Core<K> {
    /// Tells the kernel what the engine knows. Nothing before the first lists are complete: the adopted state is
    /// better than half of a new one. Nothing while a full map stops what was asked before: the engine sums up.
    pub(crate) fn settle(&mut self) {
        if !self.ready || !self.dirty || self.policy_waits() {
            return;
        }
        self.dirty = false;
        self.asked.extend(self.engine.commit());
        self.note_refusals();
        let left_out = self.engine.left_out().len();
        let problem = (left_out > 0).then(|| {
            format!(
                "labels of {left_out} identities of remote clusters do not count: one cluster's make more than {MAX_CLASSES} classes"
            )
        });
        self.note("identities", problem);
        self.execute_policy();
    }

    /// Whether a full map stops policy.
    pub(crate) fn policy_waits(&self) -> bool {
        !self.asked.is_empty() || self.dp.waiting_ops() > 0
    }

    /// Tries again what a full map stopped.
    pub(crate) fn retry_policy(&mut self) {
        if !self.policy_waits() {
            return;
        }
        self.execute_policy();
        let now = Instant::now();
        let may = self.renewal.not_before.is_none_or(|at| at <= now);
        if self.policy_waits() && self.dirty && may {
            self.renewal.not_before = Some(now + self.renewal.backoff.next(0.0));
            self.start_over();
        }
        self.settle();
        if !self.policy_waits() {
            self.renewal = Renewal::default();
            self.dp.nothing_waits_for(&MAPS);
        }
    }

    /// Gives up what waits and has everything numbered anew.
    fn start_over(&mut self) {
        let named = self.addresses.of(&Source::Policy);
        let named = named.map(|(prefix, claim)| (*prefix, claim.identity));
        let engine = self.engine.anew(named);
        let known = |identity| engine.labels_of(identity).is_some();
        match self.dp.start_over(&known) {
            // The generations of before go when their last endpoint is flipped.
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => self.note("policy", Some(error)),
        }
        self.engine = engine;
        self.asked.clear();
        self.pruned = false;
    }

    /// Executes what the engine asked for, in order; prefixes of policies are claims like any other. An address is not
    /// written before what stands in front of it, for it refers to an identity that may be there.
    fn execute_policy(&mut self) {
        loop {
            let is_cidr = |op: &Op| matches!(op, Op::PutCidr { .. } | Op::DeleteCidr { .. });
            let run = self
                .asked
                .iter()
                .position(is_cidr)
                .unwrap_or(self.asked.len());
            let run: Vec<Op> = self.asked.drain(..run).collect();
            if !run.is_empty() || self.dp.waiting_ops() > 0 {
                let result = self.dp.apply(&run);
                self.note("policy", result.err());
            }
            if self.dp.waiting_ops() > 0 {
                return;
            }
            match self.asked.pop_front() {
                Some(Op::PutCidr { prefix, identity }) => {
                    self.write_claim(prefix, Source::Policy, cidr_claim(identity));
                }
                Some(Op::DeleteCidr { prefix }) => self.withdraw(&prefix, &Source::Policy),
                _ => break,
            }
        }
        if !self.dirty {
            self.realized = self.engine.revision();
        }
    }
}

/// What a policy that names a prefix says of it.
pub(super) fn cidr_claim(identity: NumericIdentity) -> Claim {
    Claim {
        identity,
        tunnel: None,
        remote_cluster: false,
        pod: None,
    }
}
