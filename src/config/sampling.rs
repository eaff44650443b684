use crate::domain::Fault;

/// Which requests are traced, if traces are exported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TraceSampling {
    /// All requests, regardless of the caller.
    Always,
    /// A share of the requests from 0 to 1, regardless of the caller.
    Share(f64),
    /// As the caller's `traceparent` says; without one, the request is traced.
    Caller,
}

impl TraceSampling {
    pub(super) fn parse(value: &str) -> Result<Self, Fault> {
        match value {
            "always" => Ok(Self::Always),
            "caller" => Ok(Self::Caller),
            _ => {
                let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
                let wrong =
                    || Fault::new("must be always, caller, or a share from 0 to 1 like 0.1");
                share.map(Self::Share).ok_or_else(wrong)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_a_keyword_or_a_share() {
        assert_eq!(TraceSampling::parse("always"), Ok(TraceSampling::Always));
        assert_eq!(TraceSampling::parse("caller"), Ok(TraceSampling::Caller));
        assert_eq!(TraceSampling::parse("0.1"), Ok(TraceSampling::Share(0.1)));
        for wrong in ["", "never", "1.1", "-0.1", "NaN", "inf", "10%"] {
            assert!(TraceSampling::parse(wrong).is_err(), "{wrong}");
        }
    }
}
