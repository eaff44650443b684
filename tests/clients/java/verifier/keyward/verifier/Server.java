package keyward.verifier;

import io.grpc.ChannelCredentials;

/**
 * Where Keyward is, and the credential: of an application of {@code system} with the scope {@code keyward.verify}.
 *
 * @param target an address such as {@code keyward.internal:50051}
 * @param tls {@code InsecureChannelCredentials} only on loopback, and in networks that are protected themselves
 */
public record Server(String target, String clientId, String clientSecret, ChannelCredentials tls) {}
