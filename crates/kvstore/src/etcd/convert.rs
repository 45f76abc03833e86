// SPDX-License-Identifier: Apache-2.0
//! Between the client crate's types and ours.

use bytes::Bytes;
use etcd_client::{PutOptions, TxnOp};

use crate::store::{KeyValue, LeaseId, Op};

pub(super) fn convert(kv: &mut etcd_client::proto::PbKeyValue) -> Option<KeyValue> {
    let key = String::from_utf8(std::mem::take(&mut kv.key))
        .inspect_err(|_| tracing::warn!("a key that is not UTF-8 is ignored"))
        .ok()?;
    Some(KeyValue {
        key,
        value: Bytes::from(std::mem::take(&mut kv.value)),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
    })
}

/// The smallest key after all keys with this prefix; `[0]`, the end of all keys, if there is none.
pub(super) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

pub(super) fn convert_op(op: Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            TxnOp::put(key, value, options)
        }
        Op::Delete { key } => TxnOp::delete(key, None),
    }
}
