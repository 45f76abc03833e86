// SPDX-License-Identifier: Apache-2.0
//! An agent that answers from a constant, behind a real socket.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use api::models::*;
use api::*;
use futures::StreamExt;
use futures::stream;

/// The agent. It keeps the last request of each kind in words.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Fake {
    fn note(&self, words: String) {
        self.asked.lock().unwrap().push(words);
    }
}

/// A socket with a [`Fake`] behind it; dropped, it is gone.
pub(crate) struct Lab {
    _dir: tempfile::TempDir,
    pub(crate) socket: PathBuf,
    pub(crate) fake: Arc<Fake>,
    pub(crate) server: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub(crate) fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cilium.sock");
    let fake = Arc::new(Fake::default());
    let listener = bind(&socket).unwrap();
    let server = tokio::spawn(serve(listener, fake.clone()));
    Lab {
        _dir: dir,
        socket,
        fake,
        server,
    }
}

pub(crate) fn drop_notice(n: u16) -> DropNotice {
    DropNotice {
        endpoint: n,
        direction: "ingress".into(),
        reason: "Policy denied".into(),
        code: 133,
        ..Default::default()
    }
}

impl Agent for Fake {
    async fn status(&self, query: StatusQuery) -> Answer<StatusResponse> {
        self.note(format!("{query:?}"));
        Ok(StatusResponse {
            cilium: Some(Status::new(State::Ok, "0.1.0")),
            ..Default::default()
        })
    }
    async fn nodes(&self, client: Option<i64>) -> Answer<ClusterNodeStatus> {
        Ok(ClusterNodeStatus {
            client_id: client.unwrap_or(7),
            ..Default::default()
        })
    }
    async fn config(&self) -> Answer<DaemonConfiguration> {
        let option = ("ClusterName".to_owned(), "east".into());
        Ok(DaemonConfiguration {
            status: Some(DaemonConfigurationStatus {
                daemon_configuration_map: [option].into_iter().collect(),
                ..Default::default()
            }),
            ..Default::default()
        })
    }
    async fn debuginfo(&self) -> Answer<DebugInfo> {
        Ok(DebugInfo::default())
    }
    async fn endpoints(&self, labels: Vec<String>) -> Answer<Vec<Endpoint>> {
        self.note(format!("{labels:?}"));
        Ok(vec![Endpoint {
            id: 61,
            ..Default::default()
        }])
    }
    async fn endpoint(&self, id: EndpointRef) -> Answer<Endpoint> {
        if id == EndpointRef::Local(61) {
            let labels = LabelConfigurationStatus {
                realized: Some(LabelConfigurationSpec::default()),
                security_relevant: vec!["k8s:app=web".into()],
                ..Default::default()
            };
            return Ok(Endpoint {
                id: 61,
                spec: Some(EndpointConfigurationSpec::default()),
                status: Some(EndpointStatus {
                    labels: Some(labels),
                    ..Default::default()
                }),
            });
        }
        Err(ApiError::not_found(format!("no endpoint {id}")))
    }
    async fn create_endpoint(
        &self,
        id: EndpointRef,
        change: EndpointChangeRequest,
    ) -> Answer<Endpoint> {
        self.note(format!("{id} {}", change.container_id));
        Ok(Endpoint {
            id: 5,
            ..Default::default()
        })
    }
    async fn delete_endpoint(&self, id: EndpointRef) -> Answer<Deleted> {
        match id {
            EndpointRef::Local(1) => Ok(Deleted::All),
            EndpointRef::Local(2) => Ok(Deleted::WithErrors(3)),
            _ => Err(ApiError::not_ready("not yet")),
        }
    }
    async fn delete_endpoints(&self, batch: EndpointBatchDelete) -> Answer<Deleted> {
        self.note(batch.container_id);
        Ok(Deleted::All)
    }
    async fn endpoint_health(&self, _: EndpointRef) -> Answer<EndpointHealth> {
        Ok(EndpointState::Ready.health())
    }
    async fn endpoint_log(&self, id: EndpointRef) -> Answer<Vec<EndpointStatusChange>> {
        self.note(id.to_string());
        Ok(vec![])
    }
    async fn identities(&self, _: Vec<String>) -> Answer<Vec<Identity>> {
        Ok(vec![])
    }
    async fn identity(&self, id: u32) -> Answer<Identity> {
        Ok(Identity {
            id: id.into(),
            ..Default::default()
        })
    }
    async fn identity_endpoints(&self) -> Answer<Vec<IdentityEndpoints>> {
        std::future::pending().await
    }
    async fn ips(&self, query: IpQuery) -> Answer<Vec<IpListEntry>> {
        self.note(format!("{query:?}"));
        Err(ApiError::not_found(""))
    }
    async fn allocate(&self, request: IpamRequest) -> Answer<IpamResponse> {
        self.note(format!("{request:?}"));
        Ok(IpamResponse::default())
    }
    async fn allocate_address(&self, ip: IpAddr, owner: String, _: String) -> Answer<()> {
        self.note(format!("{ip} {owner}"));
        Ok(())
    }
    async fn release_address(&self, ip: IpAddr, pool: String) -> Answer<()> {
        self.note(format!("{ip} {pool}"));
        Ok(())
    }
    async fn policy(&self) -> Answer<Policy> {
        Ok(Policy::default())
    }
    async fn policy_subject_selectors(&self) -> Answer<Vec<SelectorIdentities>> {
        Ok(vec![])
    }
    async fn policy_selectors(&self) -> Answer<Vec<SelectorIdentities>> {
        Ok(vec![])
    }
    async fn services(&self) -> Answer<Vec<Service>> {
        Ok(vec![])
    }
    async fn maps(&self) -> Answer<BpfMapList> {
        let path = "/sys/fs/bpf/isthmus/v1/maps/ist_flows".into();
        let map = BpfMap { path, cache: None };
        Ok(BpfMapList { maps: vec![map] })
    }
    async fn map(&self, name: String) -> Answer<BpfMap> {
        let path = "/sys/fs/bpf/isthmus/v1/maps/ist_flows".into();
        let row = BpfMapEntry {
            key: "addr=10.5.1.2".into(),
            value: "identity=327681".into(),
            desired_action: "ok".into(),
            ..BpfMapEntry::default()
        };
        let cache = Some(vec![row]);
        match name.as_str() {
            "ist_flows" => Ok(BpfMap { path, cache }),
            _ => Err(ApiError::not_found("")),
        }
    }
    async fn metric_values(&self) -> Answer<Vec<MetricValue>> {
        let metric = |name: &str, labels: &[(&str, &str)], value| MetricValue {
            name: name.into(),
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            value,
        };
        Ok(vec![
            metric("cilium_endpoint", &[], 3.0),
            metric(
                "cilium_drop_count_total",
                &[("reason", "Policy denied"), ("direction", "INGRESS")],
                12.0,
            ),
            metric(
                "cilium_bpf_map_pressure",
                &[("map_name", "ist_flows")],
                0.25,
            ),
        ])
    }
    async fn version(&self) -> Answer<Version> {
        Ok(Version {
            version: "1.2.3".into(),
            api: API_VERSION,
            ..Default::default()
        })
    }
    async fn mesh(&self) -> Answer<MeshReport> {
        Ok(MeshReport::default())
    }
    async fn warnings(&self) -> Answer<Vec<Warning>> {
        Ok(vec![])
    }
    async fn troubleshoot(&self, clusters: Vec<String>, seconds: u64) -> Answer<Troubleshoot> {
        self.note(format!("{clusters:?} {seconds}"));
        Ok(Troubleshoot::default())
    }
    async fn kvstore(&self, key: String, recursive: bool) -> Answer<Feed<KvstoreEntry>> {
        let entry = |key: String, value: &str| KvstoreEntry {
            key,
            value: value.into(),
            error: String::new(),
        };
        let entries = match recursive {
            false => vec![entry(key, r#"{"x":1}"#)],
            true => vec![
                entry(format!("{key}/1"), "one"),
                entry(format!("{key}/2"), "two"),
            ],
        };
        Ok(Box::pin(stream::iter(entries)))
    }
    async fn flows(&self) -> Answer<Feed<FlowEntry>> {
        let flows = stream::iter(0..100_000).map(|n| FlowEntry {
            created: n,
            ..Default::default()
        });
        Ok(Box::pin(flows))
    }
    async fn bpf_ipcache(&self) -> Answer<Feed<BpfIpcacheEntry>> {
        Err(ApiError::failed("the map is gone"))
    }
    async fn bpf_endpoints(&self) -> Answer<Vec<BpfEndpoint>> {
        Ok(vec![])
    }
    async fn bpf_services(&self) -> Answer<Vec<BpfService>> {
        Ok(vec![])
    }
    async fn bpf_policies(&self, endpoint: Option<u16>) -> Answer<Vec<BpfPolicy>> {
        self.note(format!("{endpoint:?}"));
        Ok(vec![])
    }
    async fn metrics(&self) -> Answer<Vec<Metric>> {
        Ok(vec![])
    }
    async fn pressure(&self) -> Answer<Vec<Pressure>> {
        Ok(vec![])
    }
    async fn events(&self, query: EventQuery) -> Answer<Feed<DropNotice>> {
        let notices = stream::iter([drop_notice(1), drop_notice(2)])
            .filter(move |notice| futures::future::ready(query.accepts(notice)));
        Ok(Box::pin(notices.chain(stream::pending())))
    }
}
