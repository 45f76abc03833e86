// SPDX-License-Identifier: Apache-2.0
//! The programs in the real kernel: every verdict under test-run, hostile packets over a real VXLAN device, and
//! what the verifier says about size. Needs root.

#[path = "../../fastpath/tests/common/frames.rs"]
mod frames;
#[path = "programs/hostile.rs"]
mod hostile;
#[path = "programs/limits.rs"]
mod limits;
#[path = "programs/node.rs"]
mod node;
#[path = "programs/services.rs"]
mod services;
#[path = "programs/special.rs"]
mod special;
#[path = "programs/underlay.rs"]
mod underlay;
#[path = "programs/verdicts.rs"]
mod verdicts;
#[path = "programs/verifier.rs"]
mod verifier;
