// SPDX-License-Identifier: Apache-2.0
//! A directory that changes while it is followed.

use std::io::Write;

use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: demo}\nspec: {}\n";

async fn follow(dir: &Path) -> Follow {
    let mut follow = Follow::new(dir, None).expect("a directory");
    follow.next().await;
    follow
}

/// The next update within a time.
async fn within(follow: &mut Follow, time: u64) -> Option<Update> {
    tokio::time::timeout(Duration::from_millis(time), follow.next())
        .await
        .ok()
}

async fn pod_comes(follow: &mut Follow) {
    let update = within(follow, 9000).await.expect("an update");
    assert!(
        matches!(&update.events[..], [ObjectEvent::Pod(_)]),
        "{update:?}"
    );
}

#[tokio::test]
async fn a_scan_does_not_wake_the_next() {
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::write(dir.path().join("a.yaml"), "").expect("write");
    let mut follow = follow(dir.path()).await;
    while tokio::time::timeout(Duration::from_millis(50), follow.notices.recv())
        .await
        .is_ok()
    {}
    let listing = Listing::of(dir.path()).expect("readable");
    follow.reader.read(dir.path(), &listing, &[]);
    let woken = tokio::time::timeout(Duration::from_millis(200), follow.notices.recv()).await;
    assert!(woken.is_err(), "reading the directory woke a scan");
    std::fs::write(dir.path().join("b.yaml"), "").expect("write");
    let woken = tokio::time::timeout(Duration::from_secs(5), follow.notices.recv()).await;
    assert_eq!(woken, Ok(Some(())));
}

#[tokio::test]
async fn a_file_that_is_written_anew_is_never_half_there() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, POD).expect("write");
    let mut follow = follow(dir.path()).await;
    let mut file = std::fs::File::create(&path).expect("emptied");
    let update = within(&mut follow, 500).await;
    assert!(update.is_none(), "the file is open and empty: {update:?}");
    let changed = POD.replace("spec: {}", "spec: {nodeName: n}");
    file.write_all(&changed.as_bytes()[..40]).expect("write");
    let update = within(&mut follow, 300).await;
    assert!(
        update.is_none(),
        "the file is open and half there: {update:?}"
    );
    file.write_all(&changed.as_bytes()[40..]).expect("write");
    drop(file);
    pod_comes(&mut follow).await;
}

#[tokio::test]
async fn a_file_that_is_put_back_at_once_was_never_gone() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, POD).expect("write");
    let mut follow = follow(dir.path()).await;
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            for _ in 0..50 {
                std::fs::remove_file(&path).expect("removed");
                std::fs::write(&path, POD).expect("write");
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    });
    let update = within(&mut follow, 600).await;
    assert!(update.is_none(), "{update:?}");
    writer.join().expect("written");
    std::fs::remove_file(&path).expect("removed");
    let update = within(&mut follow, 9000).await.expect("an update");
    assert!(matches!(&update.events[..], [ObjectEvent::PodGone(_)]));
}

#[tokio::test]
async fn a_directory_that_goes_keeps_its_objects_and_comes_back() {
    let parent = tempfile::tempdir().expect("temp dir");
    let dir = parent.path().join("manifests");
    std::fs::create_dir(&dir).expect("made");
    std::fs::write(dir.join("a.yaml"), POD).expect("write");
    let mut follow = follow(&dir).await;
    std::fs::rename(&dir, parent.path().join("away")).expect("moved");
    let update = within(&mut follow, 9000).await.expect("an update");
    assert!(update.events.is_empty(), "{update:?}");
    assert!(update.problems[0].to_string().contains("cannot be read"));
    std::fs::create_dir(&dir).expect("made");
    std::fs::write(dir.join("a.yaml"), POD.replace("web", "other")).expect("write");
    let update = within(&mut follow, 9000).await.expect("an update");
    assert!(update.problems.is_empty(), "{update:?}");
    assert!(
        matches!(
            &update.events[..],
            [ObjectEvent::PodGone(_), ObjectEvent::Pod(_)]
        ),
        "{update:?}"
    );
    std::fs::write(dir.join("b.yaml"), POD).expect("write");
    let update = within(&mut follow, 2000)
        .await
        .expect("the new directory is watched");
    assert!(matches!(&update.events[..], [ObjectEvent::Pod(_)]));
}

#[tokio::test]
async fn links_swap_as_kubernetes_does_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| dir.path().join(name);
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).expect("a link");
    for (data, text) in [
        ("..1", POD.to_owned()),
        ("..2", POD.replace("{}", "{nodeName: n}")),
    ] {
        std::fs::create_dir(at(data)).expect("made");
        std::fs::write(at(data).join("a.yaml"), text).expect("write");
    }
    link("..1", "..data");
    link("..data/a.yaml", "a.yaml");
    let mut follow = follow(dir.path()).await;
    link("..2", "..data_tmp");
    std::fs::rename(at("..data_tmp"), at("..data")).expect("swapped");
    pod_comes(&mut follow).await;
}

#[tokio::test]
async fn what_is_no_text_is_named_and_nothing_waits_for_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("a.yaml"), POD).expect("write");
    let mut follow = follow(dir.path()).await;
    std::fs::create_dir(at("d.yaml")).expect("made");
    std::fs::write(at("binary.yaml"), [0xff, 0xfe, 0]).expect("write");
    std::fs::File::create(at("large.yaml"))
        .and_then(|f| f.set_len(64 << 20))
        .expect("made");
    std::os::unix::net::UnixListener::bind(at("socket.yaml")).expect("bound");
    std::os::unix::fs::symlink("nowhere", at("link.yaml")).expect("a link");
    let update = within(&mut follow, 9000).await.expect("an update");
    assert!(update.events.is_empty());
    let files: Vec<_> = update
        .problems
        .iter()
        .map(|problem| problem.file.as_str())
        .collect();
    assert_eq!(
        files,
        [
            "binary.yaml",
            "d.yaml",
            "large.yaml",
            "link.yaml",
            "socket.yaml"
        ]
    );
    std::fs::write(at("a.yaml"), [0xff]).expect("write");
    let update = within(&mut follow, 9000).await.expect("an update");
    assert!(update.events.is_empty());
    assert!(
        update.problems[0]
            .to_string()
            .contains("previous version stays"),
        "{update:?}"
    );
}

const POLICY: &str = "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: backend, namespace: demo}
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoints: [{}]
";

/// The policy with more prefixes than any node has numbers for.
fn wide(count: u32) -> String {
    let prefixes: Vec<u32> = (0..count).collect();
    let entries = prefixes.chunks(4096).map(|part| {
        let part = part
            .iter()
            .map(|n| format!("{}.{}.{}.0/24", 11 + (n >> 16), n >> 8 & 255, n & 255));
        let part: Vec<String> = part.collect();
        format!("  - fromCIDR: [{}]\n", part.join(","))
    });
    let (head, _) = POLICY.split_once("  - from").expect("it has entries");
    head.to_owned() + &entries.collect::<String>()
}

/// What is in force is on disk as soon as there is room, although no policy changes.
#[tokio::test]
async fn a_full_disk_is_told_until_there_is_room() {
    let dir = tempfile::tempdir().expect("temp dir");
    let state = tempfile::tempdir().expect("temp dir");
    let file = state.path().join("later/policies");
    let mut follow = Follow::new(dir.path(), Some(file.clone())).expect("a directory");
    follow.next().await;
    let mut told = async |name: &str| {
        // So that the directory is looked at now and not in a while.
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        std::fs::write(dir.path().join("a.yaml"), text).expect("write");
        let problems = follow.next().await.problems;
        let words = "cannot be written";
        problems.iter().any(|p| p.reason.contains(words))
    };
    assert!(told("first").await);
    std::fs::create_dir(file.parent().expect("below")).expect("made");
    assert!(told("second").await, "of the attempt before");
    assert!(file.exists());
    assert!(!told("third").await);
}

/// Whatever keeps the previous version of a policy in a run keeps it for the next one, and what was removed meanwhile is
/// not back.
#[tokio::test]
async fn the_previous_version_stays_over_a_restart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let state = tempfile::tempdir().expect("temp dir");
    let file = state.path().join("policies");
    let start = || Follow::new(dir.path(), Some(file.clone())).expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).expect("write");
    };
    let other = POLICY.replace("backend", "other");
    write("a.yaml", POLICY);
    write("b.yaml", &other);
    let first = start().next().await;
    assert_eq!((first.events.len(), first.problems.len()), (2, 0));
    let unsupported = POLICY.replace("fromEndpoints", "fromNodes");
    let wide = wide(33_000);
    for (name, text) in [
        ("a.yaml", unsupported.as_str()),
        ("a.yaml", wide.as_str()),
        ("moved.yaml", unsupported.as_str()),
        ("a.yaml", "kind: [\n"),
    ] {
        std::fs::remove_file(dir.path().join("a.yaml")).ok();
        std::fs::remove_file(dir.path().join("moved.yaml")).ok();
        write(name, text);
        for _ in 0..2 {
            let update = start().next().await;
            assert_eq!(update.events, first.events, "{name}: {text}");
            assert!(update.problems[0].previous_stays, "{:?}", update.problems);
        }
    }
    std::fs::remove_file(dir.path().join("b.yaml")).expect("there");
    let update = start().next().await;
    assert_eq!(update.events, first.events[..1]);
    // Nothing names it any more: not even when a broken version comes back.
    std::fs::remove_file(dir.path().join("a.yaml")).expect("there");
    assert!(start().next().await.events.is_empty());
    write("a.yaml", &unsupported);
    assert!(start().next().await.events.is_empty());
    // A file that cannot be read keeps what it gave.
    write("a.yaml", POLICY);
    start().next().await;
    std::fs::remove_file(dir.path().join("a.yaml")).expect("there");
    std::fs::create_dir(dir.path().join("a.yaml")).expect("made");
    let mut follow = start();
    assert_eq!(follow.next().await.events, first.events[..1]);
    std::fs::remove_dir(dir.path().join("a.yaml")).expect("there");
    let update = within(&mut follow, 9000).await.expect("an update");
    assert!(matches!(update.events[..], [ObjectEvent::PolicyGone(_)]));
    // A damaged file is named and ignored.
    std::fs::write(&file, "0\n{}").expect("write");
    write("a.yaml", POLICY);
    let update = start().next().await;
    assert_eq!(update.events, first.events[..1]);
    assert!(update.problems[0].reason.contains("damaged"));
}
