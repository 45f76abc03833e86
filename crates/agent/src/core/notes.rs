// SPDX-License-Identifier: Apache-2.0
//! What is wrong at the moment, by what it is about.

use std::time::SystemTime;

use datapath::Kernel;

use super::Core;

/// A thing that an operator should know, with the time when it began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) since: SystemTime,
    pub(crate) text: String,
}

impl<K: Kernel> Core<K> {
    /// Remembers what is wrong with `subject`, or that nothing is any more.
    pub(crate) fn note(&mut self, subject: &str, problem: Option<impl std::fmt::Display>) {
        let problem = problem.map(|problem| problem.to_string());
        self.runs.ended(subject, problem.as_deref());
        match problem {
            None => {
                self.notes.remove(subject);
            }
            Some(problem) => {
                let text = format!("{subject}: {problem}");
                if self.notes.get(subject).is_none_or(|note| note.text != text) {
                    tracing::error!("{text}");
                    self.notes.insert(
                        subject.to_owned(),
                        Note {
                            since: SystemTime::now(),
                            text,
                        },
                    );
                }
            }
        }
    }
}
