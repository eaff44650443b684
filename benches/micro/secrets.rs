//! Whether a string has the form of a secret, with its checksum; and whether it is among a hundred
//! thousand verified secrets, compared with computing its tag.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use keyward::internals::domain::{CredentialId, SecretKind, TenantId};
use keyward::internals::secrets::{Prefixes, PresentedSecret, Tagger, VerifiedSecrets};
use zeroize::Zeroizing;

pub(super) fn measure(criterion: &mut Criterion) {
    let prefixes = Prefixes::default();
    let id = CredentialId::parse("0199f5a0c3b97d2e8f4b6a1c5d3e7f90").unwrap();
    let mut group = criterion.benchmark_group("secrets");
    for (name, kind) in
        [("a client secret", SecretKind::ClientSecret), ("an API key", SecretKind::ApiKey)]
    {
        let secret = prefixes.generate(kind, &id).unwrap();
        group.bench_function(format!("form of {name}"), |bencher| {
            bencher.iter(|| prefixes.is_plausible(black_box(&secret), kind, &id));
        });
    }
    remembered(&mut group, &prefixes, &id);
    group.finish();
}

fn remembered(
    group: &mut BenchmarkGroup<'_, WallTime>,
    prefixes: &Prefixes,
    credential: &CredentialId,
) {
    const REMEMBERED: i64 = 100_000;
    let tenant = TenantId::parse("acme").unwrap();
    let secret = prefixes.generate(SecretKind::ClientSecret, credential).unwrap();
    let presented =
        |version| PresentedSecret { tenant: &tenant, credential, version, secret: &secret };
    let verified = VerifiedSecrets::new().unwrap();
    (0..REMEMBERED).for_each(|version| verified.keep(&presented(version)).unwrap());
    let tagger = Tagger::new(&Zeroizing::new([7; 32]));
    group.bench_function("tag alone", |bencher| {
        bencher.iter(|| tagger.tag(black_box(&presented(1))).unwrap());
    });
    for (name, version) in [("one that was right", 1), ("one that was not", REMEMBERED)] {
        group.bench_function(format!("remembering {name}"), |bencher| {
            bencher.iter(|| verified.knows(black_box(&presented(version))).unwrap());
        });
    }
}
