// SPDX-License-Identifier: Apache-2.0
//! `install`: the chart's own templates, rendered without Helm.

use gtmpl::{Context, Template};
use serde_json::{Value, json};

use crate::Error;
use crate::args::InstallArgs;
use crate::functions::{FUNCTIONS, value};
use crate::values;

macro_rules! template {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../deploy/chart/templates/", $name)),
        )
    };
}

const HELPERS: &str = include_str!("../../../deploy/chart/templates/_helpers.tpl");
macro_rules! definition {
    ($plural:literal) => {
        include_str!(concat!("../../../deploy/chart/crds/", $plural, ".yaml"))
    };
}

/// Definitions of custom resources; Helm too makes them before everything else.
const DEFINITIONS: [&str; 6] = [
    definition!("ciliumnetworkpolicies"),
    definition!("ciliumclusterwidenetworkpolicies"),
    definition!("ciliumcidrgroups"),
    definition!("ciliumnodes"),
    definition!("ciliumendpoints"),
    definition!("ciliumidentities"),
];
/// In the order in which a cluster wants them: what is referred to comes first.
const TEMPLATES: [(&str, &str); 7] = [
    template!("serviceaccount.yaml"),
    template!("configmap.yaml"),
    template!("agent-role.yaml"),
    template!("agent.yaml"),
    template!("operator-role.yaml"),
    template!("operator.yaml"),
    template!("dashboard.yaml"),
];
/// The chart's other file; templates ask for it by its path.
const DASHBOARD: (&str, &str) = (
    "dashboards/cilium-dashboard.json",
    include_str!("../../../deploy/chart/dashboards/cilium-dashboard.json"),
);

/// The text to print.
pub(crate) fn install(args: &InstallArgs) -> Result<String, Error> {
    if args.show_values {
        return Ok(values::DEFAULTS.to_owned());
    }
    render(&values::read(args)?, &args.namespace)
}

/// All objects as one stream of YAML documents.
pub(crate) fn render(values: &Value, namespace: &str) -> Result<String, Error> {
    let version = env!("CARGO_PKG_VERSION");
    let context = Context::from(value(&json!({
        "Values": values,
        "Release": { "Namespace": namespace, "Name": "isthmus" },
        "Chart": { "AppVersion": version, "Version": version },
        "Files": { DASHBOARD.0: DASHBOARD.1 },
    })));
    let mut all = String::new();
    for text in DEFINITIONS {
        all.push_str("---\n");
        all.push_str(text);
    }
    for (name, text) in TEMPLATES {
        let failed = |problem: String| Error::Template { name, problem };
        let mut template = Template::default();
        template.add_funcs(&FUNCTIONS);
        template
            .parse(format!("{HELPERS}{text}"))
            .map_err(|error| failed(error.to_string()))?;
        let text = template
            .render(&context)
            .map_err(|error| failed(error.to_string()))?;
        let text = text.trim();
        if !text.is_empty() {
            all.push_str("---\n");
            all.push_str(text);
            all.push('\n');
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(set: &[&str]) -> Vec<Value> {
        let args = InstallArgs {
            namespace: "kube-system".into(),
            values: Vec::new(),
            set: set.iter().map(|text| (*text).to_owned()).collect(),
            set_string: Vec::new(),
            show_values: false,
        };
        let text = install(&args).expect("rendered");
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
        objects
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    const ETCD: &str = "etcd.endpoints={https://10.0.0.1:2379}";

    #[test]
    fn the_page_finds_its_names() {
        let objects = objects(&[ETCD, "cluster.name=cluster5", "cluster.id=5"]);
        let config = find(&objects, "ConfigMap", "cilium-config");
        assert_eq!(config["metadata"]["namespace"], "kube-system");
        assert_eq!(config["data"]["cluster-name"], "cluster5");
        assert_eq!(config["data"]["cluster-id"], "5");
        let etcd = config["data"]["etcd-config"].as_str().expect("a text");
        let etcd: Value = serde_saphyr::from_str(etcd).expect("YAML");
        assert_eq!(etcd["endpoints"][0], "https://10.0.0.1:2379");
        let agent = find(&objects, "DaemonSet", "cilium");
        let template = &agent["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["k8s-app"], "cilium");
        assert_eq!(
            template["spec"]["containers"][0]["image"],
            format!("localhost/isthmus:{}", env!("CARGO_PKG_VERSION"))
        );
        let volumes = template["spec"]["volumes"].as_array().expect("a list");
        let secret = volumes
            .iter()
            .find(|volume| volume["name"] == "clustermesh-secrets");
        let source = &secret.expect("a volume")["projected"]["sources"][0]["secret"];
        assert_eq!(
            (&source["name"], &source["optional"]),
            (&json!("cilium-clustermesh"), &json!(true))
        );
    }

    #[test]
    fn definitions_come_first() {
        let objects = objects(&[ETCD]);
        let kinds: Vec<_> = objects.iter().map(|object| &object["kind"]).collect();
        let (definitions, others) = kinds.split_at(DEFINITIONS.len());
        assert!(
            definitions
                .iter()
                .all(|kind| *kind == "CustomResourceDefinition")
        );
        assert!(
            !others
                .iter()
                .any(|kind| *kind == "CustomResourceDefinition")
        );
        find(
            &objects,
            "CustomResourceDefinition",
            "ciliumnetworkpolicies.cilium.io",
        );
    }

    /// An Event about a policy, for which one node may have no room, names the version that the server has.
    #[test]
    fn agents_may_read_what_they_tell_events_about() {
        let objects = objects(&[ETCD]);
        let rules = find(&objects, "ClusterRole", "cilium")["rules"].as_array();
        let rules = rules.expect("rules");
        for resource in [
            "ciliumnetworkpolicies",
            "ciliumclusterwidenetworkpolicies",
            "networkpolicies",
        ] {
            let has = |list: &Value, word: &str| {
                list.as_array()
                    .is_some_and(|list| list.contains(&json!(word)))
            };
            let mut about = rules
                .iter()
                .filter(|rule| has(&rule["resources"], resource));
            let is_read = about.any(|rule| has(&rule["verbs"], "get"));
            assert!(is_read, "{resource}: {rules:?}");
        }
    }

    #[test]
    fn what_is_switched_off_is_not_there() {
        let objects = objects(&["etcd.enabled=false"]);
        let config = find(&objects, "ConfigMap", "cilium-config");
        assert!(config["data"].get("kvstore").is_none());
        let agent = find(&objects, "DaemonSet", "cilium");
        let text = agent.to_string();
        assert!(
            !text.contains("etcd-secrets") && !text.contains("/var/lib/etcd-config"),
            "{text}"
        );
    }

    #[test]
    fn who_scrapes_finds_port_and_dashboard() {
        let agent =
            |objects: &[Value]| find(objects, "DaemonSet", "cilium")["spec"]["template"].clone();
        let without = objects(&[ETCD]);
        let pod = agent(&without);
        let annotations = json!({"kubectl.kubernetes.io/default-container": "cilium-agent"});
        assert_eq!(pod["metadata"]["annotations"], annotations);
        assert!(pod["spec"]["containers"][0]["ports"].is_null());
        let named = |object: &&Value| object["metadata"]["name"] == "cilium-dashboard";
        assert!(!without.iter().any(|object| named(&object)));
        let with = objects(&[
            ETCD,
            "prometheus.enabled=true",
            "dashboards.enabled=true",
            "dashboards.namespace=monitoring",
            "dashboards.annotations.grafana_folder=Network",
        ]);
        let pod = agent(&with);
        let port = &pod["spec"]["containers"][0]["ports"][0];
        assert_eq!(
            (&port["name"], &port["containerPort"]),
            (&json!("prometheus"), &json!(9962))
        );
        let annotations = json!({
            "kubectl.kubernetes.io/default-container": "cilium-agent",
            "prometheus.io/scrape": "true", "prometheus.io/port": "9962",
        });
        assert_eq!(pod["metadata"]["annotations"], annotations);
        let map = find(&with, "ConfigMap", "cilium-dashboard");
        let metadata = &map["metadata"];
        assert_eq!(metadata["namespace"], "monitoring");
        assert_eq!(metadata["labels"]["grafana_dashboard"], "1");
        assert_eq!(metadata["annotations"]["grafana_folder"], "Network");
        let text = map["data"]["cilium-dashboard.json"]
            .as_str()
            .expect("a text");
        let file: Value = serde_json::from_str(DASHBOARD.1).expect("JSON");
        assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), file);
    }

    #[test]
    fn every_object_of_a_namespace_is_in_the_one_that_was_asked_for() {
        let mut values = values::read(&InstallArgs {
            namespace: String::new(),
            values: Vec::new(),
            set: vec![ETCD.into()],
            set_string: Vec::new(),
            show_values: false,
        })
        .expect("values");
        values["image"]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
        let text = render(&values, "elsewhere").expect("rendered");
        assert!(!text.contains("kube-system") && text.contains("localhost/isthmus@sha256:000"));
    }
}
