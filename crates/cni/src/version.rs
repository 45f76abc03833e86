// SPDX-License-Identifier: Apache-2.0
//! Versions of the CNI specification: which are spoken, and what each of them can.

use serde::Deserialize;
use serde_json::json;

use crate::Error;

/// The newest version spoken.
pub(crate) const NEWEST: &str = "1.1.0";

/// A version of the specification, oldest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

const ALL: [Version; 7] = [
    Version::V0_1_0,
    Version::V0_2_0,
    Version::V0_3_0,
    Version::V0_3_1,
    Version::V0_4_0,
    Version::V1_0_0,
    Version::V1_1_0,
];

impl Version {
    /// An absent version is 0.1.0, as the specification says; runtimes in Go write an absent one as an empty one.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Error> {
        let text = text.filter(|text| !text.is_empty()).unwrap_or("0.1.0");
        ALL.into_iter()
            .find(|v| v.as_str() == text)
            .ok_or_else(|| Error::Version {
                got: text.chars().take(32).collect(),
            })
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => NEWEST,
        }
    }
}

/// The version in which VERSION is answered: a runtime that speaks a newer one asks with that, to find a common one.
pub(crate) fn for_answer(text: Option<&str>) -> Version {
    Version::parse(text).unwrap_or(Version::V1_1_0)
}

/// The list for messages.
pub(crate) fn supported() -> String {
    ALL.map(Version::as_str).join(", ")
}

/// The answer to VERSION.
pub(crate) fn answer(asked: Version) -> String {
    json!({ "cniVersion": asked.as_str(), "supportedVersions": ALL.map(Version::as_str) })
        .to_string()
}

/// The version that a network configuration asks for, if it says one.
pub(crate) fn asked(stdin: &[u8]) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", expecting = "a JSON object")]
    struct Only {
        cni_version: Option<String>,
    }
    serde_json::from_slice::<Only>(stdin)
        .map(|only| only.cni_version)
        .map_err(|error| Error::Json {
            problem: error.to_string(),
        })
}

/// The version in which to refuse something that does not parse: the one asked for, if it can be read.
pub(crate) fn of_stdin(stdin: &[u8]) -> String {
    let asked = asked(stdin).ok().flatten();
    match asked.and_then(|text| Version::parse(Some(&text)).ok()) {
        Some(version) => version.as_str().to_owned(),
        None => NEWEST.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_round_trip() {
        assert!(ALL.is_sorted());
        for version in ALL {
            assert_eq!(
                Version::parse(Some(version.as_str())).expect("own"),
                version
            );
        }
        assert_eq!(Version::parse(None).expect("absent"), Version::V0_1_0);
        assert_eq!(Version::parse(Some("")).expect("empty"), Version::V0_1_0);
        assert!(Version::parse(Some("9.9.9")).is_err());
    }

    #[test]
    fn answer_names_all() {
        assert_eq!(
            answer(Version::V1_0_0),
            r#"{"cniVersion":"1.0.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#
        );
    }
}
