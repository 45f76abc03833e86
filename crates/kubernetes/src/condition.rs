// SPDX-License-Identifier: Apache-2.0
//! The condition `Valid` of a policy's object: whether it is in force as it is written.

use serde_json::{Value, json};

/// Its type.
const VALID: &str = "Valid";
/// What it says of a policy in force, in Cilium's words.
const SUCCEEDED: &str = "Policy validation succeeded";
/// Longest text in bytes.
const MAX_TEXT: usize = 1024;

/// What became of a policy's newest version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is in force.
    InForce,
    /// It is in force otherwise than it is written: how.
    Otherwise(String),
    /// It is not in force: why.
    Refused(String),
}

impl Verdict {
    /// What its author must know.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Verdict::InForce => None,
            Verdict::Otherwise(text) | Verdict::Refused(text) => Some(text),
        }
    }
}

/// The condition as an object shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    status: String,
    message: String,
    /// Since when it has this status, as RFC 3339.
    since: String,
}

impl Condition {
    /// What `object` shows.
    pub(crate) fn shown_by(object: &Value) -> Option<Self> {
        let all = object.pointer("/status/conditions")?.as_array()?;
        let own = all.iter().find(|condition| condition["type"] == VALID)?;
        let text = |key: &str| {
            own[key]
                .as_str()
                .unwrap_or_default()
                .chars()
                .take(MAX_TEXT)
                .collect()
        };
        Some(Self {
            status: text("status"),
            message: text("message"),
            since: text("lastTransitionTime"),
        })
    }

    /// What an object shall show that shows `shown`; `now` as RFC 3339.
    pub fn of(verdict: &Verdict, shown: Option<&Condition>, now: String) -> Self {
        let (status, message) = match verdict.problem() {
            None => ("True", SUCCEEDED.to_owned()),
            Some(problem) => ("False", problem.chars().take(MAX_TEXT).collect()),
        };
        let same = shown.filter(|shown| shown.status == status && !shown.since.is_empty());
        Self {
            status: status.to_owned(),
            message,
            since: same.map_or(now, |shown| shown.since.clone()),
        }
    }

    /// Whether it says the same, whenever that began.
    pub fn agrees(&self, other: &Condition) -> bool {
        (&self.status, &self.message) == (&other.status, &other.message)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"type": VALID, "status": self.status, "message": self.message, "lastTransitionTime": self.since})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_last_change_of_the_status() {
        let refused = Verdict::Refused("spec.nonsense: unknown".into());
        let refused = Condition::of(&refused, None, "t1".into());
        let object = json!({"status": {"conditions": [{"type": "Other"}, refused.to_json()]}});
        assert_eq!(Condition::shown_by(&object), Some(refused.clone()));
        let otherwise = Condition::of(
            &Verdict::Otherwise("other".into()),
            Some(&refused),
            "t2".into(),
        );
        assert_eq!(otherwise.since, "t1");
        assert!(!otherwise.agrees(&refused));
        let valid = Condition::of(&Verdict::InForce, Some(&refused), "t2".into());
        assert_eq!(
            (valid.status.as_str(), valid.since.as_str()),
            ("True", "t2")
        );
        assert!(valid.agrees(&Condition::of(&Verdict::InForce, None, "t3".into())));
        assert_eq!(
            Condition::shown_by(&json!({"status": {"conditions": 5}})),
            None
        );
    }
}
