//! What the expansion of `#[service]` names, and nothing else does. Not covered by semantic versioning.

pub use serde;

pub use crate::config::{Overflow, Queued};
pub use crate::node::travel::{Travel, Travels, TravelsNot};
pub use crate::proto::codec::{CodecError, Encoder};
pub use crate::service::context::Scope;
pub use crate::service::definition::{
    DefaultSettings, IntoStartResult, Service, Settings, StartFailure, start_result,
};
pub use crate::service::dispatch::{
    Answer, Outcome, answer, answer_now, answer_watched, wrong_receiver, wrong_variant,
};
pub use crate::service::handle::{Handle, ServiceHandle};
pub use crate::service::message::{Message, Method, Receiver, Wire, WireMessage};
pub use crate::service::payload::{DecodeError, Decoder, PlainForm, ReplyForm, ResultForm};
pub use crate::service::reply::{Reply, ReplyPath};
pub use crate::service::spoken::{ArgumentError, Arguments, Fields, TextPath, show_reply};
pub use crate::service::streaming::{stream_in_result, stream_reply};
pub use crate::service::stub::Stub;
pub use crate::service::verdict::{Judge, JudgeAny, JudgeResult};

/// Has no value: it closes the variant that carries a generic enum's unused parameters.
#[derive(Debug)]
pub enum Never {}
