// SPDX-License-Identifier: Apache-2.0
//! `monitor`: drops as they happen. The first line is Cilium's; what follows it says who, and which rule.

use api::Client;
use api::models::{DropNotice, EventQuery, Party};
use serde_json::json;

use crate::args::{EventType, Monitor};
use crate::text::{clean, clean_all, endpoint, identity};
use crate::{Error, output};

pub(super) async fn run(client: &Client, args: Monitor) -> Result<(), Error> {
    let EventType::Drop = args.kind;
    let query = EventQuery {
        from: args.from,
        to: args.to,
        related_to: args.related_to,
    };
    let mut events = client.events(&query).await?;
    if !args.json {
        output::print("Listening for dropped packets. Press Ctrl-C to quit\n")?;
    }
    while let Some(notice) = events.next().await? {
        let text = if args.json {
            object(&notice)
        } else {
            lines(&notice, args.numeric)
        };
        output::print(&text)?;
    }
    Ok(())
}

/// The lines of a drop.
pub(super) fn lines(notice: &DropNotice, numeric: bool) -> String {
    let mut text = String::new();
    if notice.lost > 0 {
        text += &format!("CPU {:02}: Lost {} events\n", notice.cpu, notice.lost);
    }
    let reason = match notice.ext_error.as_str() {
        "" => clean(&notice.reason),
        finer => format!("{}, {}", clean(&notice.reason), clean(finer)),
    };
    let word = if notice.audit { "audit" } else { "drop" };
    let id = |party: &Party| identity(party.identity, numeric);
    text += &format!(
        "xx {word} ({reason}) flow {:#x} to endpoint {}, ifindex {}, file unknown(0):0, , identity {}->{}: {}\n",
        notice.hash,
        notice.dst_endpoint,
        notice.ifindex,
        id(&notice.source),
        id(&notice.destination),
        summary(notice),
    );
    text += &format!("   at {}, {}", clean(&notice.node), notice.time);
    if notice.endpoint != 0 {
        text += &format!(
            ", {} of endpoint {}",
            clean(&notice.direction),
            notice.endpoint
        );
    }
    if !notice.tunnel.is_empty() {
        text += &format!(", by tunnel from {}", clean(&notice.tunnel));
    }
    text.push('\n');
    text += &format!("   from {}\n", party(&notice.source));
    text += &format!("   to   {}\n", party(&notice.destination));
    if let Some(rule) = &notice.rule {
        text += &format!("   by   {}", clean(&rule.kind));
        if !rule.text.is_empty() {
            text += &format!(": {}", clean(&rule.text));
        }
        if !rule.policies.is_empty() {
            text += &format!(" [{}]", clean_all(&rule.policies).join(", "));
        }
        text.push('\n');
    }
    text
}

fn party(party: &Party) -> String {
    let labels = match clean_all(&party.labels).join(" ") {
        none if none.is_empty() => "(labels not known)".into(),
        labels => labels,
    };
    let name = match party.name.as_str() {
        "" => String::new(),
        name => format!(" {}", clean(name)),
    };
    format!("{}{name} {labels}", party.identity)
}

fn summary(notice: &DropNotice) -> String {
    if !notice.summary.is_empty() {
        return clean(&notice.summary);
    }
    let (source, destination) = (&notice.source, &notice.destination);
    let protocol = clean(&notice.protocol);
    if source.port == 0 && destination.port == 0 {
        let (from, to) = (clean(&source.address), clean(&destination.address));
        return format!("{from} -> {to} {protocol}");
    }
    let from = endpoint(&source.address, source.port);
    let to = endpoint(&destination.address, destination.port);
    format!("{from} -> {to} {protocol}")
}

/// One line of JSON: Cilium's keys, then ours.
pub(super) fn object(notice: &DropNotice) -> String {
    let object = json!({
        "cpu": format!("CPU {:02}:", notice.cpu),
        "type": "drop",
        "mark": format!("{:#x}", notice.hash),
        "reason": notice.reason,
        "source": notice.endpoint,
        "bytes": notice.bytes,
        "srcLabel": notice.source.identity,
        "dstLabel": notice.destination.identity,
        "dstID": notice.dst_endpoint,
        "Line": 0,
        "File": "unknown(0)",
        "ExtError": notice.ext_code,
        "Ifindex": notice.ifindex,
        "summary": summary(notice),
        "isthmus": notice,
    });
    object.to_string() + "\n"
}
