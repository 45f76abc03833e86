// SPDX-License-Identifier: Apache-2.0
//! What is read from etcd, by every decoder of the schema, and the file that says how to reach it.

use kvstore::Config;
use kvstore::schema::{self, keys};
use model::Labels;

/// The first line is the key, the rest the value.
pub(crate) fn values(data: &[u8]) {
    let (key, value) = crate::first_line(data);
    let Ok(key) = std::str::from_utf8(key) else {
        return;
    };
    // What was accepted is written again in our way, and that must mean the same.
    if let Ok(node) = schema::decode_node(key, value) {
        let again = schema::decode_node(key, &schema::encode_node(&node));
        assert_eq!(again.expect("our own node"), node);
    }
    if let Ok(entry) = schema::decode_ip(key, value) {
        let again = schema::decode_ip(key, &schema::encode_ip(&entry));
        assert_eq!(again.expect("our own address"), entry);
        let own = schema::ip_key(&entry.prefix);
        let prefix = schema::ip_of_key(keys::IPS, &own).expect("our own key");
        assert_eq!(prefix, entry.prefix);
    }
    if let Ok(labels) = schema::decode_identity(key, value) {
        let again = schema::decode_identity(key, &schema::encode_identity(&labels));
        assert_eq!(again.expect("our own labels"), labels);
        slave_key(&labels);
    }
    if let Ok(config) = schema::decode_cluster_config(key, value) {
        let again = schema::decode_cluster_config(key, &schema::encode_cluster_config(&config));
        assert_eq!(again.expect("our own configuration"), config);
    }
    if let Ok(at) = schema::decode_time(key, value) {
        schema::decode_time(key, &schema::encode_time(at)).expect("our own time");
    }
    let _not_a_number = schema::decode_identity_number(key, value);
    let _not_an_address = schema::ip_of_key(keys::IPS, key);
    if let Some(id) = keys::identity_of(key) {
        assert!(key.ends_with(&id.to_string()), "{key} is not {id}");
    }
}

fn slave_key(labels: &Labels) {
    let uses = keys::identity_uses(labels);
    assert!(keys::is_use_of(
        &uses,
        &keys::identity_use(labels, "192.0.2.1")
    ));
}

/// A client configuration file.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(config) = Config::parse(text) {
        assert!(
            !config.endpoints.is_empty(),
            "a configuration without endpoints"
        );
    }
}
