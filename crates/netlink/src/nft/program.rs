// SPDX-License-Identifier: Apache-2.0
//! A [`Masquerade`] as rules: the exceptions first, each of which accepts, then the sources. And the rules about tunnels:
//! they are not tracked, and nothing is translated to them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{DevicePattern, Mark, Masquerade};

/// `IPS_DST_NAT`: the destination of the flow was translated.
const TRANSLATED: u32 = 1 << 5;

/// The chain of translations.
pub(super) const CHAIN: &str = "postrouting";

/// Where rules about tunnels look at packets: before connection tracking sees them, and after it translated them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hook {
    /// Those that arrive.
    Prerouting,
    /// Those of this node.
    Output,
    /// Those for this node.
    Input,
    /// Those for others.
    Forward,
}

impl Hook {
    /// All.
    pub(super) const ALL: [Self; 4] = [Self::Prerouting, Self::Output, Self::Input, Self::Forward];

    /// Name of our chain there.
    pub(super) fn chain(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Output => "output",
            Self::Input => "input",
            Self::Forward => "forward",
        }
    }
}

/// The instructions of a rule's little machine that are used here. They work on one register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Load a fact about the packet.
    Meta(MetaKey),
    /// Load `length` bytes at `offset` of the network header.
    Network { offset: u32, length: u32 },
    /// Load the destination port.
    Port,
    /// Keep only these bits.
    Mask(Vec<u8>),
    /// Go on only if the register begins with these bytes.
    Equal(Vec<u8>),
    /// Load what connection tracking did with the packet.
    Tracked,
    /// Count.
    Counter,
    /// Leave the chain.
    Accept,
    /// Drop the packet.
    Drop,
    /// Take the address of the output device.
    Masquerade,
    /// Do not track.
    NoTrack,
}

/// A fact about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MetaKey {
    /// Its mark.
    Mark,
    /// The name of the device by which it came.
    InputName,
    /// The name of the device by which it leaves.
    OutputName,
    /// Its family.
    Family,
    /// Its transport protocol.
    Protocol,
}

/// Where the addresses are in the network headers.
#[derive(Clone, Copy)]
enum Field {
    Source,
    Destination,
}

/// The rules, in order.
pub(super) fn rules(masquerade: &Masquerade) -> Vec<Vec<Step>> {
    let mut rules = Vec::new();
    for pattern in &masquerade.except_outputs {
        rules.push(vec![
            Step::Meta(MetaKey::OutputName),
            device(pattern),
            Step::Accept,
        ]);
    }
    for Mark { value, mask } in &masquerade.except_marks {
        rules.push(vec![
            Step::Meta(MetaKey::Mark),
            Step::Mask(mask.to_ne_bytes().to_vec()),
            Step::Equal(value.to_ne_bytes().to_vec()),
            Step::Accept,
        ]);
    }
    for net in &masquerade.except_destinations {
        let mut rule = within(Field::Destination, *net);
        rule.push(Step::Accept);
        rules.push(rule);
    }
    for net in &masquerade.sources {
        let mut rule = within(Field::Source, *net);
        rule.extend([Step::Counter, Step::Masquerade]);
        rules.push(rule);
    }
    for (pattern, net) in &masquerade.inputs {
        let mut rule = vec![Step::Meta(MetaKey::InputName), device(pattern)];
        rule.extend(within(Field::Source, *net));
        rule.extend([Step::Counter, Step::Masquerade]);
        rules.push(rule);
    }
    rules
}

/// About UDP to the tunnel's port. It is not tracked if it ends here (`Prerouting`) or begins here (`Output`): others' tunnels
/// are. Packets that were translated to it, whose senders are unknown behind that, are dropped.
pub(super) fn tunnel(hook: Hook, tunnel: SocketAddr) -> Vec<Step> {
    let udp = libc::IPPROTO_UDP as u8;
    let mut steps = vec![
        Step::Meta(MetaKey::Protocol),
        Step::Equal(vec![udp]),
        Step::Port,
        Step::Equal(tunnel.port().to_be_bytes().to_vec()),
    ];
    match hook {
        Hook::Prerouting => {
            steps.extend(within(Field::Destination, tunnel.ip().into()));
            steps.push(Step::NoTrack);
        }
        Hook::Output => steps.push(Step::NoTrack),
        Hook::Input | Hook::Forward => steps.extend([
            Step::Tracked,
            Step::Mask(TRANSLATED.to_ne_bytes().to_vec()),
            Step::Equal(TRANSLATED.to_ne_bytes().to_vec()),
            Step::Counter,
            Step::Drop,
        ]),
    }
    steps
}

fn device(pattern: &DevicePattern) -> Step {
    Step::Equal(match pattern {
        DevicePattern::Prefix(name) => name.as_bytes().to_vec(),
        DevicePattern::Exact(name) => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(16, 0);
            bytes
        }
    })
}

fn within(field: Field, net: IpNet) -> Vec<Step> {
    let (family, source, destination, length) = match net {
        IpNet::V4(_) => (libc::NFPROTO_IPV4, 12, 16, 4),
        IpNet::V6(_) => (libc::NFPROTO_IPV6, 8, 24, 16),
    };
    let offset = match field {
        Field::Source => source,
        Field::Destination => destination,
    };
    let mut steps = vec![Step::Meta(MetaKey::Family), Step::Equal(vec![family as u8])];
    if net.prefix_len() > 0 {
        steps.push(Step::Network { offset, length });
        if net.prefix_len() < net.max_prefix_len() {
            steps.push(Step::Mask(octets(net.netmask())));
        }
        steps.push(Step::Equal(octets(net.network())));
    }
    steps
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_come_before_sources() {
        let net = |s: &str| s.parse().expect("valid");
        let rules = rules(&Masquerade {
            sources: vec![net("10.1.0.0/24")],
            inputs: vec![(DevicePattern::Prefix("veth".into()), net("::/0"))],
            except_destinations: vec![net("10.0.0.0/8"), net("fd00::1/128"), net("0.0.0.0/0")],
            except_outputs: vec![DevicePattern::Prefix("veth".into())],
            except_marks: vec![Mark {
                value: 0x200,
                mask: 0xf00,
            }],
        });
        let ends: Vec<_> = rules
            .iter()
            .map(|r| r.last().expect("a verdict").clone())
            .collect();
        assert_eq!(ends[..5], [const { Step::Accept }; 5]);
        assert_eq!(ends[5], Step::Masquerade);
        // A host address needs no mask, a default route no look at the address.
        assert_eq!(rules[3].len(), 5);
        assert_eq!(rules[4].len(), 3);
        assert_eq!(
            rules[5],
            [
                Step::Meta(MetaKey::Family),
                Step::Equal(vec![2]),
                Step::Network {
                    offset: 12,
                    length: 4
                },
                Step::Mask(vec![255, 255, 255, 0]),
                Step::Equal(vec![10, 1, 0, 0]),
                Step::Counter,
                Step::Masquerade,
            ]
        );
        assert_eq!(
            rules[6],
            [
                Step::Meta(MetaKey::InputName),
                Step::Equal(b"veth".to_vec()),
                Step::Meta(MetaKey::Family),
                Step::Equal(vec![10]),
                Step::Counter,
                Step::Masquerade,
            ]
        );
    }
}
