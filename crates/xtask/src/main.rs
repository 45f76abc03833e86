// SPDX-License-Identifier: Apache-2.0
//! xtask

fn main() {}
