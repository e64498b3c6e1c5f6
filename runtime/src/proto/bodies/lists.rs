//! What nodes tell of their names and of each other.

use bytes::{BufMut, BytesMut};

use crate::id::{Incarnation, InstanceId, NodeId};
use crate::proto::fields::{Fields, FrameError, put_address, put_count, put_string};
use crate::proto::frame::{
    Frame, MAX_INSTANCES, MAX_INTERFACE, MAX_MEMBERS, MAX_NAME, MAX_NAMES, Member, Members, NameEntry, Names,
};

pub(super) fn write_names(names: &Names, out: &mut BytesMut) {
    out.put_u8(names.complete.into());
    let entries = &names.entries[..names.entries.len().min(MAX_NAMES)];
    put_count(out, entries.len());
    for entry in entries {
        put_string(out, &entry.name, MAX_NAME);
        put_string(out, &entry.interface, MAX_INTERFACE);
        let instances = &entry.instances[..entry.instances.len().min(MAX_INSTANCES)];
        put_count(out, instances.len());
        for instance in instances {
            out.put_u64_le(instance.0);
        }
    }
}

/// The bytes that a name takes in a `Names` frame, or a few more.
pub(in crate::proto) fn name_size(entry: &NameEntry) -> usize {
    let instances = entry.instances.len().min(MAX_INSTANCES);
    6 + entry.name.len().min(MAX_NAME) + entry.interface.len().min(MAX_INTERFACE) + 8 * instances
}

pub(super) fn read_names(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let complete = fields.bool("complete")?;
    let entries = fields.list("entries", MAX_NAMES, 6, |fields| {
        Ok(NameEntry {
            name: fields.string("name", MAX_NAME)?.to_owned(),
            interface: fields.string("interface", MAX_INTERFACE)?.to_owned(),
            instances: fields.list("instances", MAX_INSTANCES, 8, |f| Ok(InstanceId(f.u64("instance")?)))?,
        })
    })?;
    Ok(Frame::Names(Names { complete, entries }))
}

pub(super) fn write_members(members: &Members, out: &mut BytesMut) {
    let members = &members.members[..members.members.len().min(MAX_MEMBERS)];
    put_count(out, members.len());
    for member in members {
        put_string(out, member.node.as_str(), NodeId::MAX_LEN);
        out.put_u64_le(member.incarnation.0);
        put_address(out, Some(member.address));
    }
}

pub(super) fn read_members(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let members = fields.list("members", MAX_MEMBERS, 18, |fields| {
        Ok(Member {
            node: fields.node("node")?,
            incarnation: Incarnation(fields.u64("incarnation")?),
            address: fields.address("address")?,
        })
    })?;
    Ok(Frame::Members(Members { members }))
}
