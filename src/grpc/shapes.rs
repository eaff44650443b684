//! What a message takes when it is decoded, found out before it is: two bytes on the wire can
//! become an empty sub-message of two hundred. And whether it has a field that this version does
//! not know, which the decoder would drop. The descriptors say what each field is.

use std::collections::HashMap;

use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

/// How deep messages nest; ours are far from it.
const MAX_DEPTH: u32 = 16;
/// A `String`, `Vec` or `Bytes` itself.
const POINTERS: usize = 24;
const SCALAR: usize = 8;
/// A vector grows by doubling, from four elements.
const DOUBLED: usize = 2;
const FIRST: usize = 4;

/// What is known of a message before it is decoded.
#[derive(Debug)]
pub(super) struct Measured {
    /// How many bytes it takes once it is decoded.
    pub(super) cost: usize,
    /// The number of the first field that is not known, and the fields around it, from within.
    unknown: Vec<String>,
}

impl Measured {
    /// The path of the first field that is not known, if there is any: `tenant.policy.12`.
    pub(super) fn unknown_field(&self) -> Option<String> {
        let parts: Vec<_> = self.unknown.iter().rev().map(String::as_str).collect();
        (!parts.is_empty()).then(|| parts.join("."))
    }
}

/// The types of messages.
#[derive(Debug, Default)]
pub(super) struct Shapes(Vec<Shape>);

/// A type of message, in [`Shapes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShapeId(usize);

/// The fields of a type of message, and its size in memory without what it points to.
#[derive(Debug, Default)]
struct Shape {
    size: usize,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    name: String,
    number: u32,
    is_repeated: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Scalar,
    Text,
    Message(ShapeId),
}

impl Shapes {
    /// The types of all messages in these files, and where each one's is.
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
                .map(|field| Field {
                    name: field.name().to_owned(),
                    number: u32::try_from(field.number()).unwrap_or_default(),
                    is_repeated: field.label() == Label::Repeated,
                    kind: match field.r#type() {
                        Type::String | Type::Bytes => Kind::Text,
                        Type::Message | Type::Group => {
                            names.get(field.type_name()).map_or(Kind::Text, |id| Kind::Message(*id))
                        }
                        _ => Kind::Scalar,
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

    /// A message that is a field is a part of the one around it.
    fn size(&self, id: ShapeId, depth: u32) -> usize {
        let each = self.0[id.0].fields.iter().map(|field| match field.kind {
            Kind::Message(inner) if !field.is_repeated && depth > 0 => {
                SCALAR + self.size(inner, depth - 1)
            }
            Kind::Scalar if !field.is_repeated => SCALAR,
            _ => POINTERS,
        });
        each.fold(SCALAR, usize::saturating_add)
    }

    /// What a message is, give or take. `None`: it is malformed, or nests too deep.
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
        let mut begun = 0_u64;
        while !rest.is_empty() {
            let (number, wire) = decode_key(&mut rest).ok()?;
            let place = shape.fields.iter().position(|field| field.number == number);
            let field = place.map(|place| &shape.fields[place]);
            let is_first = place.is_some_and(|place| begun & (1 << (place & 63)) == 0);
            begun |= place.map_or(0, |place| 1 << (place & 63));
            let payload = payload(wire, &mut rest)?;
            // What is not known is skipped, and costs nothing.
            let Some(field) = field else {
                if measured.unknown.is_empty() {
                    measured.unknown.push(number.to_string());
                }
                continue;
            };
            let factor = if is_first { FIRST } else { DOUBLED };
            let cost = &mut measured.cost;
            match field.kind {
                Kind::Scalar if field.is_repeated => {
                    *cost += SCALAR * payload.len().max(factor) * DOUBLED;
                }
                Kind::Scalar => {}
                Kind::Text => {
                    *cost += payload.len();
                    *cost += if field.is_repeated { POINTERS * factor } else { 0 };
                }
                Kind::Message(inner) => {
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

/// The bytes of a field.
fn payload<'a>(wire: WireType, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = match wire {
        WireType::Varint => {
            decode_varint(rest).ok()?;
            return Some(&[]);
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(rest).ok()?).ok()?,
        // Groups are of proto2.
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
    fn empty_sub_messages_cost_what_they_take() {
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
    fn texts_cost_their_pointers_and_their_bytes() {
        let issue = |scopes: Vec<String>| {
            let request = token::IssueTokenRequest { scopes, ..Default::default() };
            decoded(".keyward.token.v1.IssueTokenRequest", &request.encode_to_vec()).unwrap()
        };
        let nothing = issue(Vec::new());
        assert!(issue(vec![String::new(); 1000]) - nothing >= 24_000);
        assert!((4096..4300).contains(&(issue(vec!["x".repeat(4096)]) - nothing)));
    }

    #[test]
    fn field_of_a_newer_client_is_found_wherever_it_is() {
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
