// SPDX-License-Identifier: Apache-2.0
//! Client configuration files for API servers, with certificates inside so that they can be copied and
//! merged. As JSON, which every reader of YAML takes.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::error::{Doing, Result};
use crate::pki::Files;

/// The configuration of `user` for the API server of `cluster` at `url`.
///
/// # Errors
/// A certificate cannot be read.
pub(super) fn kubeconfig(cluster: &str, url: &str, user: &str, files: &Files) -> Result<Value> {
    let embed = |path: &Path| -> Result<String> {
        Ok(STANDARD.encode(fs::read(path).doing("read", path)?))
    };
    let (ca, cert, key) = (embed(&files.ca)?, embed(&files.cert)?, embed(&files.key)?);
    // Names are the cluster's own, because a merge of two files keeps one of each name.
    let user = format!("{user}-{cluster}");
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": url, "certificate-authority-data": ca}}],
        "users": [{"name": user, "user": {"client-certificate-data": cert, "client-key-data": key}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }))
}
