//! Which master keys a server holds, and which servers may run beside each other.

use jiff::Timestamp;

/// The master keys of one running server, by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKeys {
    /// Random, of one run of a server.
    pub id: String,
    /// The host and the address of the gRPC listener, for people.
    pub name: String,
    /// The key that it writes with.
    pub primary: String,
    /// Another key that it opens with.
    pub additional: Option<String>,
    /// When it last said so.
    pub seen_at: Timestamp,
}

impl ServerKeys {
    /// Whether the server can open what is written with this key.
    pub fn opens(&self, key: &str) -> bool {
        self.primary == key || self.additional.as_deref() == Some(key)
    }

    /// Why this server may not run beside another one: each must open what the other writes.
    pub fn conflict_with(&self, other: &Self) -> Option<String> {
        if !other.opens(&self.primary) {
            return Some(format!(
                "does not have master key {}, which this server writes with: set it there as \
                 additional_master_key first",
                self.primary
            ));
        }
        (!self.opens(&other.primary)).then(|| {
            format!(
                "writes with master key {}, which this server does not have: set it here as \
                 additional_master_key",
                other.primary
            )
        })
    }

    /// Why stored values may not be moved to this server's key while another one runs: that one
    /// would still write with its own.
    pub fn rewrap_conflict_with(&self, other: &Self) -> Option<String> {
        self.conflict_with(other).or_else(|| {
            (other.primary != self.primary).then(|| {
                format!(
                    "still writes with master key {}, and this one with {}: change its master_key \
                     first",
                    other.primary, self.primary
                )
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(primary: &str, additional: Option<&str>) -> ServerKeys {
        ServerKeys {
            id: String::new(),
            name: String::new(),
            primary: primary.to_owned(),
            additional: additional.map(ToOwned::to_owned),
            seen_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn servers_run_together_only_if_each_opens_what_the_other_writes() {
        let start = server("old", None);
        let step_a = server("old", Some("new"));
        let step_b = server("new", Some("old"));
        let step_c = server("new", None);
        for (one, other, together, rewraps) in [
            (&start, &start, true, true),
            (&step_a, &start, true, true),
            (&step_b, &step_a, true, false),
            (&step_b, &step_b, true, true),
            (&step_c, &step_b, true, true),
            (&step_b, &start, false, false),
            (&step_c, &step_a, false, false),
            (&step_c, &start, false, false),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                assert_eq!(one.conflict_with(other).is_none(), together, "{one:?} {other:?}");
                let rewrap = one.rewrap_conflict_with(other);
                assert_eq!(rewrap.is_none(), rewraps, "{one:?} {other:?}");
            }
        }
    }
}
