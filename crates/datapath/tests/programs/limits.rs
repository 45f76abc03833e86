// SPDX-License-Identifier: Apache-2.0
//! Sizes and times: what the verifier walks, what the stack holds, what an established packet costs.

use crate::frames::Ip;
use crate::node::{
    ACK, Node, OUTSIDE, PASS, POD_A, POD_B, POD_REMOTE, PROGRAMS, REDIRECT, SYN, in_namespace,
    load, program_mut,
};
use crate::verifier;

/// Instructions that the verifier may walk for one program; the kernel's limit is a million.
const MOST_INSTRUCTIONS: u32 = 100_000;
/// Stack bytes of an entry point. The kernel allows 512 for a chain of calls, so this leaves room for those.
const MOST_STACK: u32 = 320;

#[test]
fn programs_stay_small() {
    let mut bpf = load();
    for name in PROGRAMS {
        let info = program_mut(&mut bpf, name).info().expect("loaded");
        let verified = info
            .verified_instruction_count()
            .expect("this kernel tells");
        let translated = info.size_translated().expect("root may see it") / 8;
        let stacks = verifier::stacks(&bpf, name);
        println!(
            "{name}: {verified} instructions verified, {translated} translated; stack {} bytes, calls {:?}",
            stacks[0],
            &stacks[1..]
        );
        assert!(stacks[0] <= MOST_STACK, "{name}: {stacks:?}");
        assert!(verified <= MOST_INSTRUCTIONS, "{name}: {verified}");
    }
}

/// Prints what established packets cost. No bound but a wide one: machines differ, and `make bench` compares.
#[test]
fn established_packets_are_cheap() {
    in_namespace(|| {
        let mut node = Node::new();
        let a = node.pods[0].ifindex;
        for (what, dst, action) in [
            ("tunnel", POD_REMOTE, REDIRECT),
            ("stack", OUTSIDE, PASS),
            ("local pod", POD_B, REDIRECT),
        ] {
            let ip = Ip::v4(POD_A, dst);
            let _ = node.send(0, &ip.tcp(4000, 80, SYN));
            // A delivery lowers the TTL of the same buffer each round; 250 rounds leave it above zero.
            let repeat = if dst == POD_B { 200 } else { 200_000 };
            let frame = ip.ttl(255).tcp(4000, 80, ACK);
            let run = node.repeat(abi::PROG_FROM_POD, (a, a), &frame, repeat);
            println!("from_pod, established, to {what}: {} ns", run.nanoseconds);
            assert_eq!(run.action, action);
            assert!(run.nanoseconds < 5_000, "{what}: {} ns", run.nanoseconds);
        }
    });
}
