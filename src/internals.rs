//! Private modules that tests and benchmarks use. This is not a public interface: it can change
//! without notice.

macro_rules! reexport {
    ($($module:ident),* $(,)?) => {
        $(
            pub mod $module {
                pub use crate::$module::*;
            }
        )*
    };
}

reexport! {
    certificates, clock, config, domain, error, jose, keys, limiter, outbound, redis, revocation, secrets, server, service, store,
}
