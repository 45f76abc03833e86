// SPDX-License-Identifier: Apache-2.0
//! The state machine under any order of inputs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use clustermesh::{Ids, Input, Kind, Output, Remote, Session, State};
use model::{ClusterConfig, ClusterId, ClusterName, IdentityScheme};
use proptest::prelude::*;

fn config() -> impl Strategy<Value = ClusterConfig> {
    (0u16..12, any::<bool>(), any::<bool>()).prop_map(|(id, synced_canaries, cached)| {
        ClusterConfig {
            id: ClusterId(id),
            synced_canaries,
            cached,
            ..ClusterConfig::default()
        }
    })
}

fn input() -> impl Strategy<Value = Input> {
    let kind = proptest::sample::select(Kind::ALL.to_vec());
    let session = (0u64..6).prop_map(Session);
    let found = proptest::option::of(config());
    prop_oneof![
        1 => config().prop_map(Input::Restored),
        1 => Just(Input::Configured { endpoints: Vec::new() }),
        1 => Just(Input::Unusable("x".into())),
        1 => Just(Input::Removed),
        1 => session.clone().prop_map(|s| Input::Failed(s, "x".into())),
        4 => session.clone().prop_map(|s| Input::Answered(s, Some(1))),
        1 => session.clone().prop_map(Input::Heartbeat),
        4 => (session.clone(), found).prop_map(|(s, c)| Input::Config(s, Ok(c))),
        1 => session.clone().prop_map(|s| Input::Config(s, Err("x".into()))),
        4 => (session.clone(), kind.clone()).prop_map(|(s, k)| Input::Canary(s, k)),
        4 => (session, kind).prop_map(|(s, k)| Input::Listed(s, k)),
        1 => Just(Input::IdsChanged),
        2 => Just(Input::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_is_survived(inputs in proptest::collection::vec((0u64..40, input()), 1..60)) {
        let mut ids = Ids::new(ClusterId(5), IdentityScheme::default());
        let other = ClusterName::new("other").unwrap();
        ids.reserve(&other, &ClusterConfig { id: ClusterId(3), ..ClusterConfig::default() }).unwrap();
        let name = ClusterName::new("remote").unwrap();
        let mut remote = Remote::new(Duration::ZERO, name.clone(), 7);
        let (mut now, mut open, mut connected, mut removed) = (Duration::ZERO, None, None, 0);
        for (seconds, input) in inputs {
            now += Duration::from_secs(seconds);
            for output in remote.handle(now, input, &mut ids) {
                prop_assert_eq!(removed, 0, "{:?} after the removal", output);
                match output {
                    Output::Connect(session) => {
                        prop_assert_eq!(connected.replace(session), None, "two connections");
                    }
                    Output::Close(session) => prop_assert_eq!(connected.take(), Some(session)),
                    Output::Watch { session, .. } => prop_assert_eq!(connected, Some(session)),
                    Output::Open(id) => {
                        prop_assert!(open.is_none_or(|before| before == id), "another id without a drain");
                        prop_assert_eq!(ids.holder(id), Some(&name));
                        open = Some(id);
                    }
                    Output::Drain => prop_assert!(open.take().is_some(), "drained twice"),
                    Output::Remove => removed += 1,
                    Output::IdReleased | Output::Synced => {}
                }
            }
            let status = remote.status(|at| std::time::SystemTime::UNIX_EPOCH + at);
            prop_assert_eq!(status.ready, status.state == State::Ready);
            prop_assert!(!status.connected || connected.is_some());
        }
        remote.handle(now, Input::Removed, &mut ids);
        prop_assert!((0..12).all(|id| ids.holder(ClusterId(id)) != Some(&name)), "an id leaked");
        prop_assert_eq!(ids.holder(ClusterId(3)), Some(&other));
    }
}
