// SPDX-License-Identifier: Apache-2.0
//! Paths as clients write them: slashes at the end and double ones mean nothing.

use http::Uri;
use http::uri::PathAndQuery;

/// `uri` with its path cleaned; `None` if it is clean.
pub(super) fn clean(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && (path == "/" || !path.ends_with('/')) {
        return None;
    }
    let parts = path.split('/').filter(|part| !part.is_empty());
    let mut text = parts.fold(String::with_capacity(path.len()), |text, part| {
        text + "/" + part
    });
    if text.is_empty() {
        text.push('/');
    }
    if let Some(query) = uri.query() {
        text = text + "?" + query;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes() {
        for (path, expected) in [
            ("/v1/endpoint/", Some("/v1/endpoint")),
            (
                "//v1//ip/?cidr=10.0.0.0//8",
                Some("/v1/ip?cidr=10.0.0.0//8"),
            ),
            (
                "/v1/endpoint/cep-name:a%2Fb/",
                Some("/v1/endpoint/cep-name:a%2Fb"),
            ),
            ("//", Some("/")),
            ("/v1/healthz", None),
            ("/", None),
        ] {
            let uri: Uri = path.parse().expect(path);
            let clean = clean(&uri).map(|uri| uri.to_string());
            assert_eq!(clean.as_deref(), expected, "{path}");
        }
    }
}
