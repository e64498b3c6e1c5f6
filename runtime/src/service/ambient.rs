//! The node for which a value is being read, and the connection that brought it: what a handle in it leads from, and what a
//! stream in it comes over.
//!
//! It is ambient, as serde has no place for it: for the reading alone, and never across a wait. What is read inside of a
//! handler, from whatever source, is read for the handler's node.
//!
//! Invariant: it keeps no node alive, and nobody finds anything by it but whoever reads a value.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use crate::port::Link;
use crate::service::context;
use crate::service::host::Host;

thread_local! {
    /// The node for which this thread has read last. Kept, so that reading again costs a comparison.
    static HOST: RefCell<Weak<Host>> = const { RefCell::new(Weak::new()) };
    /// The connection that brought what it read last.
    static LINK: RefCell<Weak<Link>> = const { RefCell::new(Weak::new()) };
    /// Whether it reads for them now.
    static READS: Cell<bool> = const { Cell::new(false) };
}

/// For which node a value is read.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) host: Arc<Host>,
    /// Whether what is read came from a peer, and not from whatever a handler reads.
    pub(crate) is_from_peer: bool,
}

/// Runs `f`, which reads what came from a peer; streams are read from `link` alone.
#[inline]
pub(crate) fn reading<T>(host: &Arc<Host>, link: Option<&Arc<Link>>, f: impl FnOnce() -> T) -> T {
    /// Puts it back as it was, also in an unwind.
    struct Leave(bool);
    impl Drop for Leave {
        fn drop(&mut self) {
            READS.set(self.0);
        }
    }
    HOST.with_borrow_mut(|known| {
        if !std::ptr::eq(known.as_ptr(), Arc::as_ptr(host)) {
            *known = Arc::downgrade(host);
        }
    });
    LINK.with_borrow_mut(|known| {
        if known.as_ptr() != link.map_or(std::ptr::null(), Arc::as_ptr) {
            *known = link.map(Arc::downgrade).unwrap_or_default();
        }
    });
    let _leave = Leave(READS.replace(true));
    f()
}

/// The node for which the present thread reads what came over a connection, and the connection.
pub(crate) fn source() -> Option<(Arc<Host>, Arc<Link>)> {
    if !READS.get() {
        return None;
    }
    Some((HOST.with_borrow(Weak::upgrade)?, LINK.with_borrow(Weak::upgrade)?))
}

/// The node for which the present thread reads, if it does.
pub(crate) fn reader() -> Option<Reader> {
    if READS.get() {
        let host = HOST.with_borrow(Weak::upgrade)?;
        return Some(Reader { host, is_from_peer: true });
    }
    let host = Arc::clone(context::current_instance()?.host());
    Some(Reader { host, is_from_peer: false })
}
