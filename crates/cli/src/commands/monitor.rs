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

#[cfg(test)]
mod tests {
    use api::models::RuleNote;
    use serde::de::DeserializeOwned;

    use super::*;

    fn parse<T: DeserializeOwned>(text: &str) -> T {
        serde_json::from_str(text).expect("a value")
    }

    #[test]
    fn monitor_lines() {
        let party = |identity, label: &str, address: &str, port, name: &str| Party {
            identity,
            labels: vec![label.into()],
            address: address.into(),
            port,
            name: name.into(),
        };
        let notice = DropNotice {
            time: parse("\"2026-05-04T10:00:00Z\""),
            node: "cluster7/node1".into(),
            code: 133,
            reason: "Policy denied".into(),
            direction: "ingress".into(),
            endpoint: 1423,
            dst_endpoint: 1423,
            source: party(
                135_001,
                "k8s:app=client",
                "10.2.1.40",
                41000,
                "cluster5/default/client",
            ),
            destination: party(
                70312,
                "k8s:app=backend",
                "10.1.1.73",
                80,
                "cluster7/default/backend",
            ),
            protocol: "tcp".into(),
            rule: Some(RuleNote {
                id: 3,
                kind: "default deny".into(),
                policies: vec!["CiliumNetworkPolicy default/backend".into()],
                ..Default::default()
            }),
            ifindex: 17,
            hash: 0x5a2b_1c0d,
            summary: "10.2.1.40:41000 -> 10.1.1.73:80 tcp SYN".into(),
            ..Default::default()
        };
        assert_eq!(
            lines(&notice, false),
            "\
xx drop (Policy denied) flow 0x5a2b1c0d to endpoint 1423, ifindex 17, file unknown(0):0, , identity 135001->70312: 10.2.1.40:41000 -> 10.1.1.73:80 tcp SYN
   at cluster7/node1, 2026-05-04T10:00:00.000Z, ingress of endpoint 1423
   from 135001 cluster5/default/client k8s:app=client
   to   70312 cluster7/default/backend k8s:app=backend
   by   default deny [CiliumNetworkPolicy default/backend]
"
        );
        let bare = DropNotice {
            ext_error: "identity not yet known".into(),
            source: party(2, "", "fd00::1", 0, ""),
            summary: String::new(),
            lost: 4,
            ..notice.clone()
        };
        let text = lines(&bare, false);
        assert!(text.starts_with(
            "CPU 00: Lost 4 events\nxx drop (Policy denied, identity not yet known) "
        ));
        assert!(
            text.contains("identity world->70312: [fd00::1]:0 -> 10.1.1.73:80 tcp"),
            "{text}"
        );
        let object: serde_json::Value = parse(&object(&notice));
        assert_eq!(object["srcLabel"], 135_001);
        assert_eq!(
            object["isthmus"]["rule"]["policies"][0],
            "CiliumNetworkPolicy default/backend"
        );
    }
}
