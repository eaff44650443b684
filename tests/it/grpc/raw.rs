//! Calls by method name with raw bytes, for behaviour that all RPCs share.

use keyward::proto;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::harness::connect;

/// The paths of all RPCs of Keyward, as `/package.Service/Method`.
pub(crate) fn all_methods() -> Vec<String> {
    let files = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap().file;
    let mut paths = Vec::new();
    for file in files.iter().filter(|file| file.package().starts_with("keyward.")) {
        for service in &file.service {
            for method in &service.method {
                paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert!(paths.len() > 20, "{paths:?}");
    paths
}

/// Calls a method with these bytes and this `authorization`.
pub(super) async fn call(
    grpc: &str,
    path: &str,
    bytes: Vec<u8>,
    authorization: Option<&str>,
) -> Result<Vec<u8>, Status> {
    call_for(grpc, path, bytes, authorization, "").await
}

/// Like [`call`], acting for a user unless `user` is empty.
pub(crate) async fn call_for(
    grpc: &str,
    path: &str,
    bytes: Vec<u8>,
    authorization: Option<&str>,
    user: &str,
) -> Result<Vec<u8>, Status> {
    let authorization = authorization.map(|value| ("authorization", value));
    let user = Some(("keyward-user", user)).filter(|(_, user)| !user.is_empty());
    let metadata: Vec<_> = authorization.into_iter().chain(user).collect();
    call_with(grpc, path, bytes, &metadata).await
}

/// Calls a method with this metadata, which can contain repeated keys.
pub(crate) async fn call_with(
    grpc: &str,
    path: &str,
    bytes: Vec<u8>,
    metadata: &[(&'static str, &str)],
) -> Result<Vec<u8>, Status> {
    call_on(connect(grpc).await, path, bytes, metadata).await
}

/// Like [`call_with`], over an existing connection.
pub(super) async fn call_on(
    channel: Channel,
    path: &str,
    bytes: Vec<u8>,
    metadata: &[(&'static str, &str)],
) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(bytes);
    for (name, value) in metadata {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    // The first message is enough, also of a stream.
    let response = client.server_streaming(request, path.parse().unwrap(), Bytes).await?;
    Ok(response.into_inner().message().await?.unwrap_or_default())
}

struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, length).to_vec()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
