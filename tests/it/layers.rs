//! The table of modules in the architecture, held to the code: nothing imports upward, and the lowest rows know no
//! runtime.

use std::fs;
use std::path::{Path, PathBuf};

/// The rows, the lowest first. A module imports from its own, from lower rows, and from its peers in `VOCABULARY`.
const ROWS: [&[&str]; 7] = [
    VOCABULARY,
    &["proto", "policy"],
    &["port", "time", "random", "sync", "memory"],
    &["service", "net"],
    &["cluster"],
    &["node"],
    &["lib", "prelude", "otel", "testing", "fuzzing", "__private"],
];

/// The lowest row, whose modules may know one another.
const VOCABULARY: &[&str] = &["id", "key", "error", "config", "event", "supervision", "trace"];

/// What a row may not know although it stands below.
const NEVER: [(&str, &str); 1] = [("cluster", "service")];

/// What the two lowest rows may not name: the runtime, sockets, the clock, threads, the system's randomness.
const IMPURE: [&str; 8] = [
    "tokio",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime",
    "std::thread",
    "getrandom",
];

#[test]
fn no_module_imports_upward() {
    let sources = sources();
    assert!(sources.len() > 40, "{} files only: is the folder right?", sources.len());
    let violations: Vec<_> = sources.iter().flat_map(|(path, text)| upward(path, text)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn the_vocabulary_and_the_cores_know_no_runtime_no_socket_and_no_clock() {
    let violations: Vec<_> = sources().iter().flat_map(|(path, text)| impure(path, text)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

/// The sources of the runtime: the path below `src`, and the text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let read = |path: PathBuf| {
        let below = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        (below, fs::read_to_string(&path).unwrap())
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The imports of a file that run upward or sideways.
fn upward(path: &str, text: &str) -> Vec<String> {
    let own = module(path);
    let Some(own_row) = row(own) else { return vec![format!("{path}:1: `{own}` stands in no row")] };
    let mut violations = Vec::new();
    for (line, target) in imports(text) {
        let problem = match row(&target) {
            None => "stands in no row",
            Some(_) if target == own || VOCABULARY.contains(&own) && VOCABULARY.contains(&&*target) => {
                continue;
            }
            Some(_) if own_row == ROWS.len() - 1 => continue, // the top knows everything
            Some(_) if NEVER.contains(&(own, &target)) => "must stay unknown to it",
            Some(row) if row > own_row => "stands above it",
            Some(row) if row == own_row => "stands beside it",
            Some(_) => continue,
        };
        violations.push(format!("{path}:{line}: `{own}` imports `{target}`, which {problem}"));
    }
    violations
}

/// What a file of the two lowest rows names and must not.
fn impure(path: &str, text: &str) -> Vec<String> {
    // The cores' own tests take a first instant from the clock.
    if row(module(path)).is_none_or(|row| row > 1) || path.contains("/tests/") {
        return Vec::new();
    }
    let named = |line: &str| IMPURE.into_iter().find(|name| line.contains(name));
    code(text)
        .filter_map(|(number, line)| Some(format!("{path}:{number}: names `{}`", named(line)?)))
        .collect()
}

/// The module of the crate that a file belongs to.
fn module(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|modules| modules.contains(&module))
}

/// The modules that follow `crate::` in a file, each with its line. What is no module is the crate's own surface.
fn imports(text: &str) -> Vec<(usize, String)> {
    let code: String = code(text).fold(String::new(), |text, (_, line)| text + line + "\n");
    let lines: Vec<_> = code_lines(text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = lines[code[..at].matches('\n').count()];
        let path = &code[at + "crate::".len()..];
        let names = match path.strip_prefix('{') {
            Some(group) => heads(group),
            None => vec![head(path)],
        };
        found.extend(names.into_iter().filter(|name| !name.is_empty()).map(|name| (line, surface(name))));
    }
    found
}

/// The first names of the paths in `{a::b, c::{d, e}}`, of which the opening brace is gone.
fn heads(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(head(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(head(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn head(path: &str) -> &str {
    let path = path.trim_start();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

/// A name that begins with a capital letter is one of those that `lib` exports.
fn surface(name: &str) -> String {
    if name.starts_with(char::is_uppercase) { "lib".to_owned() } else { name.to_owned() }
}

/// The lines that are no comments, each with its number.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn code_lines(text: &str) -> Vec<usize> {
    code(text).map(|(number, _)| number).collect()
}

#[test]
fn the_check_sees_what_runs_upward() {
    for (path, text, expected) in [
        ("net/driver.rs", "use crate::port::Link;\nuse crate::proto::frame;", None),
        ("event.rs", "use crate::id::NodeId;", None),
        (
            "net/driver.rs",
            "//! a\nuse crate::net::io;\nuse crate::service::call::Call;",
            Some("net/driver.rs:3: `net` imports `service`, which stands beside it"),
        ),
        (
            "service/call.rs",
            "use crate::net::peers;",
            Some("service/call.rs:1: `service` imports `net`, which stands beside it"),
        ),
        (
            "proto/frame.rs",
            "fn f(_: crate::port::Link) {}",
            Some("proto/frame.rs:1: `proto` imports `port`, which stands above it"),
        ),
        (
            "id.rs",
            "use crate::{\n    random,\n};",
            Some("id.rs:1: `id` imports `random`, which stands above it"),
        ),
        (
            "port.rs",
            "use crate::{error::{A, B}, node::Node};",
            Some("port.rs:1: `port` imports `node`, which stands above it"),
        ),
        ("port.rs", "use crate::Node;", Some("port.rs:1: `port` imports `lib`, which stands above it")),
        (
            "cluster/mod.rs",
            "use crate::service::host;",
            Some("cluster/mod.rs:1: `cluster` imports `service`, which must stay unknown to it"),
        ),
        (
            "node/mod.rs",
            "use crate::utils::x;",
            Some("node/mod.rs:1: `node` imports `utils`, which stands in no row"),
        ),
        ("utils.rs", "", Some("utils.rs:1: `utils` stands in no row")),
        ("policy/mod.rs", "// not `crate::node::x`\n/// [`crate::node`]\nfn f() {}", None),
        ("lib.rs", "pub use crate::node::Node;\nuse crate::{Call, Node};", None),
        ("__private.rs", "pub use crate::service::reply::Reply;", None),
    ] {
        assert_eq!(upward(path, text).first().map(String::as_str), expected, "{path}: {text}");
    }
}

#[test]
fn the_check_sees_what_is_impure() {
    for (path, text, expected) in [
        ("proto/frame.rs", "use std::time::Instant;\n", None),
        ("proto/frame.rs", "\nuse tokio::sync::mpsc;", Some("proto/frame.rs:2: names `tokio`")),
        ("event.rs", "let now = Instant::now();", Some("event.rs:1: names `Instant::now`")),
        ("config.rs", "// tokio is named in words", None),
        ("proto/tests/mod.rs", "Instant::now()", None),
        ("net/io.rs", "use tokio::net::TcpStream;", None),
    ] {
        assert_eq!(impure(path, text).first().map(String::as_str), expected, "{path}: {text}");
    }
}
