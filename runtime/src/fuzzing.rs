//! What is fed with any bytes at all: the bodies of the fuzz targets in `tests/fuzz`, which the unit tests run on the kept
//! corpora too.
//!
//! A body panics where the code under it breaks a promise. It must never depend on anything but its input: no chance, no
//! order of a hash table, no clock whose reading matters.

mod connection;
mod frames;
mod handshake;
mod input;
mod payload;

pub use connection::connection;
pub use frames::frames;
pub use handshake::handshake;
pub use payload::payload;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs a target on each file that is kept for it.
    fn replay(target: &str, body: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() > 10, "{} files in {}", files.len(), folder.display());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let ran = std::panic::catch_unwind(|| body(&bytes));
            assert!(ran.is_ok(), "{} fails, see above", file.display());
        }
    }

    #[test]
    fn what_was_found_for_frames_does_no_harm() {
        replay("frames", super::frames);
    }

    #[test]
    fn what_was_found_for_the_handshake_does_no_harm() {
        replay("handshake", super::handshake);
    }

    #[test]
    fn what_was_found_for_a_connection_does_no_harm() {
        replay("connection", super::connection);
    }

    #[test]
    fn what_was_found_for_payloads_does_no_harm() {
        replay("payload", super::payload);
    }
}
