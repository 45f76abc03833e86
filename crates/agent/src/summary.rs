// SPDX-License-Identifier: Apache-2.0
//! One line about a captured packet, in the words of `monitor` (Cilium's `pkg/monitor/dissect.go`). The bytes are a
//! pod's or a stranger's: whatever is cut off is left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a capture shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// `tcp`, `udp`, `icmp`, …
    pub(crate) protocol: String,
    /// `10.0.0.1:1 -> 10.0.0.2:80 tcp SYN`.
    pub(crate) text: String,
}

const TCP_FLAGS: [(u8, &str); 6] = [
    (2, "SYN"),
    (16, "ACK"),
    (1, "FIN"),
    (4, "RST"),
    (8, "PSH"),
    (32, "URG"),
];

/// Reads a frame.
pub(crate) fn summarize(frame: &[u8]) -> Summary {
    let Some(kind) = bytes::<2>(frame, 12).map(u16::from_be_bytes) else {
        return Summary {
            text: "truncated frame".into(),
            ..Summary::default()
        };
    };
    match kind {
        0x0800 => ipv4(&frame[14..]),
        0x86dd => ipv6(&frame[14..]),
        0x0806 => Summary {
            protocol: "arp".into(),
            text: "arp".into(),
            ..Summary::default()
        },
        other => Summary {
            text: format!("ethertype 0x{other:04x}"),
            ..Summary::default()
        },
    }
}

fn bytes<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at + N)?.try_into().ok()
}

fn ipv4(packet: &[u8]) -> Summary {
    let (Some([first]), Some([protocol]), Some(src), Some(dst)) = (
        bytes::<1>(packet, 0),
        bytes::<1>(packet, 9),
        bytes::<4>(packet, 12),
        bytes::<4>(packet, 16),
    ) else {
        return Summary {
            text: "truncated IPv4 header".into(),
            ..Summary::default()
        };
    };
    let header = usize::from(first & 15) * 4;
    let first_fragment = bytes::<2>(packet, 6).is_some_and(|b| u16::from_be_bytes(b) & 0x1fff == 0);
    let payload = packet
        .get(header..)
        .filter(|_| first_fragment)
        .unwrap_or_default();
    transport(
        Ipv4Addr::from(src).into(),
        Ipv4Addr::from(dst).into(),
        protocol,
        payload,
    )
}

fn ipv6(packet: &[u8]) -> Summary {
    let (Some([mut next]), Some(src), Some(dst)) = (
        bytes::<1>(packet, 6),
        bytes::<16>(packet, 8),
        bytes::<16>(packet, 24),
    ) else {
        return Summary {
            text: "truncated IPv6 header".into(),
            ..Summary::default()
        };
    };
    let mut at = 40;
    for _ in 0..4 {
        let Some([following, length]) = bytes::<2>(packet, at) else {
            break;
        };
        at += match next {
            0 | 43 | 60 => (usize::from(length) + 1) * 8,
            44 => 8,
            51 => (usize::from(length) + 2) * 4,
            _ => break,
        };
        next = following;
    }
    transport(
        Ipv6Addr::from(src).into(),
        Ipv6Addr::from(dst).into(),
        next,
        packet.get(at..).unwrap_or_default(),
    )
}

fn transport(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Summary {
    let word = match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("proto {other}"),
    };
    let mut summary = Summary {
        source: Some(source),
        destination: Some(destination),
        protocol: word,
        ..Summary::default()
    };
    let ports = matches!(protocol, 6 | 17 | 132)
        .then(|| bytes::<4>(payload, 0))
        .flatten();
    let Some([a, b, c, d]) = ports else {
        let detail = match (protocol, payload.first()) {
            (1, Some(8)) | (58, Some(128)) => " EchoRequest".to_owned(),
            (1, Some(0)) | (58, Some(129)) => " EchoReply".to_owned(),
            (1 | 58, Some(kind)) => format!(" type {kind}"),
            _ => String::new(),
        };
        summary.text = format!("{source} -> {destination} {}{detail}", summary.protocol);
        return summary;
    };
    (summary.source_port, summary.destination_port) =
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let end = |ip: IpAddr, port: u16| std::net::SocketAddr::new(ip, port).to_string();
    let mut text = format!(
        "{} -> {} {}",
        end(source, summary.source_port),
        end(destination, summary.destination_port),
        summary.protocol
    );
    if let (6, Some(flags)) = (protocol, payload.get(13)) {
        let words: Vec<&str> = TCP_FLAGS
            .iter()
            .filter(|(bit, _)| flags & bit != 0)
            .map(|(_, word)| *word)
            .collect();
        text = format!("{text} {}", words.join(", "));
    }
    summary.text = text;
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn() {
        let mut frame = vec![0; 14 + 20 + 20];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[14 + 9] = 6;
        frame[14 + 12..14 + 16].copy_from_slice(&[10, 2, 1, 40]);
        frame[14 + 16..14 + 20].copy_from_slice(&[10, 1, 1, 73]);
        frame[34..38].copy_from_slice(&[0xa0, 0x28, 0, 80]);
        frame[34 + 13] = 2;
        assert_eq!(
            summarize(&frame).text,
            "10.2.1.40:41000 -> 10.1.1.73:80 tcp SYN"
        );
        for cut in 0..frame.len() {
            summarize(&frame[..cut]);
        }
    }
}
