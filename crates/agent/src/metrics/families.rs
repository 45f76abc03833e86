// SPDX-License-Identifier: Apache-2.0
//! What is served: every family with its labels. The chart's dashboard asks for these and no others, which a test here sees to.

/// A family of metrics; the name is without the prefix `cilium_` and without the `_total` of counters.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// In the order in which lines give their values.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
    #[cfg(test)]
    kind: Kind,
}

/// Whether values only grow.
#[cfg(test)]
enum Kind {
    Counter,
    Gauge,
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal,)*) => {
        $(pub(super) const $constant: Family = Family {
            name: $name,
            labels: &[$($label),*],
            help: $help,
            #[cfg(test)]
            kind: Kind::$kind,
        };)*
        #[cfg(test)]
        const ALL: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    DROP_COUNT: Counter "drop_count" ["reason", "direction"] "Packets dropped, by reason and direction",
    DROP_BYTES: Counter "drop_bytes" ["reason", "direction"] "Bytes dropped, by reason and direction",
    FORWARD_COUNT: Counter "forward_count" ["direction"] "Packets forwarded, by direction",
    FORWARD_BYTES: Counter "forward_bytes" ["direction"] "Bytes forwarded, by direction",
    ENDPOINT: Gauge "endpoint" [] "Endpoints of this node",
    ENDPOINT_STATE: Gauge "endpoint_state" ["endpoint_state"] "Endpoints by state",
    IDENTITY: Gauge "identity" ["type"] "Identities known, by type",
    POLICY: Gauge "policy" [] "Policies loaded",
    POLICY_MAX_REVISION: Gauge "policy_max_revision" [] "Highest policy revision",
    POLICY_ENFORCEMENT: Gauge "policy_endpoint_enforcement_status" ["enforcement"] "Endpoints by enforcement",
    NODES: Gauge "nodes_all_num" [] "Nodes of the mesh, this one included",
    ADDRESSES: Gauge "ip_addresses" ["family"] "Addresses in use, by family",
    WARNINGS: Gauge "errors_warnings" ["kind"] "What status warns of, by kind",
    VERSION: Gauge "version" ["version", "arch"] "Version of the agent",
    MAP_PRESSURE: Gauge "bpf_map_pressure" ["map_name"] "Entries per capacity of each map, 0 to 1",
    MAP_CAPACITY: Gauge "bpf_map_capacity" ["map_group"] "Entries that fit each map",
    MAP_FULL: Gauge "bpf_map_full" ["map_name"] "1 while rows are missing in a map because it is full",
    REMOTE_CLUSTERS: Gauge "clustermesh_remote_clusters" [] "Remote clusters configured",
    REMOTE_NODES: Gauge "clustermesh_remote_cluster_nodes" ["source_cluster", "target_cluster"]
        "Nodes of each remote cluster",
    REMOTE_ENDPOINTS: Gauge "clustermesh_remote_cluster_endpoints" ["source_cluster", "target_cluster"]
        "Addresses of each remote cluster",
    REMOTE_IDENTITIES: Gauge "clustermesh_remote_cluster_identities" ["source_cluster", "target_cluster"]
        "Identities of each remote cluster",
    REMOTE_REFUSED: Gauge "clustermesh_remote_cluster_refused_rows" ["source_cluster", "target_cluster"]
        "Rows of each remote cluster that are refused now",
    REMOTE_FAILURES: Gauge "clustermesh_remote_cluster_failures" ["source_cluster", "target_cluster"]
        "Reconnections to each remote cluster",
    REMOTE_LAST_FAILURE: Gauge "clustermesh_remote_cluster_last_failure_ts" ["source_cluster", "target_cluster"]
        "Second of the last failure, 0 without",
    REMOTE_READY: Gauge "clustermesh_remote_cluster_readiness_status" ["source_cluster", "target_cluster"]
        "1 while a remote cluster is ready",
    MEMORY: Gauge "process_resident_memory_bytes" [] "Resident memory of the agent",
    PROCESSOR: Counter "process_cpu_seconds" [] "Processor time of the agent, whole seconds",
    OPEN_FILES: Gauge "process_open_fds" [] "Open files of the agent",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    const DASHBOARD: &str =
        include_str!("../../../../deploy/chart/dashboards/cilium-dashboard.json");
    /// Prometheus gives it to every line.
    const SCRAPED: &str = "instance";

    /// As Prometheus stores it.
    fn stored(family: &Family) -> String {
        let end = match family.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
        };
        format!("cilium_{}{end}", family.name)
    }

    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
    }

    /// What stands between each `open` and the next `close` of `text`.
    fn between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
        let parts = text.split(open).skip(1);
        parts.filter_map(move |part| Some(part.split_once(close)?.0))
    }

    /// (title, expression, legend) of everything that panels ask for.
    fn texts(dashboard: &Value) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let panels = dashboard["panels"].as_array().expect("panels");
        let mut texts = Vec::new();
        for panel in panels {
            for target in panel["targets"].as_array().into_iter().flatten() {
                texts.push((
                    text(&panel["title"]),
                    text(&target["expr"]),
                    text(&target["legendFormat"]),
                ));
            }
        }
        texts
    }

    #[test]
    fn the_dashboard_asks_for_what_is_served() {
        let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
        let texts = texts(&dashboard);
        assert!(texts.len() > 20);
        let mut asked = BTreeSet::new();
        for (title, expression, legend) in texts {
            let names: Vec<_> = words(&expression)
                .filter(|word| word.starts_with("cilium_"))
                .collect();
            let [name] = names[..] else {
                panic!("{title}: {expression} asks for one family");
            };
            let family = ALL.iter().find(|family| stored(family) == name);
            let family = family.unwrap_or_else(|| panic!("{title}: nobody serves {name}"));
            let known = |label: &str| label == SCRAPED || family.labels.contains(&label);
            let groups: Vec<_> = between(&expression, "by (", ')').flat_map(words).collect();
            let shown: Vec<_> = between(&legend, "{{", '}').collect();
            let chosen = between(&expression, "{", '=');
            for label in groups.iter().chain(&shown).copied().chain(chosen) {
                assert!(known(label), "{title}: {name} has no label {label}");
            }
            // A legend with a label that the sum dropped is empty.
            let kept = |label: &&&str| groups.is_empty() || groups.contains(*label);
            assert_eq!(shown.iter().find(|label| !kept(label)), None, "{title}");
            asked.insert(name.to_owned());
        }
        // The number of clusters is the number of lines of the others.
        let silent: Vec<_> = ALL
            .iter()
            .map(|family| stored(family))
            .filter(|name| !asked.contains(name))
            .collect();
        assert_eq!(silent, ["cilium_clustermesh_remote_clusters"]);
        let variable = &dashboard["templating"]["list"][1]["query"]["query"];
        assert_eq!(variable, "label_values(cilium_version, instance)");
    }

    #[test]
    fn panels_have_their_own_numbers_and_places() {
        let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
        let (mut numbers, mut places) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().expect("panels") {
            let place = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
            assert!(numbers.insert(panel["id"].as_u64()), "{panel}");
            assert!(place("x") + place("w") <= 24, "{panel}");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(places.insert((x, y)), "{panel}");
                }
            }
        }
    }
}
