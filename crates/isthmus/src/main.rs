// SPDX-License-Identifier: Apache-2.0
//! The one program: the agent, the operator, the CNI plugin, or a command, told by its name or its first argument.

mod dispatch;
mod memory;

use std::backtrace::Backtrace;
use std::process::ExitCode;

use dispatch::Role;

fn main() -> ExitCode {
    log_panics();
    match dispatch::role(std::env::args_os()) {
        Role::Agent { args } => {
            memory::give_back_at_once();
            agent::main(args, memory::forget_the_start)
        }
        Role::Operator { args } => operator::main(args),
        Role::Cni => cni::main(),
        Role::Loopback => cni::loopback_main(),
        Role::Install { program, args } => install::main(&program, args),
        Role::Cli { program, args } => cli::main(&program, args),
    }
}

/// A panic goes to the log, where it is seen; without a log it still goes to standard error.
fn log_panics() {
    let standard = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if tracing::dispatcher::has_been_set() {
            let backtrace = Backtrace::capture();
            tracing::error!(%panic, %backtrace, "a part of the program panicked: this is a bug");
        } else {
            standard(panic);
        }
    }));
}
