// SPDX-License-Identifier: Apache-2.0
//! `bench`: the measures that Isthmus promises, against kernel baselines of the same run.

mod agent;
mod bed;
mod cni;
mod error;
mod judge;
mod kernel;
mod loss;
mod pin;
mod programs;
mod report;
mod rows;
mod small;
mod spread;
mod statistics;
mod status;
mod streams;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::bed::Bed;
use crate::error::{Doing, Error, Result};
use crate::judge::Verdict;
use crate::report::Outcome;
use crate::rows::{ROWS, Row, Scale, Work};

/// Measure Isthmus against kernel baselines of the same run
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// Rows to run; all if none is named
    rows: Vec<String>,
    /// Few rounds and short waits: shows that the harness works, decides nothing
    #[arg(long)]
    quick: bool,
    /// Seconds that a remote's etcd stays dead in the row `dead-etcd`
    #[arg(long)]
    dead: Option<u64>,
    /// Where the figures are kept
    #[arg(long, default_value = "target/bench/latest.json")]
    json: PathBuf,
    /// List the rows
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        ROWS.iter()
            .for_each(|row| println!("{:<12} {}", row.name, row.about));
        return Ok(ExitCode::SUCCESS);
    }
    let rows = chosen(&arguments.rows)?;
    let mut scale = if arguments.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    if let Some(seconds) = arguments.dead {
        scale.dead = Duration::from_secs(seconds);
    }
    let needs_bed = rows.iter().any(|row| !matches!(row.work, Work::Kernel(_)));
    let mut bed = needs_bed.then(make_bed).transpose()?;
    let mut outcomes = Vec::new();
    for row in rows {
        let outcome = measure(row, bed.as_mut(), scale);
        report::print(&outcome);
        outcomes.push(outcome);
    }
    report::write(&arguments.json, &outcomes)?;
    println!("written to {}", arguments.json.display());
    let all_met = outcomes.iter().all(|outcome| {
        let met = |figure: &judge::Figure| figure.verdict == Verdict::Met;
        outcome
            .figures
            .as_ref()
            .is_ok_and(|figures| figures.iter().all(met))
    });
    Ok(if all_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Row>> {
    if names.is_empty() {
        return Ok(ROWS.iter().collect());
    }
    let find = |name: &String| {
        ROWS.iter()
            .find(|row| row.name == name)
            .ok_or_else(|| Error::UnknownRow {
                name: name.clone(),
                known: ROWS
                    .iter()
                    .map(|row| row.name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    };
    names.iter().map(find).collect()
}

/// The lab's own binary stands beside this one.
fn make_bed() -> Result<Bed> {
    let own = std::env::current_exe().doing("find this program")?;
    let bed = Bed::create(own.with_file_name("lab"))?;
    streams::serve(&bed)?;
    Ok(bed)
}

fn measure(row: &Row, bed: Option<&mut Bed>, scale: Scale) -> Outcome {
    let started = Instant::now();
    let figures = match (row.work, bed) {
        (Work::Kernel(work), _) => work(scale),
        (Work::Bed(work), Some(bed)) => work(bed, scale),
        (Work::Bed(_), None) => unreachable!("a bed is made if any row needs one"),
    };
    Outcome {
        row: row.name,
        figures: figures.map_err(|error| error.to_string()),
        seconds: started.elapsed().as_secs_f64(),
    }
}
