//! Whether a string has the form of a secret, checksum and all.

use std::hint::black_box;

use criterion::Criterion;
use keyward::domain::{CredentialId, CredentialKind};
use keyward::secrets::Prefixes;

pub(super) fn measure(criterion: &mut Criterion) {
    let prefixes = Prefixes::default();
    let id = CredentialId::parse("0199f5a0c3b97d2e8f4b6a1c5d3e7f90").unwrap();
    let mut group = criterion.benchmark_group("secrets");
    for (name, kind) in
        [("a client secret", CredentialKind::ClientSecret), ("an API key", CredentialKind::ApiKey)]
    {
        let secret = prefixes.generate(kind, &id).unwrap();
        group.bench_function(format!("form of {name}"), |bencher| {
            bencher.iter(|| prefixes.is_plausible(black_box(&secret), kind, &id));
        });
    }
    group.finish();
}
