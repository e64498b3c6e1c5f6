//! Supervision: who starts services, and starts them again.
//!
//! | file | what it is |
//! |---|---|
//! | `child` | what a supervisor knows of one child: how to begin its lives and how to end them |
//! | `run` | the supervisor's task |
//! | `ear`, `hear` | what it listens to, and what it makes of that |
//! | `asked` | what it does when it is asked for more children, or for fewer |
//! | `resize` | what it does when it is asked for another life of one, or for another number of them |
//! | `control` | how a supervisor is told to end, and what it is asked |
//!
//! What is decided is decided in [`crate::policy::restart`]; here it is carried out.

mod asked;
pub(crate) mod child;
pub(crate) mod control;
mod ear;
mod hear;
mod resize;
pub(crate) mod run;

#[cfg(test)]
mod tests;
