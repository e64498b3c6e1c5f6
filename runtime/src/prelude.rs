//! What a small program needs: `use skyhold::prelude::*;`.

pub use crate::{
    Balance, Call, CallError, Context, Down, Lookup, Node, NodeId, Reply, Secret, ServiceHandle, StopReason,
    Stream, Streaming, Topic, service,
};
