// SPDX-License-Identifier: Apache-2.0
//! Whether the operator is told to be something else. Nobody restarts it by hand when a cluster gets another name or id, as
//! its agents are: it ends, and its supervisor starts it with what is said now.

use std::ffi::OsString;
use std::time::Duration;

use config::options::Values;
use config::{Config, Process};
use tokio::time::sleep;

/// The kubelet itself takes up to a minute to show a change of the ConfigMap.
const LOOK: Duration = Duration::from_secs(10);

/// Waits until options say something else than `values`, and can be followed. Others are told, and those before stay.
pub(crate) async fn until_changed(args: Vec<OsString>, values: Values) {
    let mut last = values.clone();
    loop {
        sleep(LOOK).await;
        let Ok(now) = Values::read(Process::Operator, args.clone(), std::env::vars_os()) else {
            continue;
        };
        if now == last {
            continue;
        }
        match Config::new(&now, "operator") {
            Ok(_) if now.iter().eq(values.iter()) => {}
            Ok(_) => {
                tracing::info!("the configuration changed: the operator begins anew");
                return;
            }
            Err(errors) => {
                tracing::error!(%errors, "the configuration changed and cannot be followed: what it was stays in force");
            }
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_can_be_followed_is_a_change() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("written");
        };
        write("cluster-name", "cluster5");
        write("cluster-id", "5");
        let args = vec![OsString::from(format!(
            "--config-dir={}",
            dir.path().display()
        ))];
        let values = Values::read(Process::Operator, args.clone(), []).expect("no help");
        let mut waits = std::pin::pin!(until_changed(args, values));
        let minute = Duration::from_secs(60);
        assert!(
            timeout(minute, &mut waits).await.is_err(),
            "nothing changed"
        );
        write("cluster-id", "five");
        assert!(timeout(minute, &mut waits).await.is_err(), "it cannot be");
        write("cluster-id", "5");
        assert!(timeout(minute, &mut waits).await.is_err(), "as it was");
        write("cluster-id", "6");
        timeout(minute, &mut waits).await.expect("another id");
    }
}
