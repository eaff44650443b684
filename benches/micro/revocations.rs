//! Looking up a token that is not in the revocation list, beside maps with the ids as they are.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::RwLock;

use criterion::{BenchmarkId, Criterion};
use jiff::Timestamp;
use keyward::internals::domain::{Epochs, Revocation, RevocationKeys, Subject};
use keyward::internals::revocation::Index;

pub(super) fn measure(criterion: &mut Criterion) {
    let revocation_keys = RevocationKeys {
        signing_key: Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        tenant: "acme",
        application: "tenants/acme/applications/crm",
        credential: "0199f5a0c3b97d2e8f4b6a1c5d3e7f90",
        token: Some("0199f5a0c3b97d2e8f4b6a1c5d3e7f91"),
        epochs: Epochs { tenant: 0, application: 3, credential: 1 },
        parents: &[],
    };
    let mut group = criterion.benchmark_group("revocations");
    for held in [0, 100_000, 1_000_000] {
        let index = Index::default();
        index.replace("a list", held, 0, (1..=held).map(revocation).collect());
        group.bench_with_input(BenchmarkId::new("look-up", held), &index, |bencher, index| {
            bencher.iter(|| index.revokes(black_box(&revocation_keys)));
        });
        let maps = RwLock::new(Maps::new((1..=held).map(revocation)));
        group.bench_with_input(
            BenchmarkId::new("look-up in maps", held),
            &maps,
            |bencher, maps| {
                bencher.iter(|| maps.read().unwrap().revokes(black_box(&revocation_keys)));
            },
        );
    }
    group.finish();
}

/// The least that a look-up by the claims of a token can do without a compact form of its id.
#[derive(Default)]
struct Maps {
    tokens: HashMap<String, Timestamp>,
    credentials: HashMap<String, i64>,
    applications: HashMap<String, i64>,
    tenants: HashMap<String, i64>,
}

impl Maps {
    fn new(revocations: impl Iterator<Item = Revocation>) -> Self {
        let mut maps = Self::default();
        for Revocation { subject, epoch, expires_at, .. } in revocations {
            match subject {
                Subject::Token(id) => drop(maps.tokens.insert(id, expires_at)),
                subject => drop(maps.applications.insert(subject.name(), epoch)),
            }
        }
        maps
    }

    fn revokes(&self, keys: &RevocationKeys<'_>) -> bool {
        let below = |epochs: &HashMap<String, i64>, key: &str, epoch: i64| {
            epochs.get(key).is_some_and(|raised| epoch < *raised)
        };
        below(&self.tenants, keys.tenant, keys.epochs.tenant)
            || below(&self.applications, keys.application, keys.epochs.application)
            || below(&self.credentials, keys.credential, keys.epochs.credential)
            || keys.token.is_some_and(|id| self.tokens.contains_key(id))
    }
}

/// Half of the entries are for tokens, the others for applications.
fn revocation(number: i64) -> Revocation {
    let epoch = number % 2;
    let subject = if epoch == 0 {
        Subject::Token(format!("{number:032x}"))
    } else {
        let name = format!("tenants/other/applications/app-{number}");
        Subject::parse("application", &name).unwrap()
    };
    Revocation {
        number,
        subject,
        epoch,
        revoked_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
    }
}
