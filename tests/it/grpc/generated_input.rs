//! Generated edge values: for every RPC, and every enum, timestamp, duration, number, mask and
//! string of its request, the values just outside the range, the largest, unknown and empty ones.
//! None causes an internal error, invalid values are refused with the name of the field, and
//! accepted values are stored as they were sent.

use std::collections::{BTreeMap, BTreeSet};

use keyward::proto;
use keyward::proto::access as ask;
use keyward::proto::admin as pb;
use keyward::proto::admin::credential::Kind as CredentialKind;
use keyward::proto::token as tokens;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ReflectMessage, Value,
};
use prost_types::value::Kind as ValueKind;
use prost_types::{ListValue, Struct, Value as StructValue};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::everyone;
use super::raw::call_on;
use crate::harness::{Backend, connect, mask, on_both_databases, question, reason};

on_both_databases!(
    generated_values_are_refused_by_field_or_stored_as_sent,
    unknown_field_is_refused_by_every_method,
);

/// The expected result for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The value is refused, and the error names its field.
    Refused,
    /// The value is not the reason for a refusal.
    Fine,
    /// Both are possible. If the value is accepted, it is stored.
    Either,
}
use Verdict::{Either, Fine, Refused};

/// Fields with text for people, and those that may have several lines.
const TEXTS: [&str; 6] =
    ["display_name", "description", "contact_email", "domain", "family", "reason"];
const LONG_TEXTS: [&str; 2] = ["description", "reason"];
/// All other strings: names, ids, tokens, words and addresses. Each has a form of its own, so a value
/// of [`STRINGS`] can be right or wrong for it.
const OTHER_STRINGS: [&str; 69] = [
    "action",
    "actor",
    "actor_token",
    "actor_token_type",
    "additional_audiences",
    "all_of",
    "allowed_credential_kinds",
    "any_of",
    "api_key",
    "application_id",
    "assertion",
    "audience",
    "audiences",
    "authorities",
    "certificate_thumbprint",
    "client_id",
    "client_secret",
    "cursor",
    "default_audience",
    "effective_scopes",
    "end_date",
    "equals",
    "etag",
    "exchange_audiences",
    "fixed_fields",
    "hand_over_to",
    "http_method",
    "issuer",
    "jwks",
    "jwks_uri",
    "last_four",
    "last_use_address",
    "masked_secrets",
    "method",
    "name",
    "names",
    "order_by",
    "owner",
    "page_token",
    "parent",
    "path",
    "pem",
    "permissions",
    "prefix",
    "proof",
    "request_id",
    "requested_token_type",
    "resource",
    "role_id",
    "roles",
    "san_dns",
    "san_email",
    "san_ip",
    "san_uri",
    "scope_id",
    "scopes",
    "search",
    "source_address",
    "start_date",
    "subject",
    "subject_dn",
    "subject_token",
    "subject_token_type",
    "tenant_id",
    "thumbprints",
    "token",
    "token_id",
    "url",
    "user_id",
];

/// Strings, and whether they are valid as text for people.
const STRINGS: &[(&str, Verdict)] = &[
    ("", Either),
    (" ", Refused),
    ("\u{3000}", Refused),
    ("a\0b", Refused),
    ("a\u{7}b", Refused),
    ("a\u{85}b", Refused),
    ("a\u{202e}b", Refused),
    ("a\u{2067}b", Refused),
    ("a\u{200f}b", Refused),
    ("a\u{200b}b", Refused),
    ("a\u{2060}b", Refused),
    ("\u{feff}a", Refused),
    ("a\u{ad}b", Refused),
    ("a\u{2028}b", Refused),
    ("a\u{e0041}b", Refused),
    ("\u{fe0f}", Refused),
    ("a\u{fe0f}", Refused),
    ("a\u{200d}b", Refused),
    ("a\u{200c}b", Refused),
    ("\u{3164}", Refused),
    ("a\u{ffff}b", Refused),
    ("a\rb", Refused),
    ("e\u{301}", Fine),
    ("\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}", Fine),
    ("\u{915}\u{94d}\u{200d}\u{937}", Fine),
    ("\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}", Fine),
    ("\u{8fbb}\u{e0100}", Fine),
    ("'; drop table users; --", Fine),
    ("100 % of \\ and _", Fine),
    ("\u{1d4b3}", Fine),
    ("a/b", Either),
    ("..", Either),
    ("-", Either),
    ("*", Either),
    ("%2F", Either),
    ("tenants/-", Either),
    ("tenants/acme/applications/\u{0}", Either),
    ("\u{10fffd}", Either),
];

/// A call, and the position of the value in its request.
struct Trial<'a> {
    method: &'a MethodDescriptor,
    base: &'a DynamicMessage,
    place: &'a [FieldDescriptor],
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(proto::DESCRIPTORS).unwrap()
}

fn is_whole(kind: &Kind) -> bool {
    let Kind::Message(message) = kind else { return true };
    message.full_name().starts_with("google.protobuf.")
}

/// Every field of a request that holds a value, with its parent messages.
fn places(
    message: &MessageDescriptor,
    around: &[FieldDescriptor],
    found: &mut Vec<Vec<FieldDescriptor>>,
) {
    for field in message.fields() {
        let place = [around, std::slice::from_ref(&field)].concat();
        match field.kind() {
            Kind::Message(inner) if !is_whole(&field.kind()) => places(&inner, &place, found),
            _ => found.push(place),
        }
    }
}

/// The path as errors name it: `profile.scopes[0].name`.
fn path(place: &[FieldDescriptor]) -> String {
    let (last, around) = place.split_last().unwrap();
    let index = |field: &FieldDescriptor| if field.is_list() { "[0]" } else { "" };
    let mut parts: Vec<_> =
        around.iter().map(|field| format!("{}{}", field.name(), index(field))).collect();
    parts.push(format!("{}{}", last.name(), index(last)));
    parts.join(".")
}

fn put(message: &mut DynamicMessage, place: &[FieldDescriptor], value: Value) {
    let (field, rest) = place.split_first().unwrap();
    if rest.is_empty() {
        let value = if field.is_list() { Value::List(vec![value]) } else { value };
        return message.set_field(field, value);
    }
    let inner = message.get_field_mut(field);
    if let Value::List(list) = inner {
        if list.is_empty() {
            list.push(Value::Message(DynamicMessage::new(rest[0].parent_message().clone())));
        }
        return put(list[0].as_message_mut().unwrap(), rest, value);
    }
    put(inner.as_message_mut().unwrap(), rest, value);
}

fn look(message: &DynamicMessage, place: &[FieldDescriptor]) -> Option<Value> {
    let (field, rest) = place.split_first()?;
    let field = message.descriptor().get_field_by_name(field.name())?;
    let found = message.get_field(&field).into_owned();
    let found = match found {
        Value::List(mut list) if !list.is_empty() => list.swap_remove(0),
        found => found,
    };
    if rest.is_empty() { Some(found) } else { look(found.as_message()?, rest) }
}

fn comment(field: &FieldDescriptor) -> String {
    let file = field.parent_file();
    let info = file.file_descriptor_proto().source_code_info.as_ref().unwrap();
    let here = info.location.iter().find(|location| location.path == field.path());
    here.map(|location| location.leading_comments().to_owned()).unwrap_or_default()
}

impl Trial<'_> {
    /// Whether the field is ignored in this request, according to the protos.
    fn is_ignored(&self) -> bool {
        let is_create = self.method.name().starts_with("Create");
        let is_update = self.method.name().starts_with("Update");
        let in_resource = self.place.len() > 1;
        let last = self.place.last().unwrap().name();
        let words = comment(self.place.last().unwrap()).replace('\n', " ");
        let output_only = words.split_whitespace().collect::<Vec<_>>().join(" ");
        output_only.contains("Output only")
            || self.place.iter().any(|field| field.name() == "secrets")
            || (is_create && self.place.len() == 2 && ["name", "etag"].contains(&last))
            || (is_update && in_resource && ["kind", "owner"].contains(&last))
            || (self.method.name() == "ApplyProfile" && last == "etag")
    }

    fn request(&self, value: Value) -> Vec<u8> {
        let mut request = self.base.clone();
        if let Some(field) = self.method.input().get_field_by_name("update_mask")
            && self.place.len() > 1
            && !["name", "etag"].contains(&self.place[1].name())
            && !self.is_ignored()
        {
            let path = Value::String(self.place[1].name().to_owned());
            let Kind::Message(kind) = field.kind() else { unreachable!() };
            let mut mask = DynamicMessage::new(kind);
            mask.set_field_by_name("paths", Value::List(vec![path]));
            request.set_field(&field, Value::Message(mask));
        }
        put(&mut request, self.place, value);
        request.encode_to_vec()
    }

    /// The values for the field.
    fn values(&self) -> Vec<(Value, Verdict)> {
        let field = self.place.last().unwrap();
        let numbers = |all: &[i64]| all.iter().map(|n| (Value::I64(*n), Either)).collect();
        match field.kind() {
            Kind::Enum(_) => [(99, Refused), (-1, Refused), (i32::MAX, Refused), (0, Either)]
                .map(|(number, verdict)| (Value::EnumNumber(number), verdict))
                .to_vec(),
            Kind::Int32 => [i32::MIN, -1, 0, i32::MAX].map(|n| (Value::I32(n), Either)).to_vec(),
            Kind::Int64 => numbers(&[i64::MIN, -1, 0, 1_000_000_000_001, i64::MAX]),
            Kind::String => self.strings(),
            Kind::Message(kind) => match kind.name() {
                "Timestamp" => moments(&kind),
                "Duration" => spans(&kind),
                "FieldMask" => masks(&kind),
                "Struct" => structs(&kind),
                other => panic!("{other} has no values"),
            },
            Kind::Bool => Vec::new(),
            other => panic!("{other:?} has no values"),
        }
    }

    fn strings(&self) -> Vec<(Value, Verdict)> {
        let name = self.place.last().unwrap().name();
        let is_text = TEXTS.contains(&name);
        let is_email = name == "contact_email";
        let long = "x".repeat(20_000);
        let lines = if LONG_TEXTS.contains(&name) { Fine } else { Refused };
        let more = [(long.as_str(), Refused), ("a\nb\r\n\tc", lines)];
        let all = STRINGS.iter().copied().chain(more).filter(|(value, _)| {
            // Other calls need what this would delete.
            name != "etag" || !value.is_empty()
        });
        all.map(|(value, verdict)| {
            let verdict = match verdict {
                Fine if is_email => Either,
                verdict if is_text => verdict,
                _ => Either,
            };
            (Value::String(value.to_owned()), verdict)
        })
        .collect()
    }
}

fn message(kind: &MessageDescriptor, fields: [(&str, Value); 2]) -> Value {
    let mut message = DynamicMessage::new(kind.clone());
    for (name, value) in fields {
        message.set_field_by_name(name, value);
    }
    Value::Message(message)
}

const FIRST_SECOND: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_300_799;

fn moments(kind: &MessageDescriptor) -> Vec<(Value, Verdict)> {
    [
        (FIRST_SECOND, 0, Either),
        (LAST_SECOND, 0, Fine),
        (LAST_SECOND, 999_999_999, Fine),
        (253_402_207_201, 1, Fine),
        (0, 0, Either),
        (FIRST_SECOND - 1, 0, Refused),
        (FIRST_SECOND - 1, 999_999_999, Refused),
        (LAST_SECOND + 1, 0, Refused),
        (i64::MIN, 0, Refused),
        (i64::MAX, 0, Refused),
        (4_000_000_000, -1, Refused),
        (4_000_000_000, 1_000_000_000, Refused),
        (4_000_000_000, i32::MIN, Refused),
        (4_000_000_000, i32::MAX, Refused),
    ]
    .map(|(seconds, nanos, verdict)| {
        let fields = [("seconds", Value::I64(seconds)), ("nanos", Value::I32(nanos))];
        (message(kind, fields), verdict)
    })
    .to_vec()
}

fn spans(kind: &MessageDescriptor) -> Vec<(Value, Verdict)> {
    [
        (0, 0, Either),
        (0, 1, Either),
        (3600, 0, Either),
        (315_576_000_000, 0, Either),
        (315_576_000_001, 0, Refused),
        (-1, 0, Refused),
        (0, -1, Refused),
        (1, -1, Refused),
        (-1, 1, Refused),
        (60, 1_000_000_000, Refused),
        (60, i32::MIN, Refused),
        (i64::MIN, 0, Refused),
        (i64::MAX, i32::MAX, Refused),
    ]
    .map(|(seconds, nanos, verdict)| {
        let fields = [("seconds", Value::I64(seconds)), ("nanos", Value::I32(nanos))];
        (message(kind, fields), verdict)
    })
    .to_vec()
}

fn masks(kind: &MessageDescriptor) -> Vec<(Value, Verdict)> {
    [
        &[][..],
        &[""],
        &["colour"],
        &["Display_name"],
        &["name"],
        &["display_name.x"],
        &["*", "display_name"],
        &["**"],
        &["policy.colour"],
        &["\u{0}"],
        &["create_time"],
    ]
    .iter()
    .map(|paths| {
        let paths = paths.iter().map(|path| Value::String((*path).to_owned())).collect();
        let mut message = DynamicMessage::new(kind.clone());
        message.set_field_by_name("paths", Value::List(paths));
        (Value::Message(message), Refused)
    })
    .collect()
}

fn structs(kind: &MessageDescriptor) -> Vec<(Value, Verdict)> {
    let text = |text: &str| StructValue { kind: Some(ValueKind::StringValue(text.to_owned())) };
    let number = |number| StructValue { kind: Some(ValueKind::NumberValue(number)) };
    let list = |values| StructValue { kind: Some(ValueKind::ListValue(ListValue { values })) };
    let nested = Struct { fields: [("a".to_owned(), text("b"))].into() };
    let nested = StructValue { kind: Some(ValueKind::StructValue(nested)) };
    let cases = [
        ("region", text("nz"), Fine),
        ("tier", number(3.0), Fine),
        ("sites", list(vec![text("akl"), text("")]), Fine),
        ("tier", number(1.5), Refused),
        ("tier", number(f64::NAN), Refused),
        ("tier", number(1e300), Refused),
        ("sites", list(vec![number(1.0)]), Refused),
        ("sites", nested, Refused),
        ("sites", StructValue { kind: None }, Refused),
        ("sub", text("x"), Refused),
        ("Cnf", text("x"), Refused),
        ("act\u{0}", text("x"), Refused),
        ("", text("x"), Refused),
        ("long", text(&"x".repeat(2000)), Refused),
    ];
    let mut all: Vec<_> = cases
        .into_iter()
        .map(|(name, value, verdict)| {
            let whole = Struct { fields: [(name.to_owned(), value)].into() };
            (whole, verdict)
        })
        .collect();
    let many = (0..17).map(|n| (format!("claim{n}"), number(1.0)));
    all.push((Struct { fields: many.collect() }, Refused));
    all.into_iter()
        .map(|(whole, verdict)| {
            let bytes = whole.encode_to_vec();
            let message = DynamicMessage::decode(kind.clone(), bytes.as_slice()).unwrap();
            (Value::Message(message), verdict)
        })
        .collect()
}

/// A valid request of each method, which deletes nothing that others need.
fn bases(credential: &str, token: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all: BTreeMap<String, Vec<u8>> = everyone::requests(credential)
        .into_iter()
        .map(|(path, (bytes, _))| (path, bytes))
        .collect();
    let other = || pb::Tenant { name: "tenants/other".to_owned(), ..Default::default() };
    let question = || question(token, &["a"]);
    let rows: [(&str, Vec<u8>); 15] = [
        (
            "admin.v1.TenantService/UpdateTenant",
            pb::UpdateTenantRequest { tenant: Some(other()), update_mask: mask(&["policy"]) }
                .encode_to_vec(),
        ),
        (
            "admin.v1.TenantService/ApplyProfile",
            pb::ApplyProfileRequest {
                name: "tenants/other".to_owned(),
                profile: Some(profile()),
                validate_only: true,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "admin.v1.ApplicationService/BatchDeleteApplications",
            pb::BatchDeleteApplicationsRequest {
                parent: "tenants/acme".to_owned(),
                names: vec!["tenants/acme/applications/gone".to_owned()],
            }
            .encode_to_vec(),
        ),
        (
            "admin.v1.CredentialService/CreateCredential",
            pb::CreateCredentialRequest {
                parent: "tenants/acme/applications/crm".to_owned(),
                credential: Some(pb::Credential {
                    kind: CredentialKind::ApiKey.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "token.v1.TokenService/IssueToken",
            tokens::IssueTokenRequest {
                credential: Some(tokens::issue_token_request::Credential::ApiKey("x".to_owned())),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "token.v1.TokenService/ExchangeToken",
            tokens::ExchangeTokenRequest {
                credential: Some(tokens::exchange_token_request::Credential::ApiKey(
                    "x".to_owned(),
                )),
                ..crate::harness::exchange_of("x")
            }
            .encode_to_vec(),
        ),
        (
            "token.v1.TokenService/IntrospectToken",
            tokens::IntrospectTokenRequest { token: token.to_owned() }.encode_to_vec(),
        ),
        (
            "token.v1.TokenService/RevokeToken",
            tokens::RevokeTokenRequest { token: "x".to_owned() }.encode_to_vec(),
        ),
        (
            "token.v1.TokenService/RevokeTokens",
            tokens::RevokeTokensRequest {
                name: "tenants/acme/applications/crm".to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        ("access.v1.AccessService/CheckAccess", question().encode_to_vec()),
        (
            "access.v1.AccessService/BatchCheckAccess",
            ask::BatchCheckAccessRequest { requests: vec![question()] }.encode_to_vec(),
        ),
        ("access.v1.RevocationService/ListRevocations", Vec::new()),
        ("access.v1.RevocationService/WatchRevocations", Vec::new()),
        ("access.v1.KeyService/GetJwks", Vec::new()),
        ("access.v1.KeyService/WatchJwks", Vec::new()),
    ];
    all.extend(rows.map(|(path, bytes)| (format!("/keyward.{path}"), bytes)));
    all
}

fn profile() -> pb::Profile {
    let a = || "a".to_owned();
    pb::Profile {
        scopes: vec![pb::Scope { name: a(), ..Default::default() }],
        role_set: Some(pb::RoleSet { roles: vec![pb::Role { name: a(), ..Default::default() }] }),
        endpoint_set: Some(pb::EndpointSet {
            endpoints: vec![pb::Endpoint {
                method: "GET".to_owned(),
                path: "/v1".to_owned(),
                ..Default::default()
            }],
        }),
        default_application: Some(pb::DefaultApplication {
            application_id: a(),
            display_name: a(),
            scopes: Vec::new(),
        }),
        ..Default::default()
    }
}

/// Sets unique ids for resources that each call creates or names, and an unknown etag.
fn freshen(base: &mut DynamicMessage, count: usize) {
    let fresh = Value::String(format!("fresh{count}"));
    for id in ["user_id", "role_id", "scope_id", "tenant_id"] {
        if base.descriptor().get_field_by_name(id).is_some() {
            base.set_field_by_name(id, fresh.clone());
        }
    }
    if base.descriptor().get_field_by_name("etag").is_some() {
        base.set_field_by_name("etag", Value::String("none".to_owned()));
    }
}

struct World {
    channel: Channel,
    authorization: String,
}

impl World {
    async fn call(&self, path: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
        let metadata = [("authorization", self.authorization.as_str())];
        call_on(self.channel.clone(), path, bytes, &metadata).await
    }
}

/// Whether a violation is about this field, or about a list or message that contains it.
fn names(violation: &str, path: &str) -> bool {
    path == violation
        || path.strip_prefix(violation).is_some_and(|rest| rest.starts_with(['.', '[']))
}

fn named(status: &Status, path: &str) -> bool {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations);
    violations.unwrap_or_default().iter().any(|violation| names(&violation.field, path))
}

/// The stored form of a timestamp, in microseconds.
fn kept(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(message) = value.as_message_mut()
        && message.descriptor().name() == "Timestamp"
        && let Some(nanos) = message.get_field_by_name("nanos").and_then(|nanos| nanos.as_i32())
    {
        message.set_field_by_name("nanos", Value::I32(nanos / 1000 * 1000));
    }
    value
}

/// A value without the description of its type.
fn shown(value: &Value) -> String {
    let Some(message) = value.as_message() else { return format!("{value:?}") };
    let fields = message.descriptor();
    let fields = fields.fields().map(|field| message.get_field(&field).into_owned());
    format!("{:?}", fields.collect::<Vec<_>>())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::EnumNumber(number) => *number == 0,
        _ => false,
    }
}

/// Fields that are stored in another form, or have no effect without another field, according to
/// the protos.
const OTHER_FORM: [&str; 6] = ["name", "etag", "roles", "owner", "request_window", "token_window"];

async fn try_value(world: &World, trial: &Trial<'_>, value: &Value, verdict: Verdict) {
    let service = trial.method.parent_service();
    let rpc = format!("/{}/{}", service.full_name(), trial.method.name());
    let path = path(trial.place);
    let what: String = format!("{rpc} {path} = {}", shown(value)).chars().take(300).collect();
    let outcome = world.call(&rpc, trial.request(value.clone())).await;
    if let Err(status) = &outcome {
        let fault = [
            Code::Internal,
            Code::Unknown,
            Code::Unavailable,
            Code::Unimplemented,
            Code::DataLoss,
            Code::DeadlineExceeded,
        ];
        assert!(!fault.contains(&status.code()), "{what}: {status:?}");
    }
    if trial.is_ignored() {
        return;
    }
    match (verdict, &outcome) {
        (Refused, Ok(_)) => panic!("{what} is accepted"),
        (Refused, Err(status)) => {
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
            assert_eq!(reason(status), "INVALID_FIELD", "{what}: {status:?}");
            assert!(named(status, &path), "{what} is not named: {}", status.message());
        }
        (Fine, Err(status)) => assert!(!named(status, &path), "{what}: {}", status.message()),
        _ => {}
    }
    let last = trial.place.last().unwrap().name();
    if let Ok(answer) = outcome
        && trial.place.len() > 1
        && !is_empty(value)
        && !OTHER_FORM.contains(&last)
    {
        let answer = DynamicMessage::decode(trial.method.output(), answer.as_slice()).unwrap();
        if let Some(found) = look(&answer, trial.place) {
            let (found, sent) = (shown(&found), shown(&kept(value)));
            assert_eq!(found, sent, "{what} is not kept as it was sent");
        }
    }
}

async fn world(backend: Backend) -> (World, BTreeMap<String, Vec<u8>>, crate::harness::Keyward) {
    let kw = backend.start().await;
    let mut admin = kw.admin().await;
    let (credential, crm) = admin.acme().await;
    admin.tenant("other", &["a"]).await;
    admin.role("acme", "spare", &[], &[]).await;
    admin.user("acme", "spare", &[]).await;
    let token = crm.token(&kw.grpc()).await;
    let bases = bases(&credential.name, &token);
    // An administrator may manage. Checking and streaming need another scope.
    let application =
        admin.application("system", "all", &["keyward.admin", "keyward.verify"]).await;
    let (_, all) = admin.credential(&application.name, CredentialKind::ClientSecret).await;
    let bearer = all.exchange(&kw.grpc(), &[], &["keyward"]).await.unwrap().access_token;
    let world =
        World { channel: connect(&kw.grpc()).await, authorization: format!("Bearer {bearer}") };
    (world, bases, kw)
}

fn own_methods() -> Vec<MethodDescriptor> {
    let methods: Vec<_> = pool()
        .services()
        .filter(|service| service.full_name().starts_with("keyward."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    assert!(methods.len() > 40, "{}", methods.len());
    methods
}

fn base(bases: &BTreeMap<String, Vec<u8>>, method: &MethodDescriptor) -> DynamicMessage {
    let rpc = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let bytes = bases.get(&rpc).unwrap_or_else(|| panic!("{rpc} is not tried: add a request"));
    DynamicMessage::decode(method.input(), bytes.as_slice()).unwrap()
}

/// A text that is left out of [`TEXTS`] would not be checked as one.
#[test]
fn every_string_is_known_as_a_text_or_not() {
    let mut strings = BTreeSet::new();
    for method in own_methods() {
        let mut found = Vec::new();
        places(&method.input(), &[], &mut found);
        let last = found.iter().map(|place| place.last().unwrap());
        strings.extend(
            last.filter(|field| field.kind() == Kind::String).map(|field| field.name().to_owned()),
        );
    }
    let listed: BTreeSet<_> =
        TEXTS.iter().chain(&OTHER_STRINGS).map(|name| (*name).to_owned()).collect();
    let unlisted: Vec<_> = strings.difference(&listed).collect();
    assert!(unlisted.is_empty(), "add to TEXTS or OTHER_STRINGS: {unlisted:?}");
    let gone: Vec<_> = listed.difference(&strings).collect();
    assert!(gone.is_empty(), "in no request: {gone:?}");
    assert!(LONG_TEXTS.iter().all(|name| TEXTS.contains(name)));
}

async fn generated_values_are_refused_by_field_or_stored_as_sent(backend: Backend) {
    let (world, bases, _kw) = Box::pin(world(backend)).await;
    let mut count = 0;
    for method in own_methods() {
        let mut found = Vec::new();
        places(&method.input(), &[], &mut found);
        for place in &found {
            let mut base = base(&bases, &method);
            let values = Trial { method: &method, base: &base, place }.values();
            for (value, verdict) in values {
                count += 1;
                freshen(&mut base, count);
                let trial = Trial { method: &method, base: &base, place };
                Box::pin(try_value(&world, &trial, &value, verdict)).await;
            }
        }
    }
    assert!(count > 2000, "{count}");
}

/// A newer client could set a condition with it. Ignoring it would allow more.
async fn unknown_field_is_refused_by_every_method(backend: Backend) {
    // Field 4000, a number.
    const UNKNOWN: [u8; 4] = [0x80, 0xfa, 0x01, 0x01];
    let (world, bases, _kw) = Box::pin(world(backend)).await;
    for method in own_methods() {
        let rpc = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let base = base(&bases, &method);
        let on_top = [base.encode_to_vec(), UNKNOWN.to_vec()].concat();
        let status = world.call(&rpc, on_top).await.expect_err(&rpc);
        assert_eq!(status.code(), Code::InvalidArgument, "{rpc}: {status:?}");
        assert_eq!(reason(&status), "INVALID_FIELD", "{rpc}");
        assert!(status.message().contains("4000"), "{rpc}: {}", status.message());
    }
    let policy = [pb::Policy::default().encode_to_vec(), UNKNOWN.to_vec()].concat();
    let length = u8::try_from(policy.len()).unwrap();
    let tenant = pb::Tenant { name: "tenants/other".to_owned(), ..Default::default() };
    // Field 10 of the tenant.
    let tenant = [tenant.encode_to_vec(), vec![0x52, length], policy].concat();
    let request = pb::UpdateTenantRequest { tenant: None, update_mask: mask(&["policy"]) };
    let length = u8::try_from(tenant.len()).unwrap();
    let bytes = [vec![0x0a, length], tenant, request.encode_to_vec()].concat();
    let update = "/keyward.admin.v1.TenantService/UpdateTenant";
    let status = world.call(update, bytes).await.unwrap_err();
    assert!(named(&status, "tenant.policy.4000"), "{status:?}");
}
