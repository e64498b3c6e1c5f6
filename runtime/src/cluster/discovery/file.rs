//! The addresses in a file that somebody else writes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::is_address;
use crate::time;

use super::{AskingNode, Discovery, DiscoveryError, DiscoveryFuture};

/// The largest file, in bytes. What is larger is not a list of addresses but a mistaken path.
const MAX_FILE: u64 = 1024 * 1024;

/// How far apart two looks are that have to see the same.
const LOOKS_APART: Duration = Duration::from_millis(200);

/// How many looks there are before somebody is said to write on and on.
const LOOKS: usize = 10;

/// How much of a line is shown, in characters.
const SHOWN: usize = 80;

/// The addresses in a file: one a line as `host:port`, where the host may be a name. Empty lines count for nothing, nor does what
/// follows a `#`.
///
/// The file is read anew for each question, whether or not it has another time, so that it does not matter how it was put there. Two
/// reads 200 ms apart have to give the same, so that it may be written in place. A file that is not there, is larger than 1 MiB or has
/// a line that is no address changes nothing; the error names the file and the line. An empty file is a list without addresses.
///
/// ```
/// # use skyhold::{AddressFile, Node};
/// let node = Node::builder("a").discover(AddressFile::new("/etc/skyhold/peers"));
/// ```
#[derive(Debug, Clone)]
pub struct AddressFile {
    file: PathBuf,
}

impl AddressFile {
    /// The addresses in that file.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into() }
    }

    /// A content that two looks have seen.
    async fn settled(&self) -> Result<Vec<u8>, DiscoveryError> {
        let mut last = self.content().await?;
        for _ in 1..LOOKS {
            time::sleep(LOOKS_APART).await;
            let content = self.content().await?;
            if content == last {
                return Ok(content);
            }
            last = content;
        }
        Err(DiscoveryError::BeingWritten(self.file.clone()))
    }

    async fn content(&self) -> Result<Vec<u8>, DiscoveryError> {
        let file = self.file.clone();
        let read =
            tokio::task::spawn_blocking(move || read(&file)).await.unwrap_or_else(|end| Err(end.into()));
        read.map_err(|source| DiscoveryError::Unreadable { file: self.file.clone(), source })
    }
}

impl Discovery for AddressFile {
    fn find<'a>(&'a self, _node: &'a AskingNode) -> DiscoveryFuture<'a, Vec<String>> {
        Box::pin(async move {
            let content = self.settled().await?;
            addresses(&self.file, &String::from_utf8_lossy(&content))
        })
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(file)?.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(content)
}

fn addresses(file: &Path, text: &str) -> Result<Vec<String>, DiscoveryError> {
    let mut addresses = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let address = text.split('#').next().unwrap_or_default().trim();
        if is_address(address, 1) {
            addresses.push(address.to_owned());
        } else if !address.is_empty() {
            let text = address.chars().take(SHOWN).collect();
            return Err(DiscoveryError::InvalidLine { file: file.to_owned(), line, text });
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        addresses(Path::new("peers"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_is_an_address_and_what_follows_a_number_sign_is_nothing() {
        let text = "# peers\n10.0.0.1:7001\n\n  node-b:7001 # the second\r\n[::1]:7001";
        assert_eq!(read(text).unwrap(), ["10.0.0.1:7001", "node-b:7001", "[::1]:7001"]);
        assert_eq!(read("").unwrap(), [""; 0]);
    }

    #[test]
    fn a_line_that_is_no_address_is_named_and_nothing_is_taken() {
        let expected = "is no address; expected one such as 10.0.0.2:7001";
        for (text, line, shown) in [
            ("a:1\nb", 2, "b"),
            ("a:1\n\nb:1 c:1\n", 3, "b:1 c:1"),
            ("a:0", 1, "a:0"),
            ("\u{fffd}", 1, "\u{fffd}"),
        ] {
            assert_eq!(read(text).unwrap_err(), format!("peers:{line}: {shown:?} {expected}"));
        }
    }
}
