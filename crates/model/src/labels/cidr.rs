// SPDX-License-Identifier: Apache-2.0
//! Labels of source `cidr`: prefixes written so that they may be label keys (Cilium's `pkg/labels/cidr.go`).

use ipnet::IpNet;

use super::Label;

impl Label {
    /// The label `cidr:<prefix>`: `:` is written `-`, and a leading or trailing `-` gets a `0`.
    pub fn cidr(prefix: IpNet) -> Self {
        let prefix = prefix.trunc();
        let mut address = prefix.addr().to_string().replace(':', "-");
        if address.starts_with('-') {
            address.insert(0, '0');
        }
        if address.ends_with('-') {
            address.push('0');
        }
        Self::new("cidr", &format!("{address}/{}", prefix.prefix_len()), "")
    }

    /// The prefix of a label of source `cidr`.
    pub fn prefix(&self) -> Option<IpNet> {
        if self.source() == "cidr" {
            prefix_of_key(self.key())
        } else {
            None
        }
    }
}

/// The prefix that a key of source `cidr` stands for.
pub(crate) fn prefix_of_key(key: &str) -> Option<IpNet> {
    key.replace('-', ":").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_prefixes() {
        for (prefix, text) in [
            ("10.1.2.3/8", "cidr:10.0.0.0/8"),
            ("::1/128", "cidr:0--1/128"),
            ("fe80::/10", "cidr:fe80--0/10"),
            ("::/0", "cidr:0--0/0"),
        ] {
            let prefix: IpNet = prefix.parse().expect("valid");
            let label = Label::cidr(prefix);
            assert_eq!(label.to_string(), text);
            assert_eq!(label.prefix(), Some(prefix.trunc()));
        }
        assert_eq!(Label::new("k8s", "10.0.0.0/8", "").prefix(), None);
    }
}
