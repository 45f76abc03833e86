// SPDX-License-Identifier: Apache-2.0
//! The container image: the static binary and its links, as an archive that is an OCI layout and can also be
//! loaded by Docker. Made without a daemon, from `target/dist` alone; the same binary gives the same bytes.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::dist::LINKS;

/// Repository of the image; the tag is the version.
pub(crate) const REPOSITORY: &str = "localhost/isthmus";
/// The archive, below the target directory.
const ARCHIVE: &str = "target/dist/isthmus-image.tar";
/// Largest archive, bytes: an image is pulled by every node.
const LIMIT: u64 = 40_000_000;
const BIN: &str = "usr/bin/";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes the archive from what `dist` built.
pub(crate) fn build(root: &Path) -> Result<(), String> {
    let binary = root.join("target/dist/isthmus");
    write(&binary, &root.join(ARCHIVE), env!("CARGO_PKG_VERSION"))
}

/// Writes the archive of an image of this tag that holds the program `binary`.
pub(crate) fn write(binary: &Path, archive: &Path, tag: &str) -> Result<(), String> {
    let program = fs::read(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
    let name = archive.display();
    let failed = |error: std::io::Error| format!("{name}: {error}");
    let reference = format!("{REPOSITORY}:{tag}");
    let new = archive.with_extension("new");
    let bytes = image(&program, &reference).map_err(failed)?;
    fs::write(&new, &bytes)
        .and_then(|()| fs::rename(&new, archive))
        .map_err(failed)?;
    let size = bytes.len() as u64;
    println!(
        "{name}: {reference}, {:.1} MB, sha256 {}",
        size as f64 / 1e6,
        hex(&bytes)
    );
    if size > LIMIT {
        return Err(format!(
            "{name} has {size} bytes, more than {LIMIT}: what makes the binary that large?"
        ));
    }
    Ok(())
}

/// The archive of an image that holds `program`.
fn image(program: &[u8], reference: &str) -> std::io::Result<Vec<u8>> {
    let layer = layer(program)?;
    let mut packed = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    packed.write_all(&layer)?;
    let packed = packed.finish()?;
    let config = text(&config(&hex(&layer)));
    let manifest = text(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &packed)],
    }));
    let mut listed = descriptor(MANIFEST, &manifest);
    listed["annotations"] = json!({
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference,
    });
    let index = text(&json!({ "schemaVersion": 2, "manifests": [listed] }));
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    // What `docker load` reads; the rest is the OCI layout.
    let docker = text(&json!([{
        "Config": blob(&config),
        "RepoTags": [reference],
        "Layers": [blob(&packed)],
    }]));
    let mut archive = Builder::new(Vec::new());
    file(
        &mut archive,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    file(&mut archive, "index.json", 0o644, &index)?;
    file(&mut archive, "manifest.json", 0o644, &docker)?;
    for bytes in [&config, &manifest, &packed] {
        file(&mut archive, &blob(bytes), 0o644, bytes)?;
    }
    archive.into_inner()
}

/// The one layer: programs, and the directories that a container expects.
fn layer(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for (path, mode) in [
        ("etc/", 0o755),
        ("tmp/", 0o1777),
        ("usr/", 0o755),
        (BIN, 0o755),
    ] {
        let mut header = header(EntryType::Directory, mode, 0);
        layer.append_data(&mut header, path, std::io::empty())?;
    }
    file(
        &mut layer,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/:/usr/bin/isthmus\n",
    )?;
    file(&mut layer, "etc/group", 0o644, b"root:x:0:\n")?;
    file(&mut layer, &format!("{BIN}isthmus"), 0o755, program)?;
    for name in LINKS {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, format!("{BIN}{name}"), "isthmus")?;
    }
    layer.into_inner()
}

fn config(diff_id: &str) -> Value {
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": ["/usr/bin/isthmus"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "isthmus",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask image" }],
    })
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len() })
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A header without anything that differs between machines.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn file(
    archive: &mut Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use flate2::read::GzDecoder;
    use tar::Archive;

    use super::*;

    fn unpacked(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = Archive::new(bytes);
        let entries = archive.entries().expect("an archive");
        let one = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut bytes = Vec::new();
            if let Some(target) = entry.link_name().expect("a link or none") {
                bytes = format!("-> {}", target.display()).into_bytes();
            }
            entry.read_to_end(&mut bytes).expect("its bytes");
            (path, bytes)
        };
        entries.map(one).collect()
    }

    #[test]
    fn every_digest_leads_to_its_blob_and_the_layer_has_the_programs() {
        let image = image(b"program", "localhost/isthmus:1").expect("an image");
        let files = unpacked(&image);
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a digest");
            let path = digest.replace("sha256:", "blobs/sha256/");
            assert_eq!(descriptor["size"], files[&path].len());
            files[&path].clone()
        };
        let index = parse(&files["index.json"]);
        let manifest = parse(&blob(&index["manifests"][0]));
        let config = parse(&blob(&manifest["config"]));
        let packed = blob(&manifest["layers"][0]);
        let mut layer = Vec::new();
        GzDecoder::new(packed.as_slice())
            .read_to_end(&mut layer)
            .expect("gzip");
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", hex(&layer))
        );
        let programs = unpacked(&layer);
        assert_eq!(programs["usr/bin/isthmus"], b"program");
        assert_eq!(programs["usr/bin/cilium"], b"-> isthmus");
    }

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        let make = || image(b"program", "localhost/isthmus:1").expect("an image");
        assert_eq!(make(), make());
    }
}
