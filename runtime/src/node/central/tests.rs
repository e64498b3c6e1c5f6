//! The space, its bounds, and values as texts.

use serde::{Deserialize, Serialize};
use toml::Value;

use super::space::{Author, Space, Version, Write};
use super::text::{self, Refusal};
use crate::config;
use crate::error::StartError;
use crate::id::NodeId;

fn author() -> Author {
    Author { by: NodeId::new("a").unwrap(), at: 7 }
}

fn set(space: &Space, key: &str, text: &str) -> Space {
    let write = Write { key: key.to_owned(), expected: None, value: Some(text.to_owned()) };
    space.after(&write, &author(), &config::Central::default()).unwrap()
}

#[test]
fn a_write_that_is_refused_uses_up_no_version() {
    let space = set(&Space::default(), "a", "1");
    let late = Write { key: "a".to_owned(), expected: Some(Version(7)), value: None };
    assert!(space.after(&late, &author(), &config::Central::default()).is_err());
    assert_eq!(set(&space, "b", "2").version, Version(2));
}

#[test]
fn versions_go_on_above_what_somebody_remembers() {
    let mut space = set(&Space::default(), "a", "1");
    space.counter = 9;
    let next = set(&space, "a", "2");
    assert_eq!((space.version, next.version), (Version(1), Version(10)));
}

#[test]
fn the_oldest_versions_of_all_make_room_and_the_present_ones_stay() {
    let limits = config::Central { max_total: 8, ..config::Central::default() };
    let write = |space: &Space, key: &str, text: &str| {
        let write = Write { key: key.to_owned(), expected: None, value: Some(text.to_owned()) };
        space.after(&write, &author(), &limits)
    };
    let mut space = Space::default();
    for (key, text) in [("a", "1"), ("b", "1"), ("b", "2"), ("a", "2")] {
        space = write(&space, key, text).unwrap();
    }
    let space = write(&space, "b", "33").unwrap();
    let kept = |key: &str| -> Vec<u64> { space.history(key).iter().map(|past| past.version.0).collect() };
    assert_eq!((kept("a"), kept("b")), (vec![4], vec![5, 3]));
    assert!(write(&space, "c", "1234567").is_err());
}

#[test]
fn a_text_is_one_value_or_the_lines_of_a_table() {
    let table = |text: &str| Value::Table(text.parse().unwrap());
    for (text, expected) in [
        ("8", Value::Integer(8)),
        (" 8 # of them\n", Value::Integer(8)),
        ("\"eu\"", Value::String("eu".to_owned())),
        ("[1,\n 2]", Value::Array(vec![Value::Integer(1), Value::Integer(2)])),
        ("[1]", Value::Array(vec![Value::Integer(1)])),
        ("[true]\na = 1", table("true.a = 1")),
        ("{ a = 1 }", table("a = 1")),
        ("a = 1\n[b]\nc = 2", table("a = 1\nb.c = 2")),
        ("", table("")),
        ("# nothing", table("")),
    ] {
        assert_eq!(text::parse("key", text).unwrap(), expected, "{text:?}");
    }
    for text in ["eu", "1 2", "1\na = 2", "a = ", "[1", "value"] {
        assert!(text::parse("key", text).is_err(), "{text:?}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Outer {
    inner: Vec<Inner>,
    number: Option<f64>,
    named: std::collections::BTreeMap<String, Inner>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    size: u8,
}

#[test]
fn what_is_written_is_read_again() {
    fn check<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
        let text = text::write("key", value).unwrap();
        let read: T = text::decode(text::parse("key", &text).unwrap()).unwrap();
        assert_eq!(read, *value, "{text}");
    }
    check(&7_u8);
    check(&-0.5_f64);
    check(&"a \"text\"\n with = signs".to_owned());
    check(&vec![vec![1], vec![]]);
    check(&true);
    let named = [("a b".to_owned(), Inner { size: 3 })].into();
    check(&Outer { inner: vec![Inner { size: 1 }, Inner { size: 2 }], number: None, named });
    check(&StartError::NameTaken(String::new()).to_string());
    assert!(text::write("key", &u64::MAX).is_err());
    assert!(text::write("key", &None::<u8>).is_err());
}

#[test]
fn what_cannot_be_read_is_refused_with_the_place_in_the_value() {
    for (text, field, reason) in [
        ("named.x.size = 300", Some("named.x.size"), "invalid value: integer `300`, expected u8"),
        ("named.x = {}", Some("named.x"), "missing field `size`"),
        ("named.x = { size = 1, syze = 1 }", Some("named.x"), "unknown field `syze`, expected `size`"),
        ("number = \"in `x`\"", Some("number"), "invalid type: string \"in `x`\", expected f64"),
        ("1", None, "invalid type: integer `1`, expected struct Outer"),
    ] {
        let text = format!("inner = []\n{}{text}", if text.contains("named") { "" } else { "named = {}\n" });
        let text = if field.is_none() { "1".to_owned() } else { text };
        let refusal = text::decode::<Outer>(text::parse("key", &text).unwrap()).unwrap_err();
        let field = field.map(str::to_owned);
        assert_eq!(refusal, Refusal { field, reason: reason.to_owned() }, "{text}");
    }
}
