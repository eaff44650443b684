//! Measures a message before it is decoded: two bytes on the wire can become an empty sub-message
//! of two hundred bytes in memory. Also finds fields that this version does not know, which the
//! decoder would drop. The types of the fields come from the descriptors.

use std::collections::HashMap;

use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

/// The maximum nesting of messages. Keyward's messages nest less.
const MAX_DEPTH: u32 = 16;
/// The size of a `String`, `Vec` or `Bytes` without its contents.
const POINTERS: usize = 24;
const SCALAR: usize = 8;
/// A vector starts with a capacity of four elements, and doubles it when it grows.
const DOUBLED: usize = 2;
const FIRST: usize = 4;

/// The result of measuring a message.
#[derive(Debug)]
pub(super) struct Measured {
    /// The estimated size of the decoded message in bytes.
    pub(super) cost: usize,
    /// The path of the first unknown field, innermost part first: its number, then the names of the
    /// fields that contain it.
    unknown: Vec<String>,
}

impl Measured {
    /// The path of the first unknown field: `tenant.policy.12`.
    pub(super) fn unknown_field(&self) -> Option<String> {
        let parts: Vec<_> = self.unknown.iter().rev().map(String::as_str).collect();
        (!parts.is_empty()).then(|| parts.join("."))
    }
}

/// The message types, by [`ShapeId`].
#[derive(Debug, Default)]
pub(super) struct Shapes(Vec<Shape>);

/// The index of a message type in [`Shapes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShapeId(usize);

/// A message type: its fields, and its size in memory without heap allocations.
#[derive(Debug, Default)]
struct Shape {
    size: usize,
    fields: Vec<FieldShape>,
}

#[derive(Debug)]
struct FieldShape {
    name: String,
    number: u32,
    is_repeated: bool,
    kind: FieldKind,
}

#[derive(Clone, Copy, Debug)]
enum FieldKind {
    Scalar,
    Text,
    Message(ShapeId),
}

impl Shapes {
    /// Collects all message types of these files. Also returns the id of each by its name.
    pub(super) fn new(files: &[&FileDescriptorSet]) -> (Self, HashMap<String, ShapeId>) {
        let mut found = Vec::new();
        for file in files.iter().flat_map(|set| &set.file) {
            for message in &file.message_type {
                collect(&format!(".{}", file.package()), message, &mut found);
            }
        }
        let names: HashMap<_, _> =
            found.iter().enumerate().map(|(n, (name, _))| (name.clone(), ShapeId(n))).collect();
        let shape = |message: &DescriptorProto| Shape {
            size: 0,
            fields: message
                .field
                .iter()
                .map(|field| FieldShape {
                    name: field.name().to_owned(),
                    number: u32::try_from(field.number()).unwrap_or_default(),
                    is_repeated: field.label() == Label::Repeated,
                    kind: match field.r#type() {
                        Type::String | Type::Bytes => FieldKind::Text,
                        Type::Message | Type::Group => names
                            .get(field.type_name())
                            .map_or(FieldKind::Text, |id| FieldKind::Message(*id)),
                        _ => FieldKind::Scalar,
                    },
                })
                .collect(),
        };
        let mut shapes = Self(found.iter().map(|(_, message)| shape(message)).collect());
        let sizes: Vec<_> =
            (0..shapes.0.len()).map(|n| shapes.size(ShapeId(n), MAX_DEPTH)).collect();
        for (shape, size) in shapes.0.iter_mut().zip(sizes) {
            shape.size = size;
        }
        (shapes, names)
    }

    /// The size of a message type in memory. A singular message field is stored inline.
    fn size(&self, id: ShapeId, depth: u32) -> usize {
        let each = self.0[id.0].fields.iter().map(|field| match field.kind {
            FieldKind::Message(inner) if !field.is_repeated && depth > 0 => {
                SCALAR + self.size(inner, depth - 1)
            }
            FieldKind::Scalar if !field.is_repeated => SCALAR,
            _ => POINTERS,
        });
        each.fold(SCALAR, usize::saturating_add)
    }

    /// Measures a message approximately. Returns `None` if it is malformed or nests too deeply.
    pub(super) fn measure(&self, id: ShapeId, message: &[u8]) -> Option<Measured> {
        let mut measured = Measured { cost: self.0[id.0].size, unknown: Vec::new() };
        self.walk(id, message, MAX_DEPTH, &mut measured)?;
        Some(measured)
    }

    fn walk(
        &self,
        id: ShapeId,
        mut rest: &[u8],
        depth: u32,
        measured: &mut Measured,
    ) -> Option<()> {
        let shape = &self.0[id.0];
        let mut seen = 0_u64;
        while !rest.is_empty() {
            let (number, wire) = decode_key(&mut rest).ok()?;
            let place = shape.fields.iter().position(|field| field.number == number);
            let field = place.map(|place| &shape.fields[place]);
            let is_first = place.is_some_and(|place| seen & (1 << (place & 63)) == 0);
            seen |= place.map_or(0, |place| 1 << (place & 63));
            let payload = payload(wire, &mut rest)?;
            // The decoder skips unknown fields, so they cost nothing.
            let Some(field) = field else {
                if measured.unknown.is_empty() {
                    measured.unknown.push(number.to_string());
                }
                continue;
            };
            let factor = if is_first { FIRST } else { DOUBLED };
            let cost = &mut measured.cost;
            match field.kind {
                FieldKind::Scalar if field.is_repeated => {
                    *cost += SCALAR * payload.len().max(factor) * DOUBLED;
                }
                FieldKind::Scalar => {}
                FieldKind::Text => {
                    *cost += payload.len();
                    *cost += if field.is_repeated { POINTERS * factor } else { 0 };
                }
                FieldKind::Message(inner) => {
                    *cost += if field.is_repeated { self.0[inner.0].size * factor } else { 0 };
                    let was_known = measured.unknown.is_empty();
                    self.walk(inner, payload, depth.checked_sub(1)?, measured)?;
                    if was_known && !measured.unknown.is_empty() {
                        measured.unknown.push(field.name.clone());
                    }
                }
            }
        }
        Some(())
    }
}

/// The payload of a field. It is empty for a varint.
fn payload<'a>(wire: WireType, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = match wire {
        WireType::Varint => {
            decode_varint(rest).ok()?;
            return Some(&[]);
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(rest).ok()?).ok()?,
        // Only proto2 has groups.
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (payload, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(payload)
}

fn collect<'a>(
    around: &str,
    message: &'a DescriptorProto,
    found: &mut Vec<(String, &'a DescriptorProto)>,
) {
    let name = format!("{around}.{}", message.name());
    for nested in &message.nested_type {
        collect(&name, nested, found);
    }
    found.push((name, message));
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::{self, access, admin, token};

    fn decoded(name: &str, bytes: &[u8]) -> Option<usize> {
        let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let (shapes, names) = Shapes::new(&[&set]);
        shapes.measure(names[name], bytes).map(|measured| measured.cost)
    }

    #[test]
    fn cost_of_empty_sub_messages_covers_their_memory() {
        let profile =
            admin::Profile { scopes: vec![admin::Scope::default(); 10_000], ..Default::default() };
        let request = admin::ApplyProfileRequest { profile: Some(profile), ..Default::default() };
        let cost = decoded(".keyward.admin.v1.ApplyProfileRequest", &request.encode_to_vec());
        let least = 10_000 * size_of::<admin::Scope>();
        assert!((least..4 * least).contains(&cost.unwrap()), "{cost:?} {least}");

        let batch = access::BatchCheckAccessRequest {
            requests: vec![access::CheckAccessRequest::default(); 1000],
        };
        let cost = decoded(".keyward.access.v1.BatchCheckAccessRequest", &batch.encode_to_vec());
        let least = 1000 * size_of::<access::CheckAccessRequest>();
        assert!((least..4 * least).contains(&cost.unwrap()), "{cost:?} {least}");
    }

    #[test]
    fn cost_of_strings_includes_header_and_bytes() {
        let issue = |scopes: Vec<String>| {
            let request = token::IssueTokenRequest { scopes, ..Default::default() };
            decoded(".keyward.token.v1.IssueTokenRequest", &request.encode_to_vec()).unwrap()
        };
        let nothing = issue(Vec::new());
        assert!(issue(vec![String::new(); 1000]) - nothing >= 24_000);
        assert!((4096..4300).contains(&(issue(vec!["x".repeat(4096)]) - nothing)));
    }

    #[test]
    fn unknown_field_is_found_at_any_depth() {
        let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let (shapes, names) = Shapes::new(&[&set]);
        let unknown = |bytes: &[u8]| {
            let shape = names[".keyward.admin.v1.UpdateTenantRequest"];
            shapes.measure(shape, bytes).unwrap().unknown_field()
        };
        assert_eq!(unknown(&admin::UpdateTenantRequest::default().encode_to_vec()), None);
        // Field 100, a number: beside the tenant, in it, and in its policy.
        let field = [0xa0, 0x06, 1];
        assert_eq!(unknown(&field).as_deref(), Some("100"));
        assert_eq!(unknown(&[&[0x0a, 3][..], &field].concat()).as_deref(), Some("tenant.100"));
        let policy = [&[0x0a, 5, 0x52, 3][..], &field].concat();
        assert_eq!(unknown(&policy).as_deref(), Some("tenant.policy.100"));
    }

    #[test]
    fn malformed_message_has_no_cost() {
        for bytes in [&[0xff][..], &[0x0a, 5, 1], &[0x0b], &[0; 3]] {
            assert_eq!(decoded(".keyward.token.v1.IssueTokenRequest", bytes), None, "{bytes:?}");
        }
    }
}
