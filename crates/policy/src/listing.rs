// SPDX-License-Identifier: Apache-2.0
//! What the last commit brought to the kernel, for restarts and for people.

use model::{EndpointId, NumericIdentity};

use crate::content::Base;
use crate::cookie::RuleInfo;
use crate::engine::{Engine, Live};
use crate::{Action, Direction, Op, PORT_BITS, RowMatch, RowVerdict, kind};

/// One line of an endpoint's policy: what happens to some packets of some peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyLine {
    /// A class, or one of [`kind`]: all identities of that kind without a line of their own.
    pub class: u32,
    /// The members of the class; empty for a kind.
    pub identities: Vec<NumericIdentity>,
    /// Which packets, the longest match decides.
    pub matching: RowMatch,
    /// What happens to them.
    pub verdict: RowVerdict,
}

/// What happens to a packet, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// What happens.
    pub verdict: Action,
    /// Cookie of the rule; 0 none.
    pub cookie: u32,
    /// What the cookie stands for. `None`: no policy is about this direction of the endpoint.
    pub rule: Option<RuleInfo>,
    /// Whether the labels of the peer are known. If not, only its number was judged.
    pub known: bool,
}

impl Engine {
    /// The whole state of the kernel's maps as of the last commit.
    pub fn snapshot(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        for (row, content) in self.rows.iter() {
            let put = |&(matching, verdict)| Op::PutRow {
                row,
                matching,
                verdict,
            };
            ops.extend(content.iter().map(put));
        }
        for (&policy, live) in &self.policies {
            let put = |(class, row)| Op::PutPolicy { policy, class, row };
            ops.extend(entries(live).map(put));
        }
        for (class, members) in self.classes.iter() {
            let put = |&identity| Op::PutIdentity { identity, class };
            ops.extend(members.members.iter().map(put));
        }
        let cidr = |(prefix, identity)| Op::PutCidr { prefix, identity };
        ops.extend(self.cidrs.iter().map(cidr));
        let flip = |(&endpoint, policy)| Op::SetEndpointPolicy { endpoint, policy };
        let endpoints = self
            .endpoints
            .iter()
            .filter_map(|(id, e)| Some((id, e.policy?)));
        ops.extend(endpoints.map(flip));
        ops
    }

    /// How often a selector was compared with an identity so far: the work that grows with the mesh if anything does.
    pub fn comparisons(&self) -> u64 {
        self.selectors.compared()
    }

    /// The labels of an identity, also of those that the engine gave to prefixes.
    pub fn labels_of(&self, identity: NumericIdentity) -> Option<&model::Labels> {
        self.labels(identity)
    }

    /// What a cookie stands for; also for some time after the rule is gone.
    pub fn rule(&self, cookie: u32) -> Option<RuleInfo> {
        self.cookies.info(cookie)
    }

    /// The class of an identity as of the last commit; `None` if the kernel judges it by its number.
    pub fn class_of(&self, identity: NumericIdentity) -> Option<u32> {
        let record = self.records.get(&identity)?;
        (record.class != 0).then_some(record.class)
    }

    /// The policy id that an endpoint has since the last commit.
    pub fn policy_of(&self, endpoint: EndpointId) -> Option<u32> {
        self.endpoints.get(&endpoint)?.policy
    }

    fn live(&self, endpoint: EndpointId) -> Option<&Live> {
        self.policies.get(&self.policy_of(endpoint)?)
    }

    /// Whether ingress and egress of an endpoint are enforced.
    pub fn enforcement(&self, endpoint: EndpointId) -> (bool, bool) {
        let content = self.live(endpoint).and_then(|live| live.content.as_ref());
        content.map_or((false, false), |content| {
            let [ingress, egress] = content.key.bases;
            (ingress != Base::Open, egress != Base::Open)
        })
    }

    /// Everything that judges the packets of an endpoint: kinds first, then classes.
    pub fn rows_of(&self, endpoint: EndpointId) -> Vec<PolicyLine> {
        let Some(live) = self.live(endpoint) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for (class, row) in entries(live) {
            let members = self.classes.get(class).map(|class| &class.members);
            for &(matching, verdict) in self.rows.content(row) {
                let identities = members.into_iter().flatten().copied().collect();
                lines.push(PolicyLine {
                    class,
                    identities,
                    matching,
                    verdict,
                });
            }
        }
        lines
    }

    /// What the kernel does with the first packet of a flow. `port` is the destination port, or the type for ICMP.
    /// `None` if there is no such endpoint, or no commit since it came.
    pub fn explain(
        &self,
        endpoint: EndpointId,
        direction: Direction,
        peer: NumericIdentity,
        proto: u8,
        port: u16,
    ) -> Option<Explanation> {
        let live = self.live(endpoint)?;
        let class = self.class_of(peer);
        let row = live.row(class.unwrap_or(0), self.home.kind_of(peer));
        let matching = self
            .rows
            .content(row)
            .iter()
            .filter(|(m, _)| covers(m, direction, proto, port));
        let longest = matching.max_by_key(|(m, _)| (m.proto, m.port_bits));
        let none = RowVerdict {
            action: Action::DefaultDeny,
            rule: 0,
        };
        let verdict = longest.map_or(none, |&(_, verdict)| verdict);
        Some(Explanation {
            verdict: verdict.action,
            cookie: verdict.rule,
            rule: self.rule(verdict.rule),
            known: class.is_some(),
        })
    }
}

fn entries(live: &Live) -> impl Iterator<Item = (u32, u32)> + '_ {
    let kinds = kind::ALL
        .into_iter()
        .zip(live.kinds)
        .filter(|&(_, row)| row != 0);
    kinds.chain(live.classes.iter().map(|(&class, &row)| (class, row)))
}

fn covers(matching: &RowMatch, direction: Direction, proto: u8, port: u16) -> bool {
    let shift = u32::from(PORT_BITS - matching.port_bits);
    matching.direction == direction
        && matching.proto.is_none_or(|of| of == proto)
        && u32::from(matching.port) >> shift == u32::from(port) >> shift
}
