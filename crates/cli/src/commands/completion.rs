// SPDX-License-Identifier: Apache-2.0
//! `completion`: scripts for shells, made from the command line itself.

use clap_complete::{Shell, generate};

use crate::{Error, output};

/// The script for the program under the name by which it was called.
pub(super) fn run(program: &str, shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    generate(shell, &mut crate::command(), program, &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
