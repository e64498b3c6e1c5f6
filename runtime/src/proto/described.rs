//! What else is said of a name besides its instances: its labels, whether it is to be the only one in the cluster, which methods are
//! understood under it, and how much its instances have to do.
//!
//! Invariant: whatever is written here is within the limits with which it is read here.

use bytes::{BufMut, BytesMut};

use crate::config::Labels;
use crate::id::{InstanceId, MethodId};

use super::fields::{Fields, FrameError, put_count, put_string};
use super::frame::{Frame, LIST_FRAME, MAX_NAME, MAX_NAMES};

/// What a node says of its names. Each is a kind of frame, which earlier nodes skip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Described {
    /// Labels and claims.
    Traits(Vec<Description>),
    /// What is understood.
    Methods(Vec<Understood>),
    /// How many messages each instance has to do.
    Loads(Vec<(InstanceId, u32)>),
}

/// What is said of one name on its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// The name.
    pub(crate) name: String,
    /// When the node took the name, in milliseconds since 1970 by its clock, if no other node is to have it.
    pub(crate) claim: Option<u64>,
    pub(crate) labels: Labels,
}

/// The methods that the instances of one name understand on its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Understood {
    /// The name.
    pub(crate) name: String,
    /// At most [`MAX_METHODS`].
    pub(crate) methods: Vec<MethodId>,
}

/// How many methods of one name are told at most. Of an interface with more none are, and everybody believes that it understands all.
pub(crate) const MAX_METHODS: usize = 512;

/// How many loads one frame has at most.
const MAX_LOADS: usize = 1024;

impl Description {
    fn size(&self) -> usize {
        let labels = self.labels.iter().map(|(key, value)| 4 + key.len() + value.len());
        13 + self.name.len() + labels.sum::<usize>()
    }
}

impl Understood {
    fn size(&self) -> usize {
        4 + self.name.len() + 8 * self.methods.len()
    }
}

impl Described {
    /// Packs any number of descriptions into frames within every limit.
    pub(crate) fn traits(all: Vec<Description>) -> impl Iterator<Item = Frame> {
        pack(all, Description::size).map(Self::Traits).map(Frame::Described)
    }

    /// Packs what is understood under any number of names, as [`Described::traits`] does.
    pub(crate) fn methods(all: Vec<Understood>) -> impl Iterator<Item = Frame> {
        pack(all, Understood::size).map(Self::Methods).map(Frame::Described)
    }

    /// Packs any number of loads, as [`Described::traits`] does.
    pub(crate) fn loads(all: &[(InstanceId, u32)]) -> impl Iterator<Item = Frame> {
        all.chunks(MAX_LOADS).map(|part| Frame::Described(Self::Loads(part.to_vec())))
    }

    /// What the frame is called in a log.
    pub(super) fn frame(&self) -> &'static str {
        match self {
            Self::Traits(_) => "described",
            Self::Methods(_) => "methods",
            Self::Loads(_) => "loads",
        }
    }
}

fn pack<T>(all: Vec<T>, size_of: impl Fn(&T) -> usize) -> impl Iterator<Item = Vec<T>> {
    let mut frames: Vec<Vec<T>> = Vec::new();
    let mut size = LIST_FRAME;
    for one in all {
        size += size_of(&one);
        match frames.last_mut() {
            Some(last) if size <= LIST_FRAME && last.len() < MAX_NAMES => last.push(one),
            _ => {
                size = size_of(&one);
                frames.push(vec![one]);
            }
        }
    }
    frames.into_iter()
}

pub(super) fn write(described: &Described, out: &mut BytesMut) {
    match described {
        Described::Traits(descriptions) => write_traits(descriptions, out),
        Described::Methods(all) => {
            let all = &all[..all.len().min(MAX_NAMES)];
            put_count(out, all.len());
            for Understood { name, methods } in all {
                put_string(out, name, MAX_NAME);
                let methods = &methods[..methods.len().min(MAX_METHODS)];
                put_count(out, methods.len());
                for method in methods {
                    out.put_u32_le(method.name);
                    out.put_u32_le(method.signature);
                }
            }
        }
        Described::Loads(loads) => {
            let loads = &loads[..loads.len().min(MAX_LOADS)];
            put_count(out, loads.len());
            for (instance, load) in loads {
                out.put_u64_le(instance.0);
                out.put_u32_le(*load);
            }
        }
    }
}

fn write_traits(descriptions: &[Description], out: &mut BytesMut) {
    let descriptions = &descriptions[..descriptions.len().min(MAX_NAMES)];
    put_count(out, descriptions.len());
    for Description { name, claim, labels } in descriptions {
        put_string(out, name, MAX_NAME);
        out.put_u8(claim.is_some().into());
        if let Some(claim) = claim {
            out.put_u64_le(*claim);
        }
        put_count(out, labels.len().min(Labels::MAX));
        for (key, value) in labels.iter().take(Labels::MAX) {
            put_string(out, key, Labels::MAX_KEY);
            put_string(out, value, Labels::MAX_VALUE);
        }
    }
}

pub(super) fn read_traits(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let descriptions = fields.list("descriptions", MAX_NAMES, 5, |fields| {
        let name = fields.string("name", MAX_NAME)?.to_owned();
        let claim = if fields.bool("unique")? { Some(fields.u64("claim")?) } else { None };
        let labels = fields.list("labels", Labels::MAX, 4, |fields| {
            let key = fields.string("key", Labels::MAX_KEY)?.to_owned();
            Ok((key, fields.string("value", Labels::MAX_VALUE)?.to_owned()))
        })?;
        Ok(Description { name, claim, labels: labels.into_iter().collect() })
    })?;
    Ok(Frame::Described(Described::Traits(descriptions)))
}

pub(super) fn read_methods(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let all = fields.list("names", MAX_NAMES, 4, |fields| {
        let name = fields.string("name", MAX_NAME)?.to_owned();
        let methods = fields.list("methods", MAX_METHODS, 8, |fields| {
            Ok(MethodId { name: fields.u32("method")?, signature: fields.u32("signature")? })
        })?;
        Ok(Understood { name, methods })
    })?;
    Ok(Frame::Described(Described::Methods(all)))
}

pub(super) fn read_loads(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let loads = fields.list("loads", MAX_LOADS, 12, |fields| {
        Ok((InstanceId(fields.u64("instance")?), fields.u32("load")?))
    })?;
    Ok(Frame::Described(Described::Loads(loads)))
}
