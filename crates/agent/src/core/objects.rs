// SPDX-License-Identifier: Apache-2.0
//! Objects of the cluster's source: pods and namespaces give labels, policies rules, services translations.

use std::collections::{BTreeMap, BTreeSet};

use datapath::Kernel;
use kubernetes::{ObjectEvent, Update, Verdict};
use model::Pod;
use policy::{PolicyKey, PolicyKind};

use super::Core;
use crate::endpoint::{Attachment, Endpoint};

impl<K: Kernel> Core<K> {
    /// Takes an update.
    pub(crate) fn take_objects(&mut self, update: Update) {
        self.problems = update.problems;
        for event in update.events {
            match event {
                ObjectEvent::Pod(pod) => self.take_pod(pod),
                ObjectEvent::PodGone(key) => drop(self.pods.remove(&key)),
                ObjectEvent::Namespace(namespace) => drop(
                    self.namespaces
                        .insert(namespace.name.as_str().into(), namespace),
                ),
                ObjectEvent::NamespaceGone(name) => drop(self.namespaces.remove(&name)),
                ObjectEvent::Policy(policy)
                    if policy.key.kind == PolicyKind::NetworkPolicy
                        && !self.config.network_policy => {}
                event @ (ObjectEvent::Policy(_)
                | ObjectEvent::PolicyGone(_)
                | ObjectEvent::CidrGroup(_)
                | ObjectEvent::CidrGroupGone(_)) => self.take_policy(event),
                ObjectEvent::Service(service) => self.balancer.services.put_service(service),
                ObjectEvent::ServiceGone(key) => self.balancer.services.remove_service(&key),
                ObjectEvent::EndpointSlice(slice) => self.balancer.services.put_slice(slice),
                ObjectEvent::EndpointSliceGone(key) => self.balancer.services.remove_slice(&key),
                ObjectEvent::PolicyShows(key, Some(condition)) => {
                    drop(self.policy_shows.insert(key, condition));
                }
                ObjectEvent::PolicyShows(key, None) => drop(self.policy_shows.remove(&key)),
            }
        }
        self.follow_api_servers();
        self.settle();
        self.save_in_force();
        self.write_services();
    }

    fn take_pod(&mut self, pod: Pod) {
        // Most pods of a cluster are elsewhere.
        let may_be_here = pod.node.is_empty() || pod.node == self.node.name.name;
        let mut endpoints = self.endpoints.values().filter(|_| may_be_here);
        let is_its = |endpoint: &&Endpoint| endpoint.attachment.is_of(&pod);
        let endpoint = endpoints.find(is_its);
        let named = endpoint.map(|endpoint| (endpoint.attachment.clone(), endpoint.identity));
        self.pods.insert(pod.key.clone(), pod);
        if let Some((attachment, identity)) = named {
            self.put_endpoint_ports(&attachment, identity);
        }
    }

    /// The object of an endpoint's pod; `None` if the source does not know it, or knows another pod of its name.
    pub(crate) fn pod_of(&self, attachment: &Attachment) -> Option<&Pod> {
        let pod = self.pods.get(&attachment.pod)?;
        attachment.is_of(pod).then_some(pod)
    }

    /// What became of every policy.
    pub(crate) fn verdicts(&self) -> BTreeMap<PolicyKey, Verdict> {
        let in_force = self.engine.policies().map(|policy| &policy.key);
        let otherwise = self.engine.policies().filter_map(|policy| {
            let (named, own) = (policy.foreign_namespace()?, &policy.key.namespace);
            let told = format!(
                "endpointSelector names namespace {named}: it is in force for pods of {own}, the policy's own"
            );
            Some((&policy.key, told))
        });
        let mut otherwise: BTreeMap<_, _> = otherwise.collect();
        // Whether there is room is another matter on every node.
        let crowded: BTreeSet<&PolicyKey> = self.crowded_policies().map(|(key, _)| key).collect();
        let known = self
            .refused_policies()
            .chain(in_force)
            .chain(crowded.iter().copied());
        let in_force = known.map(|key| {
            let note = self.notes.get(&key.to_string());
            let note = note.filter(|_| !crowded.contains(key));
            let note = note.map(|note| Verdict::Refused(note.text.clone()));
            let told = note.or_else(|| otherwise.remove(key).map(Verdict::Otherwise));
            (key.clone(), told.unwrap_or(Verdict::InForce))
        });
        let refused = self.problems.iter().filter_map(|problem| {
            let stays = if problem.previous_stays {
                "; the previous version stays in force"
            } else {
                ""
            };
            let told = format!("{}{stays}", problem.reason);
            Some((problem.policy()?, Verdict::Refused(told)))
        });
        in_force.chain(refused).collect()
    }
}
