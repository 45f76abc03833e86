// SPDX-License-Identifier: Apache-2.0
//! Odd directories: objects that several files claim, documents that are half there, texts that are not what they seem.

use std::time::{Duration, Instant};

use super::*;

fn policy(name: &str, app: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: demo}}\nspec: {{endpointSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{{}}]}}\n"
    )
}

/// The same, refused.
fn broken(name: &str) -> String {
    policy(name, "web").replace("ingress: [{}]", "ingress: [{icmps: []}]")
}

struct Dir {
    manifests: Manifests,
    files: BTreeMap<String, Option<String>>,
}

impl Dir {
    fn new(files: &[(&str, String)]) -> Self {
        let mut dir = Self {
            manifests: Manifests::default(),
            files: BTreeMap::new(),
        };
        for (name, text) in files {
            dir.put(name, text);
        }
        dir.scan();
        dir
    }

    fn put(&mut self, name: &str, text: &str) {
        self.files.insert(name.into(), Some(text.into()));
    }

    fn scan(&mut self) -> Vec<ObjectEvent> {
        self.manifests.update(self.files.clone())
    }

    /// The labels that each policy in force selects.
    fn in_force(&self) -> BTreeMap<String, String> {
        let policies = self.manifests.objects.iter().filter_map(|(key, of)| {
            let Object::Policy(policy) = &of.defined.object else {
                return None;
            };
            Some((key.describe(), policy.rules[0].subject.to_string()))
        });
        policies.collect()
    }

    fn problems(&self) -> Vec<String> {
        self.manifests
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

fn one(subject: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(
        "CiliumNetworkPolicy demo/p".to_owned(),
        format!("any:app={subject}"),
    )])
}

#[test]
fn the_second_definition_takes_over_when_the_first_goes() {
    for (first, second) in [("a.yaml", "b.yaml"), ("b.yaml", "a.yaml")] {
        let mut dir = Dir::new(&[(first, policy("p", "x"))]);
        dir.put(second, &policy("p", "z"));
        assert!(dir.scan().is_empty());
        let problems = dir.problems();
        assert!(
            problems[0].contains(&format!("also defined in {first}")),
            "{problems:?}"
        );
        dir.files.remove(first);
        assert!(matches!(&dir.scan()[..], [ObjectEvent::Policy(_)]));
        assert_eq!(dir.in_force(), one("z"));
        assert!(dir.problems().is_empty());
    }
}

#[test]
fn files_swap_their_objects_without_a_gap() {
    let (p, q) = (policy("p", "x"), policy("q", "x"));
    let mut dir = Dir::new(&[("a.yaml", p.clone()), ("b.yaml", q.clone())]);
    dir.put("a.yaml", &q);
    dir.put("b.yaml", &p);
    assert!(dir.scan().is_empty(), "nothing has changed");
    assert!(dir.problems().is_empty());
    assert_eq!(dir.in_force().len(), 2);
}

#[test]
fn a_refused_version_keeps_the_object_wherever_it_stands() {
    let mut dir = Dir::new(&[("a.yaml", policy("p", "x"))]);
    dir.files.remove("a.yaml");
    dir.put("b.yaml", &broken("p"));
    assert!(dir.scan().is_empty());
    assert_eq!(dir.in_force(), one("x"));
    assert!(dir.problems()[0].contains("previous version stays"));
    dir.put("b.yaml", &policy("p", "z"));
    assert!(matches!(&dir.scan()[..], [ObjectEvent::Policy(_)]));
    assert_eq!(dir.in_force(), one("z"));
    dir.put("b.yaml", &broken("p"));
    dir.scan();
    dir.files.remove("b.yaml");
    assert!(matches!(&dir.scan()[..], [ObjectEvent::PolicyGone(_)]));
}

#[test]
fn a_document_that_cannot_be_read_keeps_the_file() {
    let mut dir = Dir::new(&[("a.yaml", policy("p", "x") + "---\n" + &policy("q", "x"))]);
    dir.put("a.yaml", &(policy("p", "z") + "---\nkind: [\n"));
    assert!(matches!(&dir.scan()[..], [ObjectEvent::Policy(_)]));
    assert_eq!(dir.in_force().len(), 2, "q may be the unreadable one");
    assert!(
        dir.problems()[0].contains("previous version stays"),
        "{:?}",
        dir.problems()
    );
    dir.put("a.yaml", &policy("p", "z"));
    assert!(matches!(&dir.scan()[..], [ObjectEvent::PolicyGone(_)]));
    assert_eq!(dir.in_force(), one("z"));
}

#[test]
fn wrong_kinds_and_versions_are_named_and_the_object_stays() {
    for (from, to, expected) in [
        (
            "cilium.io/v2",
            "cilium.io/v1",
            "cilium.io/v1 CiliumNetworkPolicy is not supported",
        ),
        (
            "CiliumNetworkPolicy",
            "CiliumNetworkPolizy",
            "CiliumNetworkPolizy is not supported",
        ),
        ("apiVersion: cilium.io/v2\n", "", "apiVersion is missing"),
        (
            "kind: CiliumNetworkPolicy\n",
            "kind: [x]\n",
            "kind: expected text",
        ),
        ("name: p", "name: P_", "not a name"),
    ] {
        let mut dir = Dir::new(&[("a.yaml", policy("p", "x"))]);
        dir.put("a.yaml", &policy("p", "z").replace(from, to));
        let events = dir.scan();
        let problems = dir.problems();
        assert!(problems[0].contains(expected), "{problems:?}");
        if !to.starts_with("name") {
            assert!(events.is_empty(), "{to}: {events:?}");
            assert_eq!(dir.in_force(), one("x"), "{to}");
        }
    }
}

#[test]
fn one_file_defines_an_object_twice() {
    let dir = Dir::new(&[("a.yaml", policy("p", "x") + "---\n" + &policy("p", "z"))]);
    assert_eq!(dir.in_force(), one("x"));
    let problems = dir.problems();
    assert!(
        problems[0].contains("(document 2)") && problems[0].contains("same object"),
        "{problems:?}"
    );
}

#[test]
fn texts_of_every_habit_are_read() {
    let plain = policy("p", "x");
    let json = r#"{
	"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
	"metadata": {"name": "p", "namespace": "demo"},
	"spec": {"endpointSelector": {"matchLabels": {"app": "x"}}, "ingress": [{}]}
}"#;
    let list = "apiVersion: v1\nkind: List\nitems:\n- ".to_owned()
        + &plain.trim_end().replace('\n', "\n  ")
        + "\n";
    let anchored = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: &m {name: p, namespace: demo}\nspec: {endpointSelector: {matchLabels: &l {app: x}}, ingress: [{fromEndpoints: [{matchLabels: *l}]}]}\n";
    for text in [
        plain.replace('\n', "\r\n"),
        format!("\u{feff}{plain}"),
        format!("%YAML 1.2\n---\n{plain}...\n"),
        format!("---\n---\r\n{plain}---\n# nothing\n---\n"),
        format!("--- # first\n{plain}"),
        json.to_owned(),
        list,
        anchored.to_owned(),
    ] {
        let dir = Dir::new(&[("a.yaml", text.clone())]);
        assert_eq!(dir.problems(), Vec::<String>::new(), "{text:?}");
        assert_eq!(dir.in_force(), one("x"), "{text:?}");
    }
}

#[test]
fn texts_that_are_none_are_refused() {
    for (text, expected) in [
        (
            policy("p", "x").replace("spec: ", "\tspec: "),
            "not valid YAML",
        ),
        (policy("p", "x") + "spec: {}\n", "not valid YAML"),
        ("just words\n".into(), "kind is missing"),
        (
            "apiVersion: v1\nkind: List\nitems: {}\n".into(),
            "items: expected a list",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: [{kind: Pod}]\n".into(),
            "items[0]: apiVersion is missing",
        ),
        ("[".repeat(100_000), "not valid YAML"),
        ("{\"a\":".repeat(100_000), "not valid YAML"),
    ] {
        let dir = Dir::new(&[("a.yaml", text.clone())]);
        let problems = dir.problems();
        let short: String = text.chars().take(80).collect();
        assert!(
            problems.iter().any(|p| p.contains(expected)),
            "{short}: {problems:?}"
        );
        assert!(dir.in_force().is_empty());
    }
}

#[test]
fn bombs_and_floods_are_bounded() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let of = format!("*a{}, ", n - 1).repeat(10);
        bomb += &format!("a{n}: &a{n} [{}]\n", of.trim_end_matches(", "));
    }
    let bombs = format!("{bomb}---\n").repeat(1000);
    let refused = (0..5000)
        .map(|n| broken(&format!("p{n}")) + "---\n")
        .collect::<String>();
    let items = "- {kind: Nothing}\n".repeat(50_000);
    let listed = format!("apiVersion: v1\nkind: List\nitems:\n{items}");
    let empty = "a: b\n---\n".repeat(20_000);
    for text in [bombs, refused, listed, empty] {
        let begin = Instant::now();
        let dir = Dir::new(&[("a.yaml", text)]);
        let problems = dir.problems();
        assert!(
            (1..=MAX_PROBLEMS + 1).contains(&problems.len()),
            "{}",
            problems.len()
        );
        assert!(
            problems.iter().all(|problem| problem.len() < 1000),
            "{problems:?}"
        );
        let took = begin.elapsed();
        println!("{took:?}: {}", problems[0]);
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

#[test]
fn problems_are_bounded_over_all_files() {
    let files: Vec<(String, String)> = (0..200)
        .map(|n| {
            (
                format!("f{n:03}.yaml"),
                broken(&format!("p{n}")) + "---\nx: y\n",
            )
        })
        .collect();
    let named: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.clone()))
        .collect();
    let dir = Dir::new(&named);
    let problems = dir.problems();
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
    assert!(
        problems[MAX_PROBLEMS].contains("272 more problems"),
        "{:?}",
        problems[MAX_PROBLEMS]
    );
}
