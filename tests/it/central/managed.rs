//! The central configuration by managers, as a console asks them.

use skyhold::ManagerHandle;

use super::*;

#[tokio::test(start_paused = true)]
async fn any_nodes_manager_serves_the_configuration() {
    let cluster = Held::new().cluster(3).await;
    let manager = ManagerHandle::on(&cluster[1], "n2").await.unwrap();
    let set =
        async |text: &str, expected| manager.config_set("key".into(), text.into(), expected).await.unwrap();
    let first = set("players = 8", None).await.unwrap();
    let conflict = CentralError::Conflict { key: "key".to_owned(), expected: Version::NONE, present: first };
    assert_eq!(set("players = 9", Some(Version::NONE)).await, Err(conflict));
    let second = set("players = 9", Some(first)).await.unwrap();
    let got = manager.config_get("key".into()).await.unwrap().unwrap().unwrap();
    assert_eq!((got.value.as_deref(), got.version, got.by.as_str()), (Some("players = 9"), second, "n2"));
    let past = manager.config_history("key".into()).await.unwrap().unwrap();
    assert_eq!(past.iter().map(|past| past.version).collect::<Vec<_>>(), [second, first]);
    let third = manager.config_rollback("key".into(), first).await.unwrap().unwrap();
    assert!(third > second);
    assert_eq!(manager.config_list(String::new()).await.unwrap().unwrap()[0].version, third);
    let syntax = set("players", None).await.unwrap_err();
    assert!(matches!(syntax, CentralError::Syntax { .. }), "{syntax}");
    let watched = cluster[0].config().watch::<Vec<u8>>("list").or(Vec::new()).await.unwrap();
    let refused = manager.config_set("list".into(), "[1, 300]".into(), None).await.unwrap().unwrap_err();
    assert!(matches!(&refused, CentralError::Refused { node, .. } if node.as_str() == "n0"), "{refused}");
    manager.config_set("list".into(), "[1]".into(), None).await.unwrap().unwrap();
    assert_eq!(*watched.clone().changed().await.unwrap(), [1]);
    manager.config_delete("key".into(), Some(third)).await.unwrap().unwrap();
    assert_eq!(manager.config_get("key".into()).await.unwrap(), Ok(None));
    cluster.kill(0).await;
    let mut events = cluster[2].events();
    while cluster[2].peers().len() > 1 {
        events.next().await.unwrap();
    }
    let away = CentralError::HolderAway { holder: NodeId::new("n0").unwrap() };
    assert_eq!(set("1", None).await, Err(away));
    assert!(manager.config_list(String::new()).await.unwrap().is_ok());
}
