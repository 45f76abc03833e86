// SPDX-License-Identifier: Apache-2.0
//! CiliumCIDRGroup, and the elements of `fromCIDRSet` and `toCIDRSet`, which name prefixes or such groups.

use std::collections::BTreeSet;

use model::{Label, Operator, Requirement, Selector, keys};
use policy::{CidrGroup, CidrRule, GroupRule};

use crate::field::Field;
use crate::policy_object::{net, read_selector};
use crate::{FieldError, object, pods};

/// Source of the labels of groups.
const SOURCE: &str = "cidrgroup";
/// Most prefixes of a group.
const MAX_PREFIXES: usize = 32_767;

/// A group as its object tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CidrGroupObject {
    /// What it means.
    pub group: CidrGroup,
    /// Which members are left out, and why.
    pub ignored: Option<String>,
}

/// Reads a group. A member that is no prefix is left out, and the others count.
pub(crate) fn read(root: &Field<'_>) -> Result<CidrGroupObject, FieldError> {
    root.only(&["apiVersion", "kind", "metadata", "spec"])?;
    let metadata = object::metadata(root)?;
    let name = object::name(&metadata)?;
    let spec = root
        .get("spec")
        .ok_or_else(|| root.error("spec is missing"))?;
    spec.only(&["externalCIDRs"])?;
    let field = spec
        .get("externalCIDRs")
        .ok_or_else(|| spec.error("externalCIDRs is missing"))?;
    let members = field.list()?;
    if members.len() > MAX_PREFIXES {
        let count = members.len();
        return Err(field.error(format!(
            "{count} prefixes, at most {MAX_PREFIXES} are allowed: make several groups"
        )));
    }
    let mut prefixes = BTreeSet::new();
    let mut bad = Vec::new();
    for member in members {
        match net(&member) {
            Ok(prefix) => drop(prefixes.insert(prefix)),
            Err(error) => bad.push(error),
        }
    }
    let ignored = bad.first().map(|first| match bad.len() {
        1 => format!("{first}: it is ignored"),
        count => format!("{first}: it is ignored, and so are {} more", count - 1),
    });
    let own = Label::new(SOURCE, &name_key(&name), "");
    let labels = pods::labels(&metadata)?;
    let labels = labels.iter().map(|(k, v)| Label::new(SOURCE, k, v));
    let group = CidrGroup {
        labels: labels.chain([own]).collect(),
        name,
        prefixes,
    };
    Ok(CidrGroupObject { group, ignored })
}

/// The label that a group has for its name.
fn name_key(name: &str) -> String {
    format!("{}/{name}", keys::CIDR_GROUP_NAME)
}

/// What the elements of `fromCIDRSet` or `toCIDRSet` name: prefixes, and groups.
pub(crate) fn cidr_set(list: &[Field<'_>]) -> Result<(Vec<CidrRule>, Vec<GroupRule>), FieldError> {
    let (mut cidrs, mut groups) = (Vec::new(), Vec::new());
    for item in list {
        item.only(&["cidr", "cidrGroupRef", "cidrGroupSelector", "except"])?;
        let except = item
            .list_of("except", |except| net(&except))?
            .unwrap_or_default();
        let kinds = ["cidr", "cidrGroupRef", "cidrGroupSelector"].map(|kind| item.get(kind));
        match kinds {
            [Some(cidr), None, None] => {
                let cidr = net(&cidr)?;
                // Said here, where the element still has its place among groups.
                if let Some(at) = except.iter().position(|except| !cidr.contains(except)) {
                    let out = except[at];
                    return Err(item.error(format!(
                        "except[{at}]: {out} is not inside {cidr}: only narrower prefixes can be taken out"
                    )));
                }
                cidrs.push(CidrRule { cidr, except });
            }
            [None, Some(name), None] => {
                let key = format!("{SOURCE}:{}", name_key(&object::checked(&name)?));
                let selector = Selector::new([Requirement::new(&key, Operator::Exists)]);
                groups.push(GroupRule { selector, except });
            }
            [None, None, Some(field)] => {
                let key = |key: &str| match key.strip_prefix("cidrgroup:") {
                    Some(_) => key.to_owned(),
                    None => format!("{SOURCE}:{key}"),
                };
                let selector = read_selector(&field, &key)?;
                groups.push(GroupRule { selector, except });
            }
            [None, None, None] => {
                return Err(item.error(
                    "none of cidr, cidrGroupRef, cidrGroupSelector is given: write one of them",
                ));
            }
            _ => {
                return Err(item.error(
                    "cidr, cidrGroupRef and cidrGroupSelector cannot stand in one element: make several",
                ));
            }
        }
    }
    Ok((cidrs, groups))
}
