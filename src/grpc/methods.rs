//! The methods that are served: who may call each, and how large its requests may be. All of
//! it is known from the path and the headers, before a body is read.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use prost::Message;
use prost_types::FileDescriptorSet;
use quick_cache::DefaultHashBuilder;

use super::shapes::{ShapeId, Shapes};
use crate::proto;

/// The largest request that is decoded.
const MAX_REQUEST: usize = 64 * 1024;
/// The same of `ApplyProfile`, to which whole profiles go.
const MAX_PROFILE: usize = 1024 * 1024;
/// What these may take once they are decoded.
const MAX_DECODED: usize = 2 * 1024 * 1024;
const MAX_DECODED_PROFILE: usize = 12 * 1024 * 1024;
/// Requests of health checks and of reflection are a name; anyone may send them.
const MAX_SMALL_REQUEST: usize = 4 * 1024;

/// Our own methods that need no caller. `WatchJwks` authenticates the caller itself, if one is
/// named.
const FOR_ANYONE: [&str; 3] = [
    "/keyward.token.v1.TokenService/IssueToken",
    "/keyward.access.v1.KeyService/GetJwks",
    "/keyward.access.v1.KeyService/WatchJwks",
];
/// Methods for managers outside of `keyward.admin`.
const FOR_MANAGERS: [&str; 1] = ["/keyward.token.v1.TokenService/RevokeTokens"];
/// Methods that managers may call for a user, and others for themselves.
const FOR_USERS_TOO: [&str; 1] = ["/keyward.token.v1.TokenService/RevokeToken"];
const APPLY_PROFILE: &str = "/keyward.admin.v1.TenantService/ApplyProfile";

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Anyone,
    Caller,
    Manager,
}

/// What is known of a method.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) access: Access,
    /// It is Keyward's own, and not one of health or reflection.
    pub(super) is_own: bool,
    pub(super) max_bytes: usize,
    pub(super) max_decoded: usize,
    /// Its client sends a stream of messages.
    pub(super) is_streaming: bool,
    /// The metadata `keyward-user` makes no sense here: the method answers services, not users.
    pub(super) refuses_user: bool,
    pub(super) shape: Option<ShapeId>,
}

/// A path that is no method: its body is not read.
static UNKNOWN: Method = Method {
    access: Access::Anyone,
    is_own: false,
    max_bytes: MAX_SMALL_REQUEST,
    max_decoded: MAX_DECODED,
    is_streaming: false,
    refuses_user: false,
    shape: None,
};

/// All methods by path.
#[derive(Debug)]
pub(super) struct Methods {
    by_path: HashMap<String, Method, DefaultHashBuilder>,
    pub(super) shapes: Shapes,
}

impl Methods {
    /// The methods, which the descriptors in this program say: they are read once.
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
            let access = access(&path, is_own);
            let max_bytes = match access {
                _ if path == APPLY_PROFILE => MAX_PROFILE,
                Access::Anyone if !is_own => MAX_SMALL_REQUEST,
                _ => MAX_REQUEST,
            };
            let max_decoded = if path == APPLY_PROFILE { MAX_DECODED_PROFILE } else { MAX_DECODED };
            let shape = names.get(method.input_type()).copied();
            let is_streaming = method.client_streaming();
            let takes_user = access == Access::Manager || FOR_USERS_TOO.contains(&path.as_str());
            let refuses_user = is_own && !takes_user;
            let method = Method {
                access,
                is_own,
                max_bytes,
                max_decoded,
                is_streaming,
                refuses_user,
                shape,
            };
            by_path.insert(path, method);
        }
        Ok(Self { by_path, shapes })
    }

    /// The method of a path, and whether there is one.
    pub(super) fn of(&self, path: &str) -> (&Method, bool) {
        self.by_path.get(path).map_or((&UNKNOWN, false), |method| (method, true))
    }

    /// The names of all services, as `package.Service`.
    pub(super) fn services(&self) -> HashSet<String> {
        let names = self.by_path.keys().filter_map(|path| path.split('/').nth(1));
        names.map(ToOwned::to_owned).collect()
    }
}

/// A method of ours needs a caller unless it is one of the few that do not.
fn access(path: &str, is_own: bool) -> Access {
    if !is_own || FOR_ANYONE.contains(&path) {
        Access::Anyone
    } else if path.starts_with("/keyward.admin.") || FOR_MANAGERS.contains(&path) {
        Access::Manager
    } else {
        Access::Caller
    }
}

/// The paths of all methods that [`super::Grpc`] serves.
pub fn methods() -> Result<HashSet<String>, prost::DecodeError> {
    let sets = descriptors()?;
    Ok(sets.iter().flat_map(methods_of).map(|(path, _)| path).collect())
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
    fn every_method_of_ours_has_a_rule_and_a_shape() {
        let methods = Methods::get().unwrap();
        let named = FOR_ANYONE.iter().chain(&FOR_MANAGERS).chain(&FOR_USERS_TOO);
        for path in named.chain(&[APPLY_PROFILE]) {
            assert!(methods.by_path.contains_key(*path), "{path}");
        }
        for (path, method) in &methods.by_path {
            assert!(method.shape.is_some(), "{path}");
            let large = method.max_bytes > MAX_REQUEST;
            assert!(!large || method.access == Access::Manager, "{path}");
        }
    }
}
