//! Pure decisions: no task, no socket, no clock.

pub(crate) mod backoff;
#[cfg_attr(not(test), expect(dead_code, reason = "nothing drives it yet"))]
pub(crate) mod restart;
