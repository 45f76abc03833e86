// SPDX-License-Identifier: Apache-2.0
//! From a key written in the remote etcd to the row in the local kernel map.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use abi::Addr;
use aya::maps::{HashMap, Map, MapData};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use zerocopy::transmute;

use crate::bed::Bed;
use crate::error::{Doing, Error, Result};
use crate::judge::{Bound, Figure};
use crate::statistics::{percentile, sorted};

/// How long a row may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of the addresses that are written.
const IDENTITY: u32 = 5 << 16 | 5000;
/// Between two looks at the map.
const PAUSE: Duration = Duration::from_micros(20);

type Ipcache = HashMap<MapData, [u8; 16], [u8; 24]>;

/// p50 and p99 of `count` keys, one at a time.
pub(crate) fn run(bed: &Bed, count: u8) -> Result<Vec<Figure>> {
    let node = &bed.lab.cluster("cluster7").nodes[0];
    let pin = find(&node.dir().join("bpf"), abi::MAP_IPCACHE).ok_or_else(|| Error::Tool {
        tool: "the node's BPF filesystem",
        answer: format!("no {}", abi::MAP_IPCACHE),
    })?;
    let unusable = |error: aya::maps::MapError| Error::Kernel {
        doing: format!("open {}", pin.display()),
        reason: error.to_string(),
    };
    let map = MapData::from_pin(&pin).map_err(unusable)?;
    let map = Ipcache::try_from(Map::HashMap(map)).map_err(unusable)?;
    let place = bed.lab.cluster("cluster5").etcd.place().clone();
    let times = place.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .doing("start a runtime")?;
        runtime.block_on(write_and_watch(bed, &map, count))
    })??;
    let times = sorted(&times);
    let length = times.len();
    let p99 = percentile(&times, 0.99);
    let figure = |what, share, bound| {
        let value = percentile(&times, share);
        Figure::plain(what, "ms", Bound::AtMost(bound), value, length)
    };
    Ok(vec![
        figure("key in the remote etcd → local kernel map, p50", 0.5, 2.0),
        figure("key in the remote etcd → local kernel map, p99", 0.99, 15.0)
            .noted(format!("longest {:.2}; p99 {p99:.2}", times[length - 1])),
    ])
}

/// A file below a directory.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        if entry.file_name() == name {
            return Some(path);
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(found) = find(&path, name)
        {
            return Some(found);
        }
    }
    None
}

/// A client with a certificate of its own.
async fn client(bed: &Bed) -> Result<Client> {
    let etcd = &bed.lab.cluster("cluster5").etcd;
    let dir = bed.lab.layout().dir("bench-etcd-client")?;
    let text = etcd.client_configuration(&dir, "bench")?;
    let read = |field: &str| {
        let prefix = format!("{field}: ");
        let path = text.lines().find_map(|line| line.strip_prefix(&prefix));
        std::fs::read(path.unwrap_or_default())
            .doing(format!("read {field} of the bench's etcd client"))
    };
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read("trusted-ca-file")?))
        .identity(Identity::from_pem(read("cert-file")?, read("key-file")?));
    let options = ConnectOptions::new().with_tls(tls);
    Ok(Client::connect([etcd.endpoint()], Some(options)).await?)
}

async fn write_and_watch(bed: &Bed, map: &Ipcache, count: u8) -> Result<Vec<f64>> {
    let mut client = client(bed).await?;
    // An address waits for its identity; this one is known before the first address.
    let labels = "k8s:app=bench;k8s:io.cilium.k8s.policy.cluster=cluster5;k8s:io.kubernetes.pod.namespace=default;";
    let key = format!("cilium/state/identities/v1/id/{IDENTITY}");
    client.put(key, labels, None).await?;
    sleep(Duration::from_millis(500));
    let mut times = Vec::new();
    for n in 0..count {
        let address = Ipv4Addr::new(10, 5, 1, 30 + n);
        let key = format!("cilium/state/ip/v1/default/{address}");
        let value = format!(
            r#"{{"IP":"{address}","Mask":null,"HostIP":"172.31.5.1","ID":{},"Key":0,"Metadata":"","K8sNamespace":"default","K8sPodName":"bench-{n}"}}"#,
            IDENTITY
        );
        let started = Instant::now();
        client.put(key.as_str(), value, None).await?;
        let wanted: [u8; 16] = transmute!(Addr::v4(address.octets()));
        while map.get(&wanted, 0).is_err() {
            if started.elapsed() > PATIENCE {
                return Err(Error::Tool {
                    tool: "the local kernel map",
                    answer: format!("no {address} after {PATIENCE:?}"),
                });
            }
            sleep(PAUSE);
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
        client.delete(key.as_str(), None).await?;
        sleep(Duration::from_millis(10));
    }
    Ok(times)
}
