// SPDX-License-Identifier: Apache-2.0
//! The server as clients that are not ours see it: methods, paths, slashes, keep-alive, bodies.
#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "the fake agent is shared with other tests")]

mod common;

use common::lab;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// An answer: status, head and body.
struct Answer {
    code: u16,
    head: String,
    body: String,
}

/// A connection that is kept.
struct Connection(BufReader<UnixStream>);

impl Connection {
    async fn new(lab: &common::Lab) -> Self {
        Self(BufReader::new(
            UnixStream::connect(&lab.socket).await.unwrap(),
        ))
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).await.unwrap(), 0, "{head}");
        }
        let lower = head.to_ascii_lowercase();
        let length = lower
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.0.read_exact(&mut body).await.unwrap();
        Answer {
            code: head[9..12].parse().unwrap(),
            body: String::from_utf8(body).unwrap(),
            head: lower,
        }
    }
}

/// All over one connection: a refusal does not end it.
#[tokio::test]
async fn methods_paths_and_bodies_over_one_connection() {
    let lab = lab();
    let mut c = Connection::new(&lab).await;
    for (method, path, body, code, expected) in [
        ("GET", "/v1/endpoint/", "", 200, "[{\"id\":61}]\n"),
        ("GET", "//v1//endpoint", "", 200, "[{\"id\":61}]\n"),
        (
            "GET",
            "/v1/ipam/",
            "",
            405,
            "\"GET is not possible on /v1/ipam\"\n",
        ),
        (
            "POST",
            "/v1/healthz",
            "",
            405,
            "\"POST is not possible on /v1/healthz\"\n",
        ),
        ("HEAD", "/v1/healthz", "", 200, ""),
        ("GET", "/", "", 404, "\"this agent has no path /\"\n"),
        (
            "GET",
            "/healthz",
            "",
            404,
            "\"this agent has no path /healthz\"\n",
        ),
        ("GET", "/v1/service", "", 200, "[]\n"),
        ("GET", "/v1/fqdn/cache", "", 404, ""),
        ("GET", "/v1/fqdn/cache/61", "", 404, ""),
        ("GET", "/v1/fqdn/names", "", 200, "{}\n"),
        ("GET", "/v1/node/ids", "", 200, "[]\n"),
        ("GET", "/v1/lrp", "", 200, "[]\n"),
        ("GET", "/v1/prefilter", "", 200, "{}\n"),
        ("GET", "/v1/policy/subject-selectors", "", 200, "[]\n"),
        (
            "GET",
            "/v1/bgp/peers",
            "",
            501,
            "\"this agent speaks no BGP: pods are reached through the tunnel\"\n",
        ),
        (
            "GET",
            "/v1/map/ist_flows",
            "",
            200,
            "{\"path\":\"/sys/fs/bpf/isthmus/v1/maps/ist_flows\",\"cache\":[{\"key\":\"addr=10.5.1.2\",\"value\":\"identity=327681\",\"desired-action\":\"ok\"}]}\n",
        ),
        ("GET", "/v1/map/none", "", 404, ""),
        (
            "GET",
            "/v1/metrics/",
            "",
            200,
            "[{\"name\":\"cilium_endpoint\",\"labels\":{},\"value\":3},{\"name\":\"cilium_drop_count_total\",\"labels\":{\"direction\":\"INGRESS\",\"reason\":\"Policy denied\"},\"value\":12},{\"name\":\"cilium_bpf_map_pressure\",\"labels\":{\"map_name\":\"ist_flows\"},\"value\":0.25}]\n",
        ),
        (
            "GET",
            "/v1/endpoint/61/labels",
            "",
            200,
            "{\"spec\":{},\"status\":{\"realized\":{},\"security-relevant\":[\"k8s:app=web\"]}}\n",
        ),
        (
            "GET",
            "/v1/endpoint/61/config",
            "",
            200,
            "{\"realized\":{}}\n",
        ),
        (
            "GET",
            "/v1/endpoint/9/config",
            "",
            404,
            "\"no endpoint cilium-local:9\"\n",
        ),
        ("PATCH", "/v1/endpoint/61/labels", "{\"user\":[]}", 200, ""),
        (
            "PATCH",
            "/v1/endpoint/61/labels",
            "{\"user\":[\"k8s:a=b\"]}",
            403,
            "\"an endpoint follows its pod: change the pod's labels, or the agent's options\"\n",
        ),
        ("PATCH", "/v1/endpoint/61/config", "{}", 200, ""),
        (
            "PATCH",
            "/v1/endpoint/61/config",
            "{\"options\":{\"Debug\":\"Enabled\"}}",
            403,
            "\"an endpoint follows its pod: change the pod's labels, or the agent's options\"\n",
        ),
        ("PATCH", "/v1/config", "{}", 200, ""),
        ("PUT", "/v1/endpoint/0", "{\"state\":\"nonsense\"}", 400, ""),
        (
            "PUT",
            "/v1/endpoint/0",
            "{\"state\":\"waiting-for-identity\",\"container-id\":\"x\",\"new-field\":1}",
            201,
            "{\"id\":5}\n",
        ),
        (
            "DELETE",
            "/v1/endpoint",
            "{}",
            400,
            "\"container-id is missing in the body\"\n",
        ),
        ("DELETE", "/v1/endpoint/1", "", 200, ""),
        ("DELETE", "/v1/endpoint/2", "", 206, "3\n"),
        ("DELETE", "/v1/endpoint/3", "", 503, "\"not yet\"\n"),
        (
            "POST",
            "/v1/ipam?family=ipv5",
            "",
            400,
            "\"family must be ipv4 or ipv6\"\n",
        ),
        (
            "POST",
            "/v1/ipam/10.0.0.256",
            "",
            400,
            "\"the path must end with an IP address\"\n",
        ),
        ("POST", "/v1/ipam?owner=a&owner=b", "", 400, ""),
        ("GET", "/v1/isthmus/events?to=70000", "", 400, ""),
        ("GET", "/v1/isthmus/kvstore?key=", "", 400, ""),
        (
            "GET",
            "/v1/identity/-1",
            "",
            400,
            "\"an identity is a number below 2^32\"\n",
        ),
        ("GET", "/v1/endpoint/%ff", "", 400, ""),
        (
            "GET",
            "/v1/isthmus/troubleshoot?cluster=a,b&timeout=99",
            "",
            200,
            "{}\n",
        ),
    ] {
        let answer = c.ask(method, path, body).await;
        let shown = format!("{method} {path}: {}{}", answer.head, answer.body);
        assert_eq!(answer.code, code, "{shown}");
        assert!(expected.is_empty() || answer.body == expected, "{shown}");
        if code == 405 {
            assert!(answer.head.contains("\r\nallow: "), "{shown}");
        }
        if code >= 400 && !answer.body.is_empty() {
            let text: Result<String, _> = serde_json::from_str(&answer.body);
            assert!(text.is_ok(), "a refusal is a JSON string: {shown}");
            assert!(
                answer.head.contains("content-type: application/json"),
                "{shown}"
            );
        }
        assert!(answer.head.contains("isthmus-api: "), "{shown}");
    }
    let asked = lab.fake.asked.lock().unwrap().join("\n");
    assert!(asked.ends_with("[\"a\", \"b\"] 10"), "{asked}");
}

/// Go's clients write booleans in several ways.
#[tokio::test]
async fn headers() {
    let lab = lab();
    for (value, expected) in [
        ("true", "true"),
        ("True", "true"),
        ("1", "true"),
        ("False", "false"),
        ("", "false"),
    ] {
        let mut stream = UnixStream::connect(&lab.socket).await.unwrap();
        let request = format!(
            "GET /v1/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nBrief: {value}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{value}: {answer}");
        let asked = lab.fake.asked.lock().unwrap().pop().unwrap();
        assert!(
            asked.contains(&format!("brief: {expected}")),
            "{value}: {asked}"
        );
    }
}
