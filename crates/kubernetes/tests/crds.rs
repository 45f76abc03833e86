// SPDX-License-Identifier: Apache-2.0
//! The chart's definitions of custom resources are those of this crate.

use std::path::Path;

use serde_json::Value;

const HEAD: &str = "# Written by `ISTHMUS_WRITE_CRDS=1 cargo test -p kubernetes --test crds`\n";

#[test]
fn the_chart_has_these_definitions() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/chart/crds");
    let mut names = Vec::new();
    for definition in kubernetes::crds::all() {
        let plural = definition["spec"]["names"]["plural"].as_str();
        let name = format!("{}.yaml", plural.expect("a name"));
        let path = dir.join(&name);
        if std::env::var_os("ISTHMUS_WRITE_CRDS").is_some() {
            let text = serde_saphyr::to_string(&definition).expect("YAML");
            std::fs::write(&path, format!("{HEAD}{text}")).expect("written");
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let of_chart: Option<Value> = serde_saphyr::from_str(&text).ok();
        assert_eq!(of_chart, Some(definition), "{name}: {HEAD}");
        names.push(name);
    }
    names.sort();
    let files = std::fs::read_dir(&dir).expect("the chart");
    let mut files: Vec<String> = files
        .map(|file| file.expect("a file").file_name().to_string_lossy().into())
        .collect();
    files.sort();
    assert_eq!(files, names);
}
