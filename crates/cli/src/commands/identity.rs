// SPDX-License-Identifier: Apache-2.0
//! `identity list|get`.

use api::Client;
use api::models::{Identity, IdentityEndpoints};

use crate::args::Identity as Command;
use crate::output::Format;
use crate::table::{align, tall_row};
use crate::text::sorted;
use crate::{Error, output};

pub(super) async fn run(client: &Client, command: Command) -> Result<(), Error> {
    match command {
        Command::List {
            endpoints: true,
            output,
            ..
        } => {
            let mut used = client.identity_endpoints().await?;
            used.sort_by_key(|used| used.identity.as_ref().map(|identity| identity.id));
            output::answer(output.output.as_ref(), &used, |used| self::used(used))
        }
        Command::List { labels, output, .. } => {
            let mut identities = client.identities(&labels).await?;
            identities.sort_by_key(|identity| identity.id);
            output::answer(output.output.as_ref(), &identities, |list| self::list(list))
        }
        Command::Get { id, output } => {
            let found = vec![client.identity(id).await?];
            output::print(&output.output.unwrap_or(Format::Json).text(&found)?)
        }
    }
}

/// The table, in the given order.
pub(super) fn list(identities: &[Identity]) -> String {
    let mut text = "ID\tLABELS\n".to_owned();
    for identity in identities {
        let id = identity.id.to_string();
        text += &tall_row(&[&id, ""], 1, &sorted(&identity.labels), false);
    }
    align(&text)
}

fn used(used: &[IdentityEndpoints]) -> String {
    let mut text = "ID\tLABELS\tREFCOUNT\n".to_owned();
    for used in used {
        let identity = used.identity.clone().unwrap_or_default();
        let (id, count) = (identity.id.to_string(), used.ref_count.to_string());
        text += &tall_row(&[&id, "", &count], 1, &sorted(&identity.labels), false);
    }
    align(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_counts() {
        let identity = Identity {
            id: 7,
            labels: vec!["k8s:b=2".into(), "k8s:a=1".into()],
            ..Default::default()
        };
        let entry = IdentityEndpoints {
            identity: Some(identity),
            ref_count: 2,
        };
        assert_eq!(
            used(&[entry]),
            "ID   LABELS    REFCOUNT\n7    k8s:a=1   2\n     k8s:b=2   \n"
        );
    }
}
