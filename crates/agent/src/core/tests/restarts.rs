// SPDX-License-Identifier: Apache-2.0
//! What a start takes over from an earlier run, and what it leaves behind.

use std::time::Duration;

use super::*;

/// What an earlier run published for a pod that is gone is a leftover; what stands for anything else is not.
#[test]
fn rows_of_this_node_without_a_pod_are_leftovers() {
    let mut core = core();
    let pool = core.pool4.as_mut().expect("IPv4");
    let given = pool.allocate("demo/starting").expect("free");
    let here = Some(IpAddr::from(core.node.ipv4));
    let elsewhere = "172.30.5.2".parse().ok();
    let by = |writer: &str, prefix: &str, host| {
        let entry = model::IpEntry {
            metadata: writer.into(),
            ..model::IpEntry::new(prefix.parse().expect("valid"), WEB, host)
        };
        core.is_leftover(&entry)
    };
    let is_leftover = |prefix: &str, host| by("cilium-global:default:n1:7", prefix, host);
    assert!(is_leftover("10.5.1.77/32", here));
    assert!(!is_leftover("10.5.1.77/32", elsewhere));
    assert!(!is_leftover("10.5.1.77/32", None));
    assert!(!is_leftover("10.5.1.0/24", here), "no address of a pod");
    for somebody in ["", "cilium-global:default:n12:7"] {
        assert!(!by(somebody, "10.5.1.77/32", here), "{somebody:?}");
    }
    for ip in ["10.5.1.9", "10.5.1.1", "172.30.5.1", &given.to_string()] {
        assert!(!is_leftover(&format!("{ip}/32"), here), "{ip}");
    }
}

/// Nobody is to send to an address of a family that is switched off.
#[test]
fn a_pod_of_before_has_no_address_of_a_family_that_is_off() {
    let mut core = core_before_lists(Fake::new());
    let pod = PodKey {
        namespace: "demo".into(),
        name: "web".into(),
    };
    let ip: std::net::Ipv6Addr = "fd00:5:1::10".parse().expect("valid");
    let mut endpoint = endpoint(EndpointId(10), pod);
    endpoint.attachment.ipv6 = Some(ip);
    let a = &endpoint.attachment;
    let row = EndpointRow {
        id: a.id,
        ifindex: a.ifindex,
        device: a.interface.clone(),
        ipv4: a.ipv4,
        ipv6: a.ipv6,
        mac: a.mac.0,
        host_mac: a.host_mac.0,
        identity: endpoint.identity,
        other_router: false,
    };
    core.dp.put_endpoint(&row).expect("room");
    core.restore_endpoint(endpoint).expect("room");
    core.become_ready();
    assert!(!core.dp.is_local(ip.into()));
    let published = core.published(EndpointId(10)).into_iter();
    let published: Vec<_> = published.map(|row| row.prefix.to_string()).collect();
    assert_eq!(published, ["10.5.1.10/32"]);
    let row = model::IpEntry {
        metadata: "cilium-global:default:n1:10".into(),
        ..model::IpEntry::new(IpAddr::from(ip).into(), WEB, Some(core.node.ipv4.into()))
    };
    assert!(core.is_leftover(&row), "what that run published goes");
}

/// The prefix of a policy that is there before and after a restart keeps its row through everything that a start prunes.
#[test]
fn a_prefix_of_a_policy_outlives_a_restart() {
    let mut core = core();
    let policy = || vec![ObjectEvent::Policy(from_cidr("192.0.2.0/24"))];
    let prefixes = |core: &Core<Fake>| {
        let mut rows = core.dp.ips().expect("readable");
        rows.retain(|(_, row)| row.identity.0 & 0xff00_0000 == NumericIdentity::SCOPE_LOCAL);
        rows
    };
    objects(&mut core, policy());
    let before = prefixes(&core);
    assert_eq!(before.len(), 1);
    for _ in 0..2 {
        core = core_before_lists(core.dp.into_kernel());
        objects(&mut core, policy());
        core.become_ready();
        core.sweep();
        assert_eq!(prefixes(&core), before);
    }
    let gone = from_cidr("192.0.2.0/24").key;
    objects(&mut core, vec![ObjectEvent::PolicyGone(gone)]);
    assert!(prefixes(&core).is_empty(), "and goes with the policy");
}

pub(super) fn keep_state_in(core: &mut Core<Fake>, dir: &std::path::Path) {
    let mut config = (*core.config).clone();
    config.state_dir = dir.to_owned();
    core.config = Arc::new(config);
    core.endpoint_dir = dir.join("state/endpoints");
}

fn has(core: &Core<Fake>, ip: IpAddr) -> bool {
    core.pool4.as_ref().expect("IPv4").has(ip)
}

/// A plugin got an address before a restart, and may still use it or give it back after: nobody else gets it meanwhile.
#[test]
fn addresses_of_plugins_are_theirs_over_a_restart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut core = core();
    keep_state_in(&mut core, dir.path());
    let pool = core.pool4.as_mut().expect("IPv4");
    // One that is about to be free, of which an endpoint is being made, and one that is for others some time later.
    let held = [(0, 60), (120, 120)].map(|(seconds, left)| {
        let ip = pool.allocate("demo/web").expect("free");
        let until = Instant::now() + Duration::from_secs(seconds);
        (ip, until, left)
    });
    for (ip, until, left) in held {
        let pending = Pending {
            owner: "demo/web".into(),
            uuid: "u".into(),
            until,
            taken: left == 60,
        };
        core.pending.insert(ip, pending);
    }
    core.save_held();

    let mut core = core_before_lists(core.dp.into_kernel());
    keep_state_in(&mut core, dir.path());
    core.restore_held(Vec::new(), &[]);
    for (ip, _, expected) in held {
        let pending = core.pending.get(&ip).expect("pending");
        assert_eq!((pending.uuid.as_str(), pending.taken), ("u", false));
        let left = pending.until.saturating_duration_since(Instant::now());
        let seconds = left.as_secs_f64().round() as i64;
        assert!((seconds - expected).abs() <= 2, "{left:?}");
        assert!(has(&core, ip));
    }
    let [(ip, ..), (other, ..)] = held;
    core.release(other);
    core.release(ip);
    core.save_held();

    let mut core = core_before_lists(core.dp.into_kernel());
    keep_state_in(&mut core, dir.path());
    core.restore_held(Vec::new(), &[]);
    assert!(!has(&core, ip) && core.pending.is_empty());
    assert!(core.notes.is_empty(), "{:?}", core.notes);
}

/// What a full disk refused is written when there is room, although nothing changes.
#[test]
fn addresses_are_written_down_when_there_is_room() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let full = dir.path().join("full");
    std::fs::write(&full, "").expect("writable");
    let mut core = core();
    keep_state_in(&mut core, &full);
    core.save_held();
    core.save_freed();
    assert_eq!(core.notes.len(), 2, "{:?}", core.notes);
    core.retry_held();
    assert_eq!(core.notes.len(), 2, "{:?}", core.notes);
    std::fs::remove_file(&full).expect("there");
    core.retry_held();
    assert!(core.notes.is_empty(), "{:?}", core.notes);
    assert!(full.join("state/held-addresses.json").exists());
}

/// Also if somebody empties the directory, or the disk was full: a start forgets pods that have no file.
#[test]
fn files_of_endpoints_come_back() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let [state, full] = ["state", "full"].map(|name| dir.path().join(name));
    std::fs::write(&full, "").expect("writable");
    let mut core = core();
    let id = EndpointId(10);
    let pod = PodKey {
        namespace: "demo".into(),
        name: "web".into(),
    };
    core.restore_endpoint(endpoint(id, pod)).expect("room");
    let file = state.join("10.json");
    core.endpoint_dir = full;
    core.keep_files();
    assert!(core.notes.contains_key("endpoint 10 on disk"));
    core.endpoint_dir = state.clone();
    for _ in 0..2 {
        core.keep_files();
        assert!(core.notes.is_empty() && file.exists());
        std::fs::remove_dir_all(&state).expect("there");
    }
    core.relabel(id, labels("cluster5", "web"), WEB);
    assert!(file.exists());
}

/// A pod that lives and whose endpoint cannot be read keeps its address, over further starts too, until its device goes.
#[test]
fn a_damaged_file_of_a_living_pod_keeps_its_address() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("state/endpoints/9.json");
    std::fs::create_dir_all(file.parent().expect("below")).expect("writable");
    std::fs::write(&file, "{").expect("writable");
    let ip = "10.5.1.9".parse().expect("valid");
    let link = netlink::Link {
        index: 12,
        name: "lxc9".into(),
        ..netlink::Link::default()
    };
    let mut kernel = core().dp.into_kernel();
    for start in ["first", "second"] {
        let mut core = core_before_lists(kernel);
        keep_state_in(&mut core, dir.path());
        let (restored, damaged) = crate::endpoint::restore(&core.endpoint_dir).expect("readable");
        assert!(restored.is_empty());
        if start == "second" {
            core.dp.remove_endpoint(ENDPOINT).expect("writable");
        }
        core.restore_held(damaged, std::slice::from_ref(&link));
        assert!(has(&core, ip), "{start}");
        let note = &core.notes[&file.display().to_string()];
        assert!(
            note.text.contains("10.5.1.9 while lxc9 is there"),
            "{}",
            note.text
        );
        core.free_dead(std::slice::from_ref(&link));
        assert!(has(&core, ip), "{start}");
        if start == "second" {
            core.free_dead(&[]);
            assert!(!has(&core, ip) && core.notes.is_empty() && !file.exists());
            assert_eq!(core.freed(), [ip], "it comes last");
        }
        kernel = core.dp.into_kernel();
    }
}

/// What is published of an endpoint is what it is at that moment: nothing, if it is gone.
#[test]
fn an_endpoint_is_published_as_it_is_now() {
    let mut core = core();
    core.endpoint_dir = "/dev/null/endpoints".into();
    let id = EndpointId(10);
    let pod = PodKey {
        namespace: "demo".into(),
        name: "web-1".into(),
    };
    assert!(core.published(id).is_empty());
    core.restore_endpoint(endpoint(id, pod)).expect("room");
    core.relabel(id, labels("cluster5", "web"), WEB);
    let rows = core.published(id);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(row.prefix.to_string(), "10.5.1.10/32");
    assert_eq!((row.identity, &*row.pod), (WEB, "web-1"));
    assert_eq!(row.host, Some(IpAddr::from(core.node.ipv4)));
    assert_eq!(&*row.metadata, "cilium-global:default:n1:10");
    core.endpoints.remove(&id);
    assert!(core.published(id).is_empty());
}

/// An endpoint that is not made gives its addresses back, but not those that another one of the same pod has.
#[test]
fn a_failed_endpoint_takes_no_address_from_another() {
    let mut core = core();
    core.endpoint_dir = "/dev/null/endpoints".into();
    let pod = PodKey {
        namespace: "demo".into(),
        name: "web-1".into(),
    };
    let made = endpoint(EndpointId(10), pod);
    let ip = made.attachment.ips().next().expect("an address");
    core.restore_endpoint(made).expect("room");
    assert!(has(&core, ip));
    core.give_back(ip);
    assert!(has(&core, ip), "the endpoint has it");
    let pool = core.pool4.as_mut().expect("IPv4");
    let free = pool.allocate("demo/web-1").expect("free");
    core.give_back(free);
    assert!(!has(&core, free), "nobody has it");
}

/// A device has one endpoint: what belongs to somebody is refused, and says whose it is.
#[test]
fn what_an_endpoint_has_is_its_own() {
    let mut core = core();
    core.endpoint_dir = "/dev/null/endpoints".into();
    let pod = |name: &str| PodKey {
        namespace: "demo".into(),
        name: name.into(),
    };
    let first = endpoint(EndpointId(10), pod("web-1"));
    core.restore_endpoint(first.clone()).expect("room");
    let refusal = |change: fn(&mut crate::endpoint::Attachment)| {
        let mut other = endpoint(EndpointId(11), pod("web-2")).attachment;
        other.container_id = "d".into();
        other.ipv4 = "10.5.1.11".parse().ok();
        change(&mut other);
        core.check_free(&other).err().map(|error| error.to_string())
    };
    assert_eq!(refusal(|_| {}), None);
    let device = refusal(|a| a.interface = "lxc10".into());
    assert_eq!(
        device.as_deref(),
        Some("device lxc10 belongs to endpoint 10 (demo/web-1)")
    );
    let address = refusal(|a| a.ipv4 = "10.5.1.10".parse().ok());
    assert_eq!(
        address.as_deref(),
        Some("address 10.5.1.10 belongs to endpoint 10 (demo/web-1)")
    );
    let attachment = refusal(|a| a.container_id = "c".into());
    assert_eq!(
        attachment.as_deref(),
        Some("container interface c:eth0 has an endpoint already")
    );
    let again = refusal(|a| (a.interface, a.ifindex) = ("lxc10".into(), 14));
    assert_eq!(again, None, "the device of before is gone");
}

/// Pods with the same labels share an identity, and each lets go only of the use that it counts as: whose labels changed while
/// no agent ran counts as none.
#[test]
fn a_pod_of_before_takes_nobody_elses_use_along() {
    let mut core = core();
    core.endpoint_dir = "/dev/null/endpoints".into();
    let [same, changed, former] = [10, 11, 12].map(EndpointId);
    let key = |id| PodKey {
        namespace: "demo".into(),
        name: format!("web-{id}").into(),
    };
    let web = labels("cluster5", "web");
    for id in [same, changed, former] {
        let mut endpoint = endpoint(id, key(id));
        endpoint.attachment.ipv4 = Some(Ipv4Addr::from([10, 5, 1, id.0 as u8]));
        endpoint.attachment.ifindex = id.0.into();
        endpoint.labels = web.clone();
        let cluster = if id == former { 3 } else { 5 };
        endpoint.identity = NumericIdentity((cluster << 16) + 1);
        endpoint.counted = false;
        core.restore_endpoint(endpoint).expect("room");
    }
    let ids = |all: Vec<Relabel>| all.iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(core.uncounted()), [same, changed]);
    let pod = model::Pod {
        key: key(changed),
        uid: "".into(),
        mirrored: "".into(),
        node: "n1".into(),
        service_account: "default".into(),
        host_network: false,
        labels: [("app".to_owned(), "new".to_owned())].into(),
        named_ports: [].into(),
    };
    objects(&mut core, vec![ObjectEvent::Pod(pod)]);
    assert_eq!(ids(core.uncounted()), [same]);
    assert_eq!(core.count(same, web.clone(), WEB), (None, false));
    let mut stale = core.stale_labels();
    assert_eq!(ids(stale.clone()), [changed, former]);
    let new = stale.remove(0).labels;
    let identity = NumericIdentity(WEB.0 + 1);
    assert_eq!(core.count(changed, new.clone(), identity), (None, true));
    assert_eq!(core.count(former, web.clone(), WEB), (None, true));
    assert!(core.stale_labels().is_empty());
    // What came too late is given back, as is what a pod leaves.
    assert_eq!(core.count(changed, web.clone(), WEB), (Some(web), false));
    let again = core.count(changed, new.clone(), identity);
    assert_eq!(again, (Some(new), false));
}
