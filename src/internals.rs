//! What tests and benchmarks use of the inside. This is no interface: anything here changes
//! without notice.

macro_rules! rooms {
    ($($room:ident),* $(,)?) => {
        $(
            #[expect(missing_docs, reason = "documented where it is defined")]
            pub mod $room {
                pub use crate::$room::*;
            }
        )*
    };
}

rooms! {
    clock, config, domain, error, keys, limiter, redis, revocation, secrets, server, service, store,
}
