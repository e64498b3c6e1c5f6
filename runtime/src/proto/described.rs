//! What else is said of a name besides its instances: its labels, and whether it is to be the only one in the cluster.
//!
//! Invariant: whatever is written here is within the limits with which it is read here.

use bytes::{BufMut, BytesMut};

use crate::config::Labels;

use super::fields::{Fields, FrameError, put_count, put_string};
use super::frame::{Frame, LIST_FRAME, MAX_NAME, MAX_NAMES};

/// What is said of one name on its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// The name.
    pub(crate) name: String,
    /// When the node took the name, in milliseconds since 1970 by its clock, if no other node is to have it.
    pub(crate) claim: Option<u64>,
    pub(crate) labels: Labels,
}

impl Description {
    fn size(&self) -> usize {
        let labels = self.labels.iter().map(|(key, value)| 4 + key.len() + value.len());
        13 + self.name.len() + labels.sum::<usize>()
    }
}

/// Packs any number of descriptions into frames within every limit.
pub(crate) fn frames(descriptions: Vec<Description>) -> impl Iterator<Item = Frame> {
    let mut frames: Vec<Vec<Description>> = Vec::new();
    let mut size = LIST_FRAME;
    for description in descriptions {
        size += description.size();
        match frames.last_mut() {
            Some(last) if size <= LIST_FRAME && last.len() < MAX_NAMES => last.push(description),
            _ => {
                size = description.size();
                frames.push(vec![description]);
            }
        }
    }
    frames.into_iter().map(Frame::Described)
}

pub(super) fn write(descriptions: &[Description], out: &mut BytesMut) {
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

pub(super) fn read(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let descriptions = fields.list("descriptions", MAX_NAMES, 5, |fields| {
        let name = fields.string("name", MAX_NAME)?.to_owned();
        let claim = if fields.bool("unique")? { Some(fields.u64("claim")?) } else { None };
        let labels = fields.list("labels", Labels::MAX, 4, |fields| {
            let key = fields.string("key", Labels::MAX_KEY)?.to_owned();
            Ok((key, fields.string("value", Labels::MAX_VALUE)?.to_owned()))
        })?;
        Ok(Description { name, claim, labels: labels.into_iter().collect() })
    })?;
    Ok(Frame::Described(descriptions))
}
