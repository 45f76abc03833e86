// SPDX-License-Identifier: Apache-2.0
//! The kvstore that clusters share: etcd with its leases, locks, lists and watches, an in-memory twin for
//! simulation, and `schema`, every key and value that the mesh reads or writes. Knows nothing about what remote
//! clusters mean.
#![forbid(unsafe_code)]

mod allocator;
pub mod config;
mod error;
mod etcd;
mod gone_node;
mod leader;
mod lock;
mod memory;
mod publisher;
mod rate;
mod reflect;
pub mod schema;
mod store;

pub use allocator::{Allocator, AllocatorOptions, AllocatorStatus, Collected, Collector, IsNew};
pub use config::{Config, ConfigError};
pub use error::Error;
pub use etcd::{
    Certificate, Certificates, ClientOptions, Diagnosis, EndpointDiagnosis, Etcd, ServerDiagnosis,
    TlsDiagnosis, diagnose,
};
pub use gone_node::forget_node;
pub use leader::Leader;
pub use lock::{ACQUIRE_TIMEOUT, Guard, TTL as LOCK_TTL};
pub use memory::{Memory, Snapshot};
pub use publisher::{Leftover, Publisher, PublisherOptions, PublisherStatus};
pub use reflect::{Update, reflect};
pub use store::{
    Compare, KeyValue, LeaseId, Listing, Op, PAGE, Page, PageToken, Result, Status, Store,
    TxnResult, WatchEvent, WatchStream,
};

/// Checks the value of the option `kvstore`.
pub fn check_kind(kind: &str) -> Result<()> {
    match kind {
        "etcd" => Ok(()),
        other => Err(Error::Kind {
            kind: error::cut(other, 64),
        }),
    }
}
