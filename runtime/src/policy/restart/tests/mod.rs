//! Tests of supervision: what OTP documents, what is ours, and that nothing confuses it.

mod any_input;
mod backoff;
mod lives;
mod many;
mod restarts;
mod script;
mod stops;
mod window;

/// Some instant to count from. Nothing in these tests waits: time is an argument.
#[expect(clippy::disallowed_methods, reason = "an instant cannot be made of nothing")]
fn start() -> std::time::Instant {
    std::time::Instant::now()
}
