//! Which requests are traced.

use crate::domain::Fault;

/// Which requests are traced, where traces are sent at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TraceSampling {
    /// All, whatever their callers ask for.
    Always,
    /// A share of them from 0 to 1, whatever their callers ask for.
    Share(f64),
    /// Those whose callers ask for it, and those whose callers send no trace.
    Caller,
}

impl TraceSampling {
    pub(super) fn parse(value: &str) -> Result<Self, Fault> {
        match value {
            "always" => Ok(Self::Always),
            "caller" => Ok(Self::Caller),
            _ => {
                let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
                let wrong = || Fault::new("must be always, caller, or a share from 0 to 1 as 0.1");
                share.map(Self::Share).ok_or_else(wrong)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_a_word_or_a_share() {
        assert_eq!(TraceSampling::parse("always"), Ok(TraceSampling::Always));
        assert_eq!(TraceSampling::parse("caller"), Ok(TraceSampling::Caller));
        assert_eq!(TraceSampling::parse("0.1"), Ok(TraceSampling::Share(0.1)));
        for wrong in ["", "never", "1.1", "-0.1", "NaN", "inf", "10%"] {
            assert!(TraceSampling::parse(wrong).is_err(), "{wrong}");
        }
    }
}
