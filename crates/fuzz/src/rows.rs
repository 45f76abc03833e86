// SPDX-License-Identifier: Apache-2.0
//! Rows on the node's disk: of a remote cluster if the first byte is even, of the own cluster if it is odd. The
//! checksum is made right, since a wrong one ends the reading.

use clustermesh::persist;
use model::ClusterName;

pub(crate) fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    let name = ClusterName::new("cluster7").expect("a valid name");
    match kind % 4 {
        0 | 2 => {
            let mut file = b"isthmus-mesh-row".to_vec();
            file.extend(1u32.to_le_bytes());
            file.extend((body.len() as u64).to_le_bytes());
            file.extend(crc32fast::hash(body).to_le_bytes());
            file.extend(body);
            let _damaged = persist::parse(&name, &file);
        }
        1 => {
            let _damaged = agent::fuzzing::own_rows(body);
        }
        _ => {
            let _damaged = persist::parse(&name, body);
        }
    }
}
