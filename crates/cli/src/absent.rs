// SPDX-License-Identifier: Apache-2.0
//! Commands of Cilium that are not here: why, and what to ask instead. Whoever has them in the fingers or in a script learns more
//! from that than from a word that is not known.

/// How commands begin, and what to say. Of several that fit, the longest counts.
const ABSENT: [(&str, &str); 43] = [
    (
        "bgp",
        "this agent speaks no BGP: pods are reached through the tunnel",
    ),
    (
        "bpf auth",
        "policies with authentication are refused, so nothing is authenticated",
    ),
    ("bpf bandwidth", "the agent limits no bandwidth"),
    (
        "bpf config",
        "programs are configured as a whole; the options are in: config --all",
    ),
    (
        "bpf ct flush",
        "a flow whose policy changes is judged again by itself; all are in: bpf ct list global",
    ),
    ("bpf egress", "there is no egress gateway"),
    (
        "bpf frag",
        "fragments are followed for seconds and not listed",
    ),
    ("bpf fs", "pins are in: config get bpf-root"),
    (
        "bpf ipcache",
        "addresses follow from nodes and pods and are not changed by hand; all are in: bpf ipcache list",
    ),
    (
        "bpf ipmasq",
        "what is masqueraded is in nftables: nft list ruleset",
    ),
    (
        "bpf lb maglev",
        "a new flow takes any backend of: bpf lb list",
    ),
    ("bpf multicast", "there is no multicast"),
    (
        "bpf nat",
        "pods are masqueraded by nftables, whose entries the kernel's conntrack has; services are translated in: bpf ct list global",
    ),
    (
        "bpf nodeid",
        "nodes have no numbers here, they are told apart by their addresses: node list",
    ),
    (
        "bpf policy",
        "verdicts follow from policies and are not changed by hand; all are in: bpf policy get --all",
    ),
    (
        "bpf recorder",
        "packets are not recorded; dropped ones are in: monitor",
    ),
    (
        "bpf sha",
        "programs are part of the agent and not compiled on the node",
    ),
    ("bpf srv6", "there is no SRv6"),
    (
        "bpf tunnel",
        "the nodes that addresses are behind are in: bpf ipcache list",
    ),
    (
        "bpf vtep",
        "tunnels to others than nodes of the mesh are not supported",
    ),
    (
        "build-config",
        "the agent reads its options itself: isthmus agent --help",
    ),
    (
        "cgroups",
        "services are translated at pods' devices, not in cgroups",
    ),
    (
        "cleanup",
        "what an agent leaves on a node goes with: isthmus uninstall",
    ),
    (
        "debuginfo",
        "it is at /v1/debuginfo of the agent's socket; people ask for parts: status --verbose, endpoint list, bpf ... list",
    ),
    ("encrypt", "the tunnel is not encrypted"),
    (
        "endpoint config",
        "endpoints have no options of their own; the agent's are in: config --all",
    ),
    (
        "endpoint disconnect",
        "endpoints go when their containers do",
    ),
    (
        "endpoint regenerate",
        "programs are shared by all endpoints and follow changes by themselves",
    ),
    (
        "fqdn",
        "policies with names of hosts are refused, so names are not followed",
    ),
    ("ip get", "ask for one address with: ip list --cidr PREFIX"),
    (
        "kvstore",
        "keys are written by agents alone; show some with: kvstore get --recursive PREFIX",
    ),
    (
        "loadinfo",
        "memory and processor of the agent are in: metrics list -p process",
    ),
    ("lrp", "there are no local redirects"),
    (
        "map events",
        "what is written to maps is not recorded; what is in them: map get NAME",
    ),
    (
        "nodeid",
        "nodes have no numbers here, they are told apart by their addresses: node list",
    ),
    (
        "policy",
        "policies come as objects from the API server or as manifests; those in force are in: policy get",
    ),
    (
        "post-uninstall-cleanup",
        "what an agent leaves on a node goes with: isthmus uninstall",
    ),
    (
        "preflight",
        "an agent says at its start everything that is wrong, and touches nothing until then",
    ),
    (
        "prefilter",
        "there is no filter by prefixes before policy; policies have fromCIDRSet",
    ),
    (
        "service",
        "services come as objects from the API server or as manifests; all are in: service list",
    ),
    (
        "shell",
        "the agent has no shell; metrics are in: metrics list",
    ),
    (
        "statedb",
        "the agent's tables are in: node list, endpoint list, identity list, ip list, service list",
    ),
    (
        "troubleshoot kvstore",
        "how this cluster's etcd is, and why not, is in: status",
    ),
];

/// What to say of a command that is not known, by its words without flags.
pub(crate) fn why(words: &[&str]) -> Option<String> {
    let is_begun = |command: &str| {
        let mut parts = command.split(' ').enumerate();
        parts.all(|(place, part)| words.get(place) == Some(&part))
    };
    let fitting = ABSENT.iter().filter(|(command, _)| is_begun(command));
    let (_, why) = fitting.max_by_key(|(command, _)| command.len())?;
    let asked = words.iter().take(4).copied().collect::<Vec<_>>().join(" ");
    Some(format!("{asked} is not supported: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_here_is_told_why_and_what_is_here_is_not_among_it() {
        let said = |line: &str| why(&line.split(' ').collect::<Vec<_>>());
        let told = said("bpf nodeid list").expect("told");
        assert!(told.starts_with("bpf nodeid list is not supported: nodes have no numbers"));
        let longest = said("bpf ct flush global").expect("told");
        assert!(longest.starts_with("bpf ct flush global is not supported: a flow"));
        assert_eq!(said("nonsense"), None);
        assert_eq!(said("bpf"), None);
        for (line, _) in ABSENT {
            let mut command = crate::command();
            let mut here = true;
            for word in line.split(' ') {
                let Some(found) = command.find_subcommand(word).cloned() else {
                    here = false;
                    break;
                };
                command = found;
            }
            // A word that has commands here is told about those that it has not.
            assert!(!here || command.has_subcommands(), "{line} is here");
        }
    }
}
