//! The served methods: who may call each, and the maximum size of its requests. The path determines
//! both, so that a call can be refused before its body is read.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use prost::Message;
use prost_types::FileDescriptorSet;
use quick_cache::DefaultHashBuilder;

use super::shapes::{ShapeId, Shapes};
use crate::proto;

/// The maximum size of a request.
const MAX_REQUEST: usize = 64 * 1024;
/// The same for `ApplyProfile`, whose requests contain whole profiles.
const MAX_PROFILE: usize = 1024 * 1024;
/// The maximum decoded size of a request.
const MAX_DECODED: usize = 2 * 1024 * 1024;
const MAX_DECODED_PROFILE: usize = 12 * 1024 * 1024;
/// The same for Envoy, which describes a request with all its headers, and with its certificate. More
/// headers than this refuse the call, not the request, so it is more than Envoy accepts by default.
const MAX_ENVOY: usize = 256 * 1024;
/// The maximum size of health and reflection requests, which contain only a name. They need no
/// authentication.
const MAX_SMALL_REQUEST: usize = 4 * 1024;

/// Keyward's methods that need no authentication. `WatchJwks` authenticates a caller that sends
/// credentials.
const FOR_ANYONE: [&str; 4] = [
    "/keyward.token.v1.TokenService/IssueToken",
    "/keyward.token.v1.TokenService/ExchangeToken",
    "/keyward.access.v1.KeyService/GetJwks",
    "/keyward.access.v1.KeyService/WatchJwks",
];
/// Methods for managers outside the package `keyward.admin`.
const FOR_MANAGERS: [&str; 1] = ["/keyward.token.v1.TokenService/RevokeTokens"];
/// Methods that managers can call for a user, and other callers for themselves.
const FOR_USERS_TOO: [&str; 1] = ["/keyward.token.v1.TokenService/RevokeToken"];
const APPLY_PROFILE: &str = "/keyward.admin.v1.TenantService/ApplyProfile";

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callers {
    Anyone,
    Caller,
    Manager,
}

/// A served method.
#[derive(Debug)]
pub(super) struct RpcMethod {
    pub(super) callers: Callers,
    /// False for methods of the health and reflection services.
    pub(super) is_own: bool,
    pub(super) max_bytes: usize,
    pub(super) max_decoded: usize,
    /// Whether the client sends a stream of messages.
    pub(super) is_streaming: bool,
    /// Whether to refuse the metadata `keyward-user`: the method is for services, and cannot act
    /// for a user.
    pub(super) refuses_user: bool,
    pub(super) shape: Option<ShapeId>,
}

/// Stands for an unknown method. Its body is not read.
static UNKNOWN: RpcMethod = RpcMethod {
    callers: Callers::Anyone,
    is_own: false,
    max_bytes: MAX_SMALL_REQUEST,
    max_decoded: MAX_DECODED,
    is_streaming: false,
    refuses_user: false,
    shape: None,
};

const ENVOY_PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Envoy's method. Newer versions of Envoy send fields that are unknown here, so it has no shape.
const ENVOY_CHECK: RpcMethod = RpcMethod {
    callers: Callers::Caller,
    is_own: true,
    max_bytes: MAX_ENVOY,
    max_decoded: MAX_DECODED,
    is_streaming: false,
    refuses_user: true,
    shape: None,
};

/// The methods by path.
#[derive(Debug)]
pub(super) struct Methods {
    by_path: HashMap<String, RpcMethod, DefaultHashBuilder>,
    pub(super) shapes: Shapes,
}

impl Methods {
    /// The methods in the embedded descriptors, which are parsed once.
    pub(super) fn get() -> Result<&'static Self, prost::DecodeError> {
        static METHODS: OnceLock<Methods> = OnceLock::new();
        match METHODS.get() {
            Some(methods) => Ok(methods),
            None => Self::read().map(|methods| METHODS.get_or_init(|| methods)),
        }
    }

    fn read() -> Result<Self, prost::DecodeError> {
        let sets = descriptors()?;
        let (shapes, names) = Shapes::new(&sets.iter().collect::<Vec<_>>());
        let mut by_path = HashMap::default();
        for (path, method) in sets.iter().flat_map(methods_of) {
            let is_own = path.starts_with("/keyward.");
            let callers = callers(&path, is_own);
            let max_bytes = match callers {
                _ if path == APPLY_PROFILE => MAX_PROFILE,
                Callers::Anyone if !is_own => MAX_SMALL_REQUEST,
                _ => MAX_REQUEST,
            };
            let max_decoded = if path == APPLY_PROFILE { MAX_DECODED_PROFILE } else { MAX_DECODED };
            let shape = names.get(method.input_type()).copied();
            let is_streaming = method.client_streaming();
            let takes_user = callers == Callers::Manager || FOR_USERS_TOO.contains(&path.as_str());
            let refuses_user = is_own && !takes_user;
            let method = RpcMethod {
                callers,
                is_own,
                max_bytes,
                max_decoded,
                is_streaming,
                refuses_user,
                shape,
            };
            by_path.insert(path, method);
        }
        by_path.insert(ENVOY_PATH.to_owned(), ENVOY_CHECK);
        Ok(Self { by_path, shapes })
    }

    /// The method of a path, and whether the method exists.
    pub(super) fn of(&self, path: &str) -> (&RpcMethod, bool) {
        self.by_path.get(path).map_or((&UNKNOWN, false), |method| (method, true))
    }

    /// The names of all services, as `package.Service`.
    pub(super) fn services(&self) -> HashSet<String> {
        let names = self.by_path.keys().filter_map(|path| path.split('/').nth(1));
        names.map(ToOwned::to_owned).collect()
    }
}

/// Keyward's methods require a caller by default.
fn callers(path: &str, is_own: bool) -> Callers {
    if !is_own || FOR_ANYONE.contains(&path) {
        Callers::Anyone
    } else if path.starts_with("/keyward.admin.") || FOR_MANAGERS.contains(&path) {
        Callers::Manager
    } else {
        Callers::Caller
    }
}

/// The paths of all methods that [`super::Grpc`] serves.
pub fn methods() -> Result<HashSet<String>, prost::DecodeError> {
    let sets = descriptors()?;
    let paths = sets.iter().flat_map(methods_of).map(|(path, _)| path);
    Ok(paths.chain([ENVOY_PATH.to_owned()]).collect())
}

fn descriptors() -> Result<[FileDescriptorSet; 4], prost::DecodeError> {
    Ok([
        FileDescriptorSet::decode(proto::DESCRIPTORS)?,
        FileDescriptorSet::decode(tonic_health::pb::FILE_DESCRIPTOR_SET)?,
        FileDescriptorSet::decode(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)?,
        FileDescriptorSet::decode(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)?,
    ])
}

fn methods_of(
    set: &FileDescriptorSet,
) -> impl Iterator<Item = (String, &prost_types::MethodDescriptorProto)> {
    set.file.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            let name = format!("/{}.{}", file.package(), service.name());
            service.method.iter().map(move |method| (format!("{name}/{}", method.name()), method))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_shape_and_size_limit() {
        let methods = Methods::get().unwrap();
        let named = FOR_ANYONE.iter().chain(&FOR_MANAGERS).chain(&FOR_USERS_TOO);
        for path in named.chain(&[APPLY_PROFILE]) {
            assert!(methods.by_path.contains_key(*path), "{path}");
        }
        for (path, method) in &methods.by_path {
            if path == ENVOY_PATH {
                assert_eq!(method.callers, Callers::Caller);
                continue;
            }
            assert!(method.shape.is_some(), "{path}");
            let large = method.max_bytes > MAX_REQUEST;
            assert!(!large || method.callers == Callers::Manager, "{path}");
        }
    }
}
