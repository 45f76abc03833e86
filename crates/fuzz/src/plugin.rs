// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin's input: the first line is the environment, separated by `|`, the rest standard input.

use cni::Invocation;

pub(crate) fn run(data: &[u8]) {
    let (environment, stdin) = crate::first_line(data);
    let environment = String::from_utf8_lossy(environment);
    let mut variables = environment.split('|').map(|value| {
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    });
    let mut next = || variables.next().flatten();
    let invocation = Invocation {
        command: next(),
        container: next(),
        netns: next(),
        interface: next(),
        args: next(),
        socket: next(),
        stdin: stdin.to_vec(),
    };
    if let Err(error) = cni::check(&invocation) {
        assert!(!error.to_string().is_empty(), "refused without a word");
        // Such an invocation is answered before anything is done.
        let output = cni::run(&invocation);
        assert!(
            !output.success && output.text.contains("\"code\""),
            "{}",
            output.text
        );
    }
}
