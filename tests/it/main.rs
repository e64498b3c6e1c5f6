//! What the project promises, seen from outside. A test's name is the claim that it proves.

#![allow(clippy::disallowed_methods, reason = "a test owns its tasks, and its clock is paused")]

mod balancing;
mod calls;
mod cancellation;
mod compatible;
mod concurrency;
mod config;
mod credit;
mod deadlines;
mod deadlock;
mod dialling;
mod drain;
mod errors;
mod faults;
mod gate;
mod handles;
mod handshake;
mod hostile;
mod layers;
mod lifecycle;
mod members;
mod names;
mod nested;
mod nodes;
mod overload;
mod processes;
mod public_api;
mod races;
mod raw;
mod reconnecting;
mod remote;
mod rerouting;
mod revisions;
mod security;
mod streaming;
mod stuck;
mod supervision;
mod timers;
mod topics;
mod travelling;
mod watching;
