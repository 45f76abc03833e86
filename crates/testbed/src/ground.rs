// SPDX-License-Identifier: Apache-2.0
//! What every lab stands on: its directory, its record, the wire, and that all of it goes away.

use std::env;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::error::{Doing, LabError, Result};
use crate::lab::Keep;
use crate::layout::{Layout, Record};
use crate::namespace::Place;
use crate::process::Daemon;
use crate::teardown;
use crate::underlay::Underlay;

/// A lab's directory and record; dropping it takes the lab down unless it is to stay.
pub(crate) struct Ground {
    layout: Layout,
    record: Record,
}

impl Ground {
    /// Makes the directory of a new lab with links to its programs (name, file). A lab of the same name
    /// that stayed is taken down first, and so is every lab whose owner died.
    ///
    /// # Errors
    /// Not root, another process is using a lab of this name, or something cannot be made (nothing is left then).
    pub(crate) fn create(name: &str, programs: &[(&str, &Path)], keep: Keep) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        teardown::sweep();
        let layout = Layout::named(name);
        if let Some(pid) = layout.record().ok().and_then(|record| record.user()) {
            return Err(LabError::InUse {
                lab: name.to_owned(),
                pid,
            });
        }
        teardown::down(&layout);
        let record = Record::new(keep == Keep::Yes);
        let ground = Self { layout, record };
        ground.prepare(programs).inspect_err(|_| {
            teardown::down(&ground.layout);
        })?;
        Ok(ground)
    }

    fn prepare(&self, programs: &[(&str, &Path)]) -> Result<()> {
        self.layout.create()?;
        self.layout.write_record(&self.record)?;
        let bin = self.layout.dir("bin")?;
        for (name, target) in programs {
            let link = bin.join(name);
            symlink(target, &link).doing("link", &link)?;
        }
        Ok(())
    }

    /// Makes the wire, and lets the host beyond it answer HTTP as pods do.
    pub(crate) fn underlay(&self) -> Result<Underlay> {
        let layout = &self.layout;
        let underlay = Underlay::create(layout)?;
        let mut command = underlay.world.command(layout.path().join("bin/lab"))?;
        command.args(["serve", "--name", "world", "--port", "80"]);
        Daemon::start(command, &layout.log("world"), &layout.process("world"))?;
        Ok(underlay)
    }

    /// The directory.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes down every place that exists now, and the first process of every machine, for `lab enter`.
    pub(crate) fn remember(
        &mut self,
        places: Vec<(String, Place)>,
        machines: Vec<(String, i32)>,
    ) -> Result<()> {
        self.record.places = places.into_iter().collect();
        self.record.machines = machines.into_iter().collect();
        self.layout.write_record(&self.record)
    }

    /// Takes the lab down now, whoever wanted to keep it.
    pub(crate) fn abandon(&self) {
        teardown::down(&self.layout);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !self.record.keep && !env::var("KEEP").is_ok_and(|keep| keep == "1") {
            for problem in teardown::down(&self.layout) {
                eprintln!("lab {}: {problem}", self.layout.name());
            }
        }
    }
}
