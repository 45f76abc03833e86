// SPDX-License-Identifier: Apache-2.0
//! Labels: the first line is the user's filter, the rest a canonical string or a single label.

use model::{Label, LabelFilter, Labels};

pub(crate) fn run(data: &[u8]) {
    let (rules, text) = crate::first_line(data);
    let rules = String::from_utf8_lossy(rules);
    let filter = LabelFilter::new(&rules).unwrap_or_default();
    if let Ok(text) = std::str::from_utf8(text)
        && let Ok(label) = Label::parse(text)
    {
        filter.accepts(&label);
        label.prefix();
    }
    let Ok(labels) = Labels::parse(text) else {
        return;
    };
    assert!(labels.len() <= Labels::MAX_COUNT);
    for label in labels.iter() {
        filter.accepts(label);
        label.prefix();
    }
    // Identities are shared by this text: reading it again must give the same set, and the same text.
    let canonical = labels.canonical();
    let again = Labels::parse(canonical.as_bytes()).expect("a canonical string is readable");
    assert_eq!(again, labels);
    assert_eq!(again.canonical(), canonical);
}
