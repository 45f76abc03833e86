// SPDX-License-Identifier: Apache-2.0
//! Policy on its way into the kernel. What a full map refuses waits, with all that builds on it.

use datapath::Kernel;
use model::NumericIdentity;
use policy::Op;

use super::Core;
use crate::addresses::{Claim, Source};

impl<K: Kernel> Core<K> {
    /// Tells the kernel what the engine knows. Nothing before the first lists are complete: the adopted state is
    /// better than half of a new one. Nothing while a full map stops what was asked before: the engine sums up.
    pub(crate) fn settle(&mut self) {
        if !self.ready || !self.dirty || self.policy_waits() {
            return;
        }
        self.dirty = false;
        self.asked.extend(self.engine.commit());
        self.execute_policy();
    }

    /// Whether a full map stops policy.
    pub(crate) fn policy_waits(&self) -> bool {
        !self.asked.is_empty() || self.dp.waiting_ops() > 0
    }

    /// Tries again what a full map stopped.
    pub(crate) fn retry_policy(&mut self) {
        if self.policy_waits() {
            self.execute_policy();
            self.settle();
        }
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
