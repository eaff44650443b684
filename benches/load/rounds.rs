//! Rounds: compared servers are measured in turns, so that other load of the machine affects all of
//! them.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::load::{Caller, Measured, press};
use crate::process::Process;
use crate::settings::Settings;

/// The warm-up before a measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// A compared server with its callers.
pub(crate) struct Side<'a, C> {
    pub(crate) server: &'a Process,
    pub(crate) callers: Vec<C>,
    warm_up: Duration,
}

impl<'a, C> Side<'a, C> {
    pub(crate) fn new(server: &'a Process, callers: Vec<C>) -> Self {
        Self { server, callers, warm_up: WARM_UP }
    }

    /// Measured from the first call on, because calls are not alike.
    pub(crate) fn cold(self) -> Self {
        Self { warm_up: Duration::ZERO, ..self }
    }
}

/// The measurements of each, round by round.
pub(crate) async fn in_turns<C: Caller, const N: usize>(
    settings: &Settings,
    rounds: RangeInclusive<u32>,
    mut sides: [Side<'_, C>; N],
) -> [Vec<Measured>; N] {
    let mut measured = [const { Vec::new() }; N];
    for round in rounds {
        for turn in 0..N {
            // The order changes between rounds.
            let n = if round % 2 == 0 { turn } else { N - 1 - turn };
            let side = &mut sides[n];
            let callers = std::mem::take(&mut side.callers);
            let (callers, one) =
                press(callers, side.server, side.warm_up, settings.measured()).await;
            side.callers = callers;
            measured[n].push(one);
        }
    }
    measured
}

/// One value per round.
pub(crate) fn each(measured: &[Measured], number: impl Fn(&Measured) -> f64) -> Vec<f64> {
    measured.iter().map(number).collect()
}
