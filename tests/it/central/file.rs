//! The holder's file: what it is after a restart, after a loss of power, and when it is damaged.

use super::*;

async fn holder(held: &Held) -> Node {
    held.tell(Node::builder("n0")).start().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_holder_begins_again_with_what_its_file_has() {
    let held = Held::new();
    let node = holder(&held).await;
    assert_eq!(node.config().list("").unwrap(), []);
    let config = node.config();
    let text = "# \"quotes\", '''three''' and \\ \nplayers = 8\n\n[zones]\n\"é\\n\" = 'x'\n";
    config.set_text("a", text).await.unwrap();
    config.set("b", &2).await.unwrap();
    config.delete("b").await.unwrap();
    config.set("a", "later").await.unwrap();
    let (listed, a, b) =
        (config.list("").unwrap(), config.history("a").await.unwrap(), config.history("b").await.unwrap());
    drop(node);
    let node = holder(&held).await;
    let config = node.config();
    assert_eq!(config.list("").unwrap(), listed);
    assert_eq!(config.history("a").await.unwrap(), a);
    assert_eq!(config.history("b").await.unwrap(), b);
    assert_eq!(a[1].value.as_deref(), Some(text));
    assert!(config.set("b", &3).await.unwrap() > a[0].version);
    let text = std::fs::read_to_string(held.file()).unwrap();
    assert!(text.contains("key = \"b\"") && text.contains("value = \"3\""), "it can be read:\n{text}");
}

/// A power that goes leaves the other file in any state, and the file itself as it was.
#[tokio::test(start_paused = true)]
async fn a_write_that_was_cut_off_leaves_what_was_there() {
    let held = Held::new();
    let node = holder(&held).await;
    node.config().set("key", &1).await.unwrap();
    let whole = std::fs::read(held.file()).unwrap();
    node.config().set("key", &2).await.unwrap();
    let next = std::fs::read(held.file()).unwrap();
    drop(node);
    std::fs::write(held.file(), &whole).unwrap();
    let new = held.file().with_extension("settings.new-7");
    for left in [&next[..], &next[..next.len() / 2], &[0; 100], b"\xff\xfe", b""] {
        std::fs::write(&new, left).unwrap();
        let node = holder(&held).await;
        assert_eq!(node.config().get::<u8>("key").unwrap().unwrap().value, 1);
        drop(node);
        assert_eq!(std::fs::read(held.file()).unwrap(), whole);
        assert!(!new.exists(), "what was not brought to its end is taken away");
    }
    let node = holder(&held).await;
    node.config().set("key", &3).await.unwrap();
    assert_eq!(held.file().parent().unwrap().read_dir().unwrap().count(), 1, "nothing is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_refused_by_its_name_and_not_touched() {
    let held = Held::new();
    let node = holder(&held).await;
    node.config().set("key", "a value").await.unwrap();
    drop(node);
    let whole = std::fs::read(held.file()).unwrap();
    let mut damages: Vec<Vec<u8>> = (0..whole.len()).step_by(7).map(|at| whole[..at].to_vec()).collect();
    damages.extend((0..whole.len()).step_by(5).map(|at| {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        damaged
    }));
    damages.push([&whole[..], b"\n"].concat());
    for damaged in damages {
        std::fs::write(held.file(), &damaged).unwrap();
        let Err(error) = held.tell(Node::builder("n0")).start().await else {
            panic!("it started with {:?}", String::from_utf8_lossy(&damaged))
        };
        let beginning = format!("{}: the central configuration is damaged", held.file().display());
        assert!(error.to_string().starts_with(&beginning), "{error}");
        assert_eq!(std::fs::read(held.file()).unwrap(), damaged);
        // Others do not read it.
        held.tell(Node::builder("n1")).start().await.unwrap();
    }
    std::fs::write(held.file(), &whole).unwrap();
    assert_eq!(version(&holder(&held).await, "key"), Version(1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_has_not_changed() {
    let held = Held::new();
    let node = holder(&held).await;
    node.config().set("key", &1).await.unwrap();
    // What it writes first is in its way.
    let new = held.file().with_extension(format!("settings.new-{}", node.incarnation().0));
    std::fs::create_dir(&new).unwrap();
    let error = node.config().set("key", &2).await.unwrap_err();
    assert!(matches!(&error, CentralError::Disk { holder, .. } if holder.as_str() == "n0"), "{error}");
    assert_eq!(node.config().get::<u8>("key").unwrap().unwrap().value, 1);
    assert_eq!(history(&node, "key").await, texts(&["1"]));
    std::fs::remove_dir(&new).unwrap();
    assert_eq!(node.config().set("key", &3).await.unwrap(), Version(2));
}

#[tokio::test]
async fn a_holder_without_a_file_does_not_start() {
    let error = Node::builder("a").config_holder("a").start().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "setting `config_path`: is missing; node a holds the configuration, and keeps it in that file"
    );
}
