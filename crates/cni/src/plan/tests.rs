// SPDX-License-Identifier: Apache-2.0
//! Plans of ADD.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::input::Pod;
use crate::version::Version;

const HOST: Mac = Mac([2, 0, 0, 0, 0, 1]);
const POD: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn add() -> Add {
    Add {
        container: "9f8e".into(),
        interface: "eth0".into(),
        netns: "/var/run/netns/pod".into(),
        pod: Pod {
            name: "web-0".into(),
            namespace: "default".into(),
            uid: "u-1".into(),
        },
    }
}

fn config() -> DaemonConfigurationStatus {
    DaemonConfigurationStatus {
        device_mtu: 1450,
        route_mtu: 1450,
        ..Default::default()
    }
}

fn ipam() -> IpamResponse {
    serde_json::from_str(
        r#"{"address":{"ipv4":"10.1.1.73","ipv4-pool-name":"default","ipv6":"fd00::49"},
            "host-addressing":{"ipv4":{"enabled":true,"ip":"10.1.1.17"},"ipv6":{"enabled":true,"ip":"fd00::1"}},
            "ipv4":{"ip":"10.1.1.73","gateway":"10.1.1.17","expiration-uuid":"6c1f"},
            "ipv6":{"ip":"fd00::49","expiration-uuid":"7d20"}}"#,
    )
    .unwrap()
}

fn planned(
    mtu: u32,
    config: &DaemonConfigurationStatus,
    ipam: &IpamResponse,
) -> Result<Plan, String> {
    plan(&add(), mtu, config, ipam, [HOST, POD]).map_err(|error| error.to_string())
}

#[test]
fn both_families() {
    let plan = planned(0, &config(), &ipam()).unwrap();
    assert_eq!(plan.mtu, 1450);
    let text = |route: &PodRoute| match route.gateway {
        Some(gateway) => format!("{} via {gateway}", route.destination),
        None => route.destination.to_string(),
    };
    assert_eq!(
        plan.routes.iter().map(text).collect::<Vec<_>>(),
        [
            "10.1.1.17/32",
            "0.0.0.0/0 via 10.1.1.17",
            "fd00::1/128",
            "::/0 via fd00::1"
        ]
    );
    assert_eq!(
        plan.switches,
        [("net/ipv6/conf/all/disable_ipv6".to_owned(), "0".to_owned())]
    );
    let change = serde_json::to_string(&plan.change(17, 42)).unwrap();
    assert_eq!(
        change,
        format!(
            concat!(
                r#"{{"container-id":"9f8e","container-netns-path":"/var/run/netns/pod","#,
                r#""container-interface-name":"eth0","interface-name":"{}","interface-index":17,"#,
                r#""mac":"02:00:00:00:00:02","host-mac":"02:00:00:00:00:01","addressing":"#,
                r#"{{"ipv4":"10.1.1.73","ipv4-pool-name":"default","ipv4-expiration-uuid":"6c1f","#,
                r#""ipv6":"fd00::49","ipv6-expiration-uuid":"7d20"}},"k8s-pod-name":"web-0","#,
                r#""k8s-namespace":"default","k8s-uid":"u-1","sync-build-endpoint":true,"#,
                r#""netns-cookie":"42","state":"waiting-for-identity"}}"#
            ),
            plan.host_device
        )
    );
}

#[test]
fn results_by_version() {
    let mut config = config();
    config.route_mtu = 1400;
    let made = planned(0, &config, &ipam()).unwrap().made(POD);
    let host = host_device("9f8e", "eth0");
    let newest = made.to_json(Version::V1_1_0);
    assert_eq!(
        newest,
        format!(
            concat!(
                r#"{{"interfaces":[{{"name":"{}","mac":"02:00:00:00:00:01","mtu":1450}},"#,
                r#"{{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/var/run/netns/pod","mtu":1450}}],"#,
                r#""ips":[{{"address":"10.1.1.73/32","gateway":"10.1.1.17","interface":1}},"#,
                r#"{{"address":"fd00::49/128","gateway":"fd00::1","interface":1}}],"#,
                r#""routes":[{{"dst":"10.1.1.17/32"}},{{"dst":"0.0.0.0/0","gw":"10.1.1.17","mtu":1400}},"#,
                r#"{{"dst":"fd00::1/128"}},{{"dst":"::/0","gw":"fd00::1","mtu":1400}}],"#,
                r#""cniVersion":"1.1.0","dns":{{}}}}"#
            ),
            host
        )
    );
    let v1 = made.to_json(Version::V1_0_0);
    assert!(!v1.contains("mtu") && v1.contains(r#""interface":1"#) && !v1.contains(r#""version""#));
    assert!(made.to_json(Version::V0_4_0).contains(r#""version":"4""#));
    assert_eq!(
        made.to_json(Version::V0_2_0),
        concat!(
            r#"{"ip4":{"ip":"10.1.1.73/32","gateway":"10.1.1.17","routes":[{"dst":"10.1.1.17/32"},"#,
            r#"{"dst":"0.0.0.0/0","gw":"10.1.1.17"}]},"ip6":{"ip":"fd00::49/128","gateway":"fd00::1","#,
            r#""routes":[{"dst":"fd00::1/128"},{"dst":"::/0","gw":"fd00::1"}]},"cniVersion":"0.2.0","dns":{}}"#
        )
    );
}

#[test]
fn one_family_and_a_smaller_mtu() {
    let mut ipam = ipam();
    ipam.address.ipv6.clear();
    let plan = planned(1000, &config(), &ipam).unwrap();
    assert_eq!(
        (
            plan.mtu,
            plan.ips.len(),
            plan.routes.len(),
            plan.switches.len()
        ),
        (1000, 1, 2, 0)
    );
    assert!(
        plan.routes.iter().all(|route| route.mtu.is_none()),
        "{:?}",
        plan.routes
    );
    // A wish for more than the underlay carries is not granted.
    assert_eq!(planned(9000, &config(), &ipam).unwrap().mtu, 1450);
}

#[test]
fn answers_that_cannot_be_used() {
    let refused = |change: fn(&mut DaemonConfigurationStatus, &mut IpamResponse)| {
        let (mut config, mut ipam) = (config(), ipam());
        change(&mut config, &mut ipam);
        planned(0, &config, &ipam).unwrap_err()
    };
    let texts = [
        refused(|config, _| config.device_mtu = 0),
        refused(|config, _| config.device_mtu = 1000),
        refused(|config, _| config.route_mtu = 1000),
        refused(|_, ipam| ipam.address = AddressPair::default()),
        refused(|_, ipam| ipam.address.ipv4 = "10.1.1".into()),
        refused(|_, ipam| ipam.address.ipv4 = "fd00::2".into()),
        refused(|_, ipam| ipam.host_addressing.ipv6 = None),
    ];
    assert_eq!(
        texts,
        [
            "cannot use the agent's answer: deviceMTU 0 cannot be",
            "cannot use the agent's answer: IPv6 needs an MTU of 1280, this would be 1000",
            "cannot use the agent's answer: IPv6 needs an MTU of 1280, this would be 1000",
            "cannot use the agent's answer: it allocated no address",
            "cannot use the agent's answer: address \"10.1.1\": invalid IP address syntax",
            "cannot use the agent's answer: fd00::2 by way of 10.1.1.17 cannot be",
            "cannot use the agent's answer: router address \"\": invalid IP address syntax",
        ]
    );
}
