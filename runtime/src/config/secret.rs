//! What the nodes of a cluster share.
//!
//! Invariant: shown to nobody.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the nodes of a cluster share, so that nobody else can join it: any bytes, at least
/// [`Secret::MIN_LEN`] of them. It never travels; each side of a connection proves that it has it.
///
/// `Debug` does not show it.
///
/// # Changing it while the cluster runs
/// `old.also_accept(&new)` on every node by [`Node::set_secret`](crate::Node::set_secret), then `new.also_accept(&old)` on
/// every node, then `new` alone. Connections that stand are not touched.
#[derive(Clone)]
pub struct Secret {
    bytes: Arc<[u8]>,
    /// Those by which a dialler may prove itself as well.
    accepted: Vec<Arc<[u8]>>,
}

impl Secret {
    /// The shortest secret, in bytes.
    pub const MIN_LEN: usize = 16;

    /// The largest secret file, in bytes. What is larger is not a secret but a mistaken path.
    const MAX_FILE: u64 = 64 * 1024;

    /// Makes a secret from its bytes.
    ///
    /// # Errors
    /// [`SecretError::TooShort`] if there are fewer than [`Secret::MIN_LEN`] bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        let bytes = bytes.as_ref();
        if bytes.len() < Self::MIN_LEN {
            return Err(SecretError::TooShort { len: bytes.len() });
        }
        Ok(Self { bytes: bytes.into(), accepted: Vec::new() })
    }

    /// Reads a secret from a file: its whole content, of at most 64 KiB, without one line end at its end.
    ///
    /// # Errors
    /// [`SecretError::Unreadable`] if the file cannot be read, [`SecretError::Unusable`] if what it holds is
    /// no secret. Both name the file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SecretError> {
        use std::io::Read;

        let path = path.as_ref();
        let mut content = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(Self::MAX_FILE + 1).read_to_end(&mut content))
            .map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })?;
        let unusable = |problem| SecretError::Unusable { path: path.to_owned(), problem };
        if content.len() as u64 > Self::MAX_FILE {
            return Err(unusable(format!("holds more than {} bytes", Self::MAX_FILE)));
        }
        let secret = content.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let secret = secret.unwrap_or(&content);
        Self::new(secret).map_err(|_| {
            unusable(format!("holds {} bytes, at least {} were expected", secret.len(), Self::MIN_LEN))
        })
    }

    /// The same secret, with another one that nodes which dial this one may have in its place. This node itself dials with
    /// the first.
    #[must_use]
    pub fn also_accept(mut self, other: &Self) -> Self {
        self.accepted.push(Arc::clone(&other.bytes));
        self
    }

    /// The bytes, for the handshake alone.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// It and those that it accepts as well, each alone.
    pub(crate) fn each(&self) -> impl Iterator<Item = Self> {
        let all = std::iter::once(&self.bytes).chain(&self.accepted);
        all.map(|bytes| Self { bytes: Arc::clone(bytes), accepted: Vec::new() })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why bytes or a file gave no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// There are too few bytes to be safe against guessing.
    #[error("a secret of {len} bytes, at least {} were expected", Secret::MIN_LEN)]
    TooShort {
        /// How many there are.
        len: usize,
    },
    /// The file cannot be read.
    #[error("cannot read the secret file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file can be read, but does not hold a secret.
    #[error("the secret file {} {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8], test: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("skyhold-secret-{test}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn a_short_secret_is_refused_with_what_was_expected() {
        let error = Secret::new("0123456789abcde").unwrap_err();
        assert_eq!(error.to_string(), "a secret of 15 bytes, at least 16 were expected");
        assert_eq!(Secret::new("0123456789abcdef").unwrap().as_bytes(), b"0123456789abcdef");
    }

    #[test]
    fn a_secret_file_may_end_in_one_line_end() {
        for (content, expected) in [
            (&b"0123456789abcdef"[..], &b"0123456789abcdef"[..]),
            (b"0123456789abcdef\n", b"0123456789abcdef"),
            (b"0123456789abcdef\r\n", b"0123456789abcdef"),
            (b"0123456789abcdef\n\n", b"0123456789abcdef\n"),
        ] {
            let path = file(content, "line-end");
            assert_eq!(Secret::from_file(&path).unwrap().as_bytes(), expected);
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_file_that_holds_no_secret_is_named() {
        for (content, problem) in [
            (vec![], "holds 0 bytes, at least 16 were expected"),
            (b"short\n".to_vec(), "holds 5 bytes, at least 16 were expected"),
            (vec![b'x'; 65_537], "holds more than 65536 bytes"),
        ] {
            let path = file(&content, "unusable");
            let error = Secret::from_file(&path).unwrap_err().to_string();
            assert_eq!(error, format!("the secret file {} {problem}", path.display()));
            std::fs::remove_file(path).unwrap();
        }
        let error = Secret::from_file("/nonexistent/cluster.key").unwrap_err();
        assert_eq!(error.to_string(), "cannot read the secret file /nonexistent/cluster.key");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn debug_does_not_show_a_secret() {
        assert_eq!(format!("{:?}", Secret::new("0123456789abcdef").unwrap()), "Secret(..)");
    }
}
