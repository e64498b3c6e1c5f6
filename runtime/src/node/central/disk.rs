//! The holder's file: a line that says what it is with a checksum of all that follows, and a text of TOML.
//!
//! Invariant: the file is what it was or what it is to be, whenever the power goes: another file is written and flushed, and takes
//! its name. What is not whole is refused, never passed over.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{Incarnation, NodeId};

use super::space::{SettingVersion, Space, Version};

/// What a file begins with. The number is that of its form.
const MARK: &str = "# skyhold central configuration 1, sha256 ";

/// The body of a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    version: u64,
    #[serde(default)]
    setting: Vec<Line>,
}

/// One version of a setting.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    version: u64,
    by: String,
    /// Milliseconds since the epoch.
    at: u64,
    /// Without it the setting was deleted.
    value: Option<String>,
}

/// What became of a file that was written.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is as it was.
    Unchanged(io::Error),
    /// It has its new content, which may be gone after a loss of power.
    Unflushed(io::Error),
}

/// Reads the file; a space without settings if there is none. Blocks.
///
/// # Errors
/// Why the file cannot be used.
pub(super) fn read(file: &Path) -> Result<Space, String> {
    let text = match fs::read(file) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is damaged: it is no text".to_owned())?,
        Err(error) if error.kind() == ErrorKind::NotFound && folder(file).is_dir() => {
            return Ok(Space::default());
        }
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let rest = text.strip_prefix(MARK);
    let (sum, body) = rest.and_then(|rest| rest.split_once('\n')).ok_or_else(|| {
        format!("is damaged, or no central configuration: it does not begin with {MARK:?} and a checksum")
    })?;
    if sum.trim_end() != checksum(body) {
        return Err(
            "is damaged or was edited: its checksum is another one. Put a copy in its place".to_owned()
        );
    }
    let body: Body = toml::from_str(body).map_err(|error| format!("cannot be used: {error}"))?;
    space(body).map_err(|problem| format!("cannot be used: {problem}"))
}

/// Writes the file, for this life of the node, unless that is over before it is there. Blocks.
pub(super) fn write(
    file: &Path,
    space: &Space,
    life: Incarnation,
    is_over: impl Fn() -> bool,
) -> Result<(), Failure> {
    let text = text(space).map_err(|error| Failure::Unchanged(io::Error::other(error)))?;
    let next = file.with_file_name(format!("{}{}", beginning(file), life.0));
    fill(&next, &text).map_err(Failure::Unchanged)?;
    if is_over() {
        // The next life has the file.
        return Err(Failure::Unchanged(io::Error::other("the node has ended")));
    }
    fs::rename(&next, file).map_err(Failure::Unchanged)?;
    flush_folder(file).map_err(Failure::Unflushed)
}

/// Takes away what earlier lives have not brought to its end. It is never read. Blocks.
pub(super) fn clean(file: &Path) {
    let beginning = beginning(file);
    let Ok(entries) = fs::read_dir(folder(file)) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&beginning) {
            drop(fs::remove_file(entry.path())); // it does no harm
        }
    }
}

/// What the names of the files begin with in which a new content is until it is whole: one for each life.
fn beginning(file: &Path) -> String {
    format!("{}.new-", file.file_name().unwrap_or_default().to_string_lossy())
}

fn fill(file: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// That the name leads to the new file is in the folder, which is flushed for itself where a system lets one do so.
fn flush_folder(file: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    File::open(folder(file))?.sync_all()
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn text(space: &Space) -> Result<String, toml::ser::Error> {
    let line = |setting: &SettingVersion| {
        let at = setting.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Line {
            key: setting.key.clone(),
            version: setting.version.0,
            by: setting.by.to_string(),
            at: u64::try_from(at).unwrap_or(u64::MAX),
            value: setting.value.clone(),
        }
    };
    let setting = space.records.values().flatten().map(line).collect();
    let body = toml::to_string_pretty(&Body { version: space.version.0, setting })?;
    Ok(format!("{MARK}{}\n{body}", checksum(&body)))
}

fn space(body: Body) -> Result<Space, String> {
    let mut records: BTreeMap<String, VecDeque<SettingVersion>> = BTreeMap::new();
    for Line { key, version, by, at, value } in body.setting {
        let by = NodeId::new(&by).map_err(|error| error.to_string())?;
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(at)).ok_or("a time is out of range")?;
        let setting = SettingVersion { key: key.clone(), version: Version(version), value, by, at };
        let record = records.entry(key).or_default();
        if version > body.version || record.back().is_some_and(|last| last.version >= setting.version) {
            return Err(format!("`{}` has the version {version} behind a later one", setting.key));
        }
        record.push_back(setting);
    }
    Ok(Space { counter: body.version, version: Version(body.version), records })
}

fn checksum(body: &str) -> String {
    let digits: Vec<_> = Sha256::digest(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}
