// SPDX-License-Identifier: Apache-2.0
//! Rows of a cluster on the node's disk. Mostly the checksum is made right, since a wrong one ends the reading.

use clustermesh::persist;
use model::ClusterName;

pub(crate) fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    let name = ClusterName::new("cluster7").expect("a valid name");
    match kind % 4 {
        0..=2 => {
            let mut file = b"isthmus-mesh-row".to_vec();
            file.extend(2u32.to_le_bytes());
            file.extend((body.len() as u64).to_le_bytes());
            file.extend(crc32fast::hash(body).to_le_bytes());
            file.extend(body);
            let _damaged = persist::parse(&name, &file);
        }
        _ => {
            let _damaged = persist::parse(&name, body);
        }
    }
}
