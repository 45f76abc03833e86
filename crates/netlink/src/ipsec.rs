// SPDX-License-Identifier: Apache-2.0
//! IPsec as the kernel does it (XFRM): whether it has a say in what leaves.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};

use crate::transport::{About, HEADER, Transport, Until};
use crate::{Error, Result};

/// `XFRM_MSG_GETPOLICY` of `linux/xfrm.h`.
const GET_POLICY: u16 = 0x15;
/// Where `struct xfrm_userpolicy_info` has its direction: after selector, both lifetimes, priority and index.
const DIRECTION: usize = HEADER + 56 + 64 + 32 + 4 + 4;
/// `XFRM_POLICY_OUT`.
const OUT: u8 = 1;

/// Whether the namespace of the calling thread has policies for packets that leave. Not so if the kernel has no
/// IPsec at all.
pub fn has_output_policies() -> Result<bool> {
    let transport = match Transport::open(libc::NETLINK_XFRM as isize, "IPsec") {
        Err(Error::Open { source, .. }) if source.raw_os_error() == Some(libc::EPROTONOSUPPORT) => {
            return Ok(false);
        }
        transport => transport?,
    };
    let about = About {
        operation: "list",
        object: &"IPsec policies",
    };
    let mut inner = transport.lock();
    let sequence = inner.next_sequence();
    let mut request = (HEADER as u32).to_ne_bytes().to_vec();
    request.extend(GET_POLICY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend(sequence.to_ne_bytes());
    request.extend([0; 4]);
    let answer = inner.exchange(about, &request, Until::Done(sequence))?;
    let direction = |message: &Vec<u8>| message.get(DIRECTION).copied();
    Ok(answer.messages.iter().any(|m| direction(m) == Some(OUT)))
}
