// SPDX-License-Identifier: Apache-2.0
//! Rows of the CNI plugin: how long an ADD takes, process start included.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use testbed::Place;

use crate::bed::Bed;
use crate::error::{Doing, Error, Result};
use crate::judge::{Bound, Figure};
use crate::statistics::{percentile, sorted};

/// Both rows, `count` pods each.
pub(crate) fn run(bed: &Bed, count: usize) -> Result<Vec<Figure>> {
    let mut figures = kind(bed, "known", count, |_| "frontend".to_owned(), (20.0, 80.0))?;
    let fresh = |n| format!("fresh-{n}");
    figures.extend(kind(bed, "new", count, fresh, (60.0, 150.0))?);
    Ok(figures)
}

fn kind(
    bed: &Bed,
    kind: &str,
    count: usize,
    app: impl Fn(usize) -> String,
    (p50, p99): (f64, f64),
) -> Result<Vec<Figure>> {
    let cluster = bed.lab.cluster("cluster5");
    let mut text = String::new();
    for n in 0..count {
        let _infallible = writeln!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {kind}-{n}\n  namespace: default\n  \
             labels:\n    app: {}\nspec:\n  nodeName: node1\n  containers:\n  - name: main\n    image: lab",
            app(n)
        );
    }
    let file = format!("bench-{kind}.yaml");
    cluster.apply_text(&file, &text)?;
    // The agent follows the directory.
    sleep(Duration::from_secs(2));
    let mut times = Vec::new();
    for n in 0..count {
        let name = format!("{kind}-{n}");
        let pod = Place::create(&bed.lab.layout().netns(&format!("cni-{name}")))?;
        times.push(call(bed, "ADD", &name, &pod)?.as_secs_f64() * 1e3);
        call(bed, "DEL", &name, &pod)?;
        pod.remove()?;
    }
    cluster.withdraw(&file)?;
    let times = sorted(&times);
    let figure = |name: &str, share, bound| {
        let what = format!("CNI ADD, {kind} identity, {name}");
        let value = percentile(&times, share);
        Figure::plain(&what, "ms", Bound::AtMost(bound), value, count)
    };
    Ok(vec![figure("p50", 0.5, p50), figure("p99", 0.99, p99)])
}

/// Calls the plugin as a runtime does.
fn call(bed: &Bed, verb: &str, name: &str, pod: &Place) -> Result<Duration> {
    let node = &bed.lab.cluster("cluster5").nodes[0];
    let mut command = node.place.command(node.program("isthmus-cni"))?;
    command
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", format!("bench{name}"))
        .env("CNI_NETNS", &pod.netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/opt/cni/bin")
        .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID=bench{name}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().doing("start the CNI plugin")?;
    let mut input = child.stdin.take().expect("piped above");
    let config = br#"{"cniVersion":"1.1.0","name":"isthmus","type":"isthmus-cni"}"#;
    input.write_all(config).doing("write to the CNI plugin")?;
    drop(input);
    let done = child.wait_with_output().doing("wait for the CNI plugin")?;
    let time = started.elapsed();
    if done.status.success() {
        return Ok(time);
    }
    Err(Error::Tool {
        tool: "isthmus-cni",
        answer: format!(
            "{verb} of {name}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        ),
    })
}
