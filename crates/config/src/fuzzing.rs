// SPDX-License-Identifier: Apache-2.0
//! Where fuzzing enters: what is read from files that others write, as far as nothing is started.

use std::path::Path;

use crate::options::{OptionErrors, Values};
use crate::{Config, Process};

/// Reads a directory of options and checks them together, as at start.
///
/// # Errors
/// What the operator would read.
pub fn options(directory: &Path) -> Result<(), String> {
    let argument = format!("--config-dir={}", directory.display());
    match Values::read(Process::Agent, [argument.into()], []) {
        Ok(values) => match Config::new(&values, "node1") {
            Ok(_) => Ok(()),
            Err(errors) => Err(errors.to_string()),
        },
        Err(OptionErrors::Help(text)) => Err(text),
    }
}
