// SPDX-License-Identifier: Apache-2.0
//! The ipcache and the nodes over the fake kernel.

mod support;

use abi::{ANY_CLUSTER, NodeKey, PrefixKey, addr_bucket, ip_flags};
use datapath::{Call, Datapath, Error, Fake, Map, Typed, prefix_key, table};
use model::ClusterId;
use support::{flow, ip, ip_row, map_addr, net};

fn fresh() -> Datapath<Fake> {
    Datapath::new(Fake::new()).expect("empty maps")
}

fn epoch(datapath: &Datapath<Fake>, address: &str) -> u32 {
    let bucket = u32::from(addr_bucket(&map_addr(address)));
    datapath
        .kernel()
        .get_row::<table::Epochs>(&bucket)
        .expect("readable")
        .expect("array")
}

#[test]
fn an_address_is_written_before_its_bucket_is_raised_and_only_if_it_changes() {
    let mut datapath = fresh();
    let row = ip_row(458_753, Some("192.168.0.2"));
    assert!(datapath.put_ip(net("10.7.0.9/32"), row).expect("room"));
    let kinds: Vec<bool> = datapath
        .kernel()
        .calls
        .iter()
        .map(|call| matches!(call, Call::Put(Map::Ipcache, ..)))
        .collect();
    assert_eq!(kinds, [true, false]);
    assert!(!datapath.put_ip(net("10.7.0.9/32"), row).expect("room"));
    assert_eq!(epoch(&datapath, "10.7.0.9"), 1);
    let info = datapath
        .kernel()
        .get_row::<table::Ipcache>(&map_addr("10.7.0.9"));
    let info = info.expect("readable").expect("written");
    assert_eq!((info.identity, info.flags), (458_753, ip_flags::TUNNEL));
    assert_eq!(info.node, map_addr("192.168.0.2"));
    assert_eq!(
        datapath.ips().expect("readable"),
        [(net("10.7.0.9/32"), row)]
    );
    assert!(datapath.remove_ip(&net("10.7.0.9/32")).expect("removable"));
    assert!(
        !datapath
            .remove_ip(&net("10.7.0.9/32"))
            .expect("absent is fine")
    );
    assert_eq!(epoch(&datapath, "10.7.0.9"), 2);
}

#[test]
fn a_prefix_raises_exactly_the_flows_inside() {
    let mut datapath = fresh();
    for (port, remote) in [(1, "10.7.1.1"), (2, "10.7.1.2"), (3, "10.8.0.1")] {
        let (key, value) = flow(9, "10.5.1.9", remote, port, 50);
        datapath
            .kernel_mut()
            .put_row::<table::Flows>(&key, &value)
            .expect("room");
    }
    assert!(
        datapath
            .put_ip(net("10.7.0.0/16"), ip_row(2, None))
            .expect("room")
    );
    assert_eq!(
        epoch(&datapath, "10.7.1.1"),
        0,
        "not before the batch is settled"
    );
    datapath.settle().expect("readable");
    let epochs = ["10.7.1.1", "10.7.1.2", "10.8.0.1"].map(|ip| epoch(&datapath, ip));
    assert_eq!(epochs, [1, 1, 0]);
    datapath.kernel_mut().calls.clear();
    assert!(
        !datapath
            .put_ip(net("10.7.0.0/16"), ip_row(2, None))
            .expect("room")
    );
    datapath.settle().expect("readable");
    assert_eq!(datapath.kernel().calls, []);
    assert!(
        datapath
            .put_ip(net("10.7.1.0/24"), ip_row(2, None))
            .expect("room"),
        "equal, but shorter"
    );
    assert!(datapath.remove_ip(&net("10.7.0.0/16")).expect("removable"));
    datapath.collect_flows(10).expect("settles too");
    assert_eq!(epoch(&datapath, "10.7.1.1"), 2);
}

#[test]
fn all_of_ipv6_says_nothing_about_ipv4() {
    let mut datapath = fresh();
    datapath
        .set_config(abi::NodeConfig {
            world4: 9,
            ..Default::default()
        })
        .expect("room");
    let all4 = prefix_key(&net("0.0.0.0/0"));
    let shield = |datapath: &Datapath<Fake>, key: &PrefixKey| {
        let row = datapath
            .kernel()
            .get_row::<table::Prefixes>(key)
            .expect("readable");
        row.map(|info| info.identity)
    };
    datapath
        .put_ip(net("::/0"), ip_row(16_777_300, None))
        .expect("room");
    assert_eq!(shield(&datapath, &all4), Some(9));
    datapath
        .put_ip(net("0.0.0.0/0"), ip_row(16_777_301, None))
        .expect("room");
    assert_eq!(shield(&datapath, &all4), Some(16_777_301));
    let mut datapath = Datapath::new(datapath.into_kernel()).expect("adopts");
    datapath.remove_ip(&net("0.0.0.0/0")).expect("removable");
    assert_eq!(shield(&datapath, &all4), Some(9));
    datapath.remove_ip(&net("::/0")).expect("removable");
    assert_eq!(shield(&datapath, &all4), None);
}

#[test]
fn pruning_keeps_what_is_named() {
    let mut datapath = fresh();
    for prefix in ["10.7.0.1/32", "10.7.0.2/32", "10.7.0.0/16", "fd07::/64"] {
        datapath.put_ip(net(prefix), ip_row(2, None)).expect("room");
    }
    let mut datapath = Datapath::new(datapath.into_kernel()).expect("adopts");
    let keep = [net("10.7.0.2/32"), net("fd07::/64")];
    datapath
        .prune_ips(&|prefix| keep.contains(prefix))
        .expect("removable");
    let mut left: Vec<_> = datapath
        .ips()
        .expect("readable")
        .into_iter()
        .map(|(net, _)| net)
        .collect();
    left.sort();
    assert_eq!(left, keep);
}

#[test]
fn a_full_map_refuses_one_row_says_so_and_nothing_else_stops() {
    let mut datapath = fresh();
    datapath.kernel_mut().set_limit(Map::Ipcache, 1);
    datapath
        .put_ip(net("10.7.0.1/32"), ip_row(2, None))
        .expect("room");
    let error = datapath
        .put_ip(net("10.7.0.2/32"), ip_row(2, None))
        .expect_err("full");
    assert!(
        matches!(
            error,
            Error::MapFull {
                map: Map::Ipcache,
                max: 1
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("ist_ipcache is full"), "{error}");
    assert_eq!(datapath.full_maps(), ["ist_ipcache"]);
    assert_eq!(epoch(&datapath, "10.7.0.2"), 0);
    datapath
        .put_ip(net("10.7.0.1/32"), ip_row(3, None))
        .expect("a replacement needs no room");
    datapath
        .put_ip(net("10.8.0.0/16"), ip_row(2, None))
        .expect("another map");
    let pressure = datapath.map_pressure();
    assert!(pressure.contains(&("ist_ipcache", 1, 1)), "{pressure:?}");
    datapath.remove_ip(&net("10.7.0.1/32")).expect("removable");
    datapath
        .put_ip(net("10.7.0.2/32"), ip_row(2, None))
        .expect("room again");
    assert!(datapath.full_maps().is_empty());
}

#[test]
fn nodes_have_a_row_of_their_own_and_one_for_any_cluster() {
    let mut datapath = fresh();
    let (key, mut value) = flow(9, "10.5.1.9", "10.7.1.1", 1, 50);
    value.node = [192, 168, 0, 2];
    datapath
        .kernel_mut()
        .put_row::<table::Flows>(&key, &value)
        .expect("room");
    let both = [
        (ClusterId(5), ip("192.168.0.1")),
        (ClusterId(7), ip("192.168.0.2")),
    ];
    datapath.set_nodes(&both.into()).expect("room");
    let has = |datapath: &Datapath<Fake>, cluster, addr| {
        let key = NodeKey {
            cluster,
            addr: map_addr(addr),
        };
        datapath
            .kernel()
            .get_row::<table::Nodes>(&key)
            .expect("readable")
            .is_some()
    };
    assert!(has(&datapath, 7, "192.168.0.2") && has(&datapath, ANY_CLUSTER, "192.168.0.2"));
    assert!(!has(&datapath, 5, "192.168.0.2"));
    let mut datapath = Datapath::new(datapath.into_kernel()).expect("adopts");
    let writes = datapath.kernel().calls.len();
    datapath.set_nodes(&both.into()).expect("room");
    assert_eq!(datapath.kernel().calls.len(), writes, "nothing changed");
    datapath
        .set_nodes(&both[..1].iter().copied().collect())
        .expect("removable");
    assert_eq!(datapath.kernel().len(Map::Nodes), 2);
    datapath.settle().expect("readable");
    assert_eq!(
        epoch(&datapath, "10.7.1.1"),
        1,
        "flows by way of the node are judged again"
    );
}

#[test]
fn a_full_map_of_nodes_gives_up_those_that_are_gone() {
    let mut fake = Fake::new();
    fake.set_limit(Map::Nodes, 4);
    let mut datapath = Datapath::new(fake).expect("an empty kernel");
    let row = |cluster, last: u8| {
        (
            ClusterId(cluster),
            std::net::IpAddr::from([192, 168, 0, last]),
        )
    };
    datapath
        .change_nodes(&[row(5, 1), row(5, 2)], &[])
        .expect("room");
    // Another cluster's rows find no room; what goes makes some, whatever was refused before it.
    assert!(datapath.change_nodes(&[row(7, 3), row(7, 4)], &[]).is_err());
    assert_eq!(datapath.nodes(), [row(5, 1), row(5, 2)].into());
    assert!(
        datapath
            .change_nodes(&[row(7, 3), row(7, 4)], &[row(5, 1)])
            .is_err()
    );
    assert_eq!(datapath.nodes(), [row(5, 2), row(7, 3)].into());
    let wanted = [row(5, 2), row(7, 4)].into();
    datapath.set_nodes(&wanted).expect("room for two");
    assert_eq!(datapath.nodes(), wanted);
    // An address of two clusters is a node's until both let it go.
    datapath.change_nodes(&[], &[row(7, 4)]).expect("removable");
    datapath
        .change_nodes(&[row(7, 2)], &[row(5, 2)])
        .expect("room");
    assert_eq!(datapath.kernel().len(Map::Nodes), 2);
}
