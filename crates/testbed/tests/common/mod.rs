// SPDX-License-Identifier: Apache-2.0
//! Two connected clusters with the demo's pods, and what every mesh test asks of them.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use testbed::client::{Http, curl};
use testbed::underlay::url;
use testbed::{ClusterSpec, Family, Keep, Lab, LabError, Programs, Result, eventually};

/// How long the mesh may take to hear of something.
pub(crate) const SPREAD: Duration = Duration::from_secs(10);
/// How long a request that should be answered may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);
/// How long silence must last to count as refused.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);

/// The demo's manifests.
pub(crate) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo")
}

/// A lab's name that no other run uses.
pub(crate) fn name(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

/// A lab whose end is checked: an ERROR in an agent's log fails the test unless it was expected.
pub(crate) struct Mesh {
    pub(crate) lab: Lab,
    pub(crate) expected_errors: Vec<&'static str>,
}

impl Mesh {
    /// cluster5 and cluster7, connected, two nodes each, agents ready, the demo's pods running.
    pub(crate) fn start(test: &str) -> Self {
        let mut mesh = Self::prepare(test, &[]);
        mesh.lab.start_agents().expect("agents are ready");
        mesh.lab.run_pods().expect("pods run");
        mesh
    }

    /// As [`Mesh::start`], without agents and pods yet.
    pub(crate) fn prepare(test: &str, agent_arguments: &[&str]) -> Self {
        let programs =
            Programs::find(env!("CARGO_BIN_EXE_lab").into()).expect("the product is built");
        let mut lab = Lab::create(&name(test), &programs, Keep::No).expect("a lab");
        for id in [5, 7] {
            let agent_arguments = agent_arguments
                .iter()
                .map(|word| (*word).to_owned())
                .collect();
            let spec = ClusterSpec {
                agent_arguments,
                ..ClusterSpec::numbered(id, 2)
            };
            let cluster = lab.add_cluster(&spec).expect("a cluster");
            cluster
                .apply(&manifests().join(&cluster.name))
                .expect("manifests");
        }
        lab.connect_all().expect("connected");
        Self {
            lab,
            expected_errors: Vec::new(),
        }
    }

    /// The answer of pod `to` to pod `from`, tried for [`SPREAD`].
    pub(crate) fn reach(&self, from: &str, to: &str, family: Family) -> Http {
        let what = format!("{from} reaches {to} over {family}");
        let answer =
            eventually(what, SPREAD, || self.request(from, to, family, ANSWER)).expect("an answer");
        let (from, to) = (
            self.lab.pod(from).expect("a pod"),
            self.lab.pod(to).expect("a pod"),
        );
        assert_eq!(answer.server, to.full_name);
        assert_eq!(
            answer.client,
            from.address(family).expect("an address"),
            "the client's own address is seen"
        );
        answer
    }

    /// `to` does not answer `from`, now.
    pub(crate) fn assert_refused(&self, from: &str, to: &str, family: Family) {
        match self.request(from, to, family, SILENCE) {
            Ok(answer) => panic!("{from} reached {} over {family}", answer.server),
            Err(LabError::Command { output, .. }) => {
                // 28: no answer in time, in whatever words.
                assert!(output.contains("(28)"), "{output}")
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until `to` no longer answers `from`.
    pub(crate) fn becomes_refused(&self, from: &str, to: &str) {
        eventually(
            format!("{from} is refused by {to}"),
            SPREAD,
            || match self.request(from, to, Family::V4, SILENCE) {
                Ok(_) => Err("it answered"),
                Err(_) => Ok(()),
            },
        )
        .expect("refused");
    }

    /// One request.
    pub(crate) fn request(
        &self,
        from: &str,
        to: &str,
        family: Family,
        limit: Duration,
    ) -> Result<Http> {
        let target = self.lab.pod(to)?.address(family)?;
        curl(&self.lab.pod(from)?.place, &url(target, 80), limit)
    }

    /// `cilium status --all-clusters` of a node says `wanted` within `limit`.
    pub(crate) fn status_says(&self, cluster: &str, node: usize, wanted: &str, limit: Duration) {
        let node = &self.lab.cluster(cluster).nodes[node - 1];
        eventually(format!("status says {wanted:?}"), limit, || {
            let text = node.cli(&["status", "--all-clusters"])?;
            if text.contains(wanted) {
                Ok(())
            } else {
                Err(LabError::Unmet(text))
            }
        })
        .expect("it says so");
    }

    /// Writes a row into a cluster's etcd, behind its agents' backs.
    pub(crate) fn put(&self, cluster: &str, key: &str, value: &str) {
        self.lab
            .cluster(cluster)
            .etcd
            .etcdctl(&["put", key, value])
            .expect("written");
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let expected = |line: &String| {
            self.expected_errors
                .iter()
                .any(|words| line.contains(words))
        };
        let errors: Vec<_> = self
            .lab
            .nodes()
            .flat_map(|node| node.log_errors())
            .filter(|line| !expected(line))
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "agents logged errors");
    }
}
