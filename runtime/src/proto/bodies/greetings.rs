//! The frames of the handshake.

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::{Incarnation, NodeId, check_name};
use crate::proto::fields::{Fields, FrameError, put_address, put_string};
use crate::proto::frame::{
    Challenge, Frame, Hello, MAX_CLUSTER, MAX_TEXT, Refuse, RefuseReason, SMALLEST_LIMIT, Welcome,
};

/// The first bytes of every `Hello`.
const MAGIC: [u8; 8] = *b"SKYHOLD\0";

pub(super) fn write_hello(hello: &Hello, out: &mut BytesMut) {
    out.put_slice(&MAGIC);
    out.put_u16_le(*hello.versions.start());
    out.put_u16_le(*hello.versions.end());
    out.put_u64_le(hello.features);
    out.put_u8(hello.has_secret.into());
    put_string(out, &hello.cluster, MAX_CLUSTER);
    put_string(out, hello.node.as_str(), NodeId::MAX_LEN);
    out.put_u64_le(hello.incarnation.0);
    put_address(out, hello.listen);
    out.put_u32_le(hello.max_frame);
    out.put_slice(&hello.nonce);
    out.put_slice(&hello.later);
}

pub(super) fn read_hello(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    if fields.array("magic")? != MAGIC {
        return Err(FrameError::Magic);
    }
    let (min, max) = (fields.u16("min version")?, fields.u16("max version")?);
    if min > max {
        return Err(fields.wrong("max version", max.into(), "at least the min version"));
    }
    let features = fields.u64("features")?;
    let has_secret = fields.bool("has_secret")?;
    let cluster = fields.string("cluster", MAX_CLUSTER)?;
    check_name("cluster", cluster, MAX_CLUSTER)?;
    Ok(Frame::Hello(Box::new(Hello {
        versions: min..=max,
        features,
        has_secret,
        cluster: cluster.to_owned(),
        node: fields.node("node")?,
        incarnation: Incarnation(fields.u64("incarnation")?),
        listen: fields.optional_address("listen")?,
        max_frame: read_max_frame(fields)?,
        nonce: fields.array("nonce")?,
        later: Bytes::copy_from_slice(fields.rest()),
    })))
}

pub(super) fn write_challenge(challenge: &Challenge, out: &mut BytesMut) {
    out.put_u16_le(challenge.version);
    out.put_u64_le(challenge.features);
    out.put_u8(challenge.needs_secret.into());
    out.put_slice(&challenge.nonce);
}

pub(super) fn read_challenge(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    Ok(Frame::Challenge(Challenge {
        version: fields.u16("version")?,
        features: fields.u64("features")?,
        needs_secret: fields.bool("needs_secret")?,
        nonce: fields.array("nonce")?,
    }))
}

pub(super) fn write_welcome(welcome: &Welcome, out: &mut BytesMut) {
    put_string(out, welcome.node.as_str(), NodeId::MAX_LEN);
    out.put_u64_le(welcome.incarnation.0);
    put_address(out, welcome.listen);
    out.put_u32_le(welcome.max_frame);
    out.put_slice(&welcome.mac);
}

pub(super) fn read_welcome(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    Ok(Frame::Welcome(Box::new(Welcome {
        node: fields.node("node")?,
        incarnation: Incarnation(fields.u64("incarnation")?),
        listen: fields.optional_address("listen")?,
        max_frame: read_max_frame(fields)?,
        mac: fields.array("mac")?,
    })))
}

fn read_max_frame(fields: &mut Fields<'_>) -> Result<u32, FrameError> {
    match fields.u32("max_frame")? {
        small if (small as usize) < SMALLEST_LIMIT => {
            Err(fields.wrong("max_frame", small.into(), "at least 65536"))
        }
        enough => Ok(enough),
    }
}

pub(super) fn read_refuse(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let reason = RefuseReason::from_code(fields.u8("reason")?);
    Ok(Frame::Refuse(Refuse { reason, detail: fields.string("detail", MAX_TEXT)?.to_owned() }))
}
