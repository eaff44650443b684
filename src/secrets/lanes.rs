//! The scheduling of hash jobs: who gets a place in the queue, who loses one, and which job runs
//! next. It has no threads and no clock.
//!
//! Each caller and each source has its own lane, and lanes take turns: however many jobs one lane
//! has, another lane waits for one of them. When all places are taken, the longest lane gives up
//! its newest place to a shorter lane. So a flood from one source uses free capacity, but does not
//! keep others out. Authenticated callers get every second turn, and can take all places of
//! unauthenticated guesses except an eighth.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::Source;

/// The share of places reserved for unauthenticated guesses: one in this many.
const GUESS_SHARE: usize = 8;

/// The lane of a hash job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// An authenticated caller, by name, that creates a secret.
    Caller(String),
    /// A source that presents secrets.
    Source(Source),
    /// An application that checks other clients' secrets and does not send their address.
    AskedBy(String),
    /// The origin of the secret is unknown.
    Unknown,
    /// This server itself, which hashes a secret again after a change of the master key.
    Rehash,
}

impl Lane {
    fn is_caller(&self) -> bool {
        matches!(self, Self::Caller(_))
    }
}

/// The places of all lanes. A lane without a place is dropped.
#[derive(Debug)]
pub(super) struct Lanes<J> {
    /// The maximum number of jobs that run at once.
    at_once: usize,
    /// The number of places, including those of running jobs.
    places: usize,
    running: usize,
    callers: Class<J>,
    guesses: Class<J>,
    last_turn_was_a_callers: bool,
    numbers: u64,
}

/// Identifies a place until its job runs.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    lane: Lane,
    number: u64,
}

/// A group of lanes that take turns.
#[derive(Debug)]
struct Class<J> {
    lanes: HashMap<Lane, LanePlaces<J>>,
    /// Lanes with a job, in the order of their turns.
    turns: BTreeMap<u64, Lane>,
    next_turn: u64,
    /// All lanes, sorted by the number of places.
    by_length: BTreeSet<(usize, Lane)>,
    held: usize,
}

/// The places of one lane. Newer places have higher numbers.
#[derive(Debug)]
struct LanePlaces<J> {
    /// Places whose job has not been submitted yet.
    reserved: BTreeSet<u64>,
    waiting: BTreeMap<u64, J>,
    /// The key of the lane in `turns`, if it has a job.
    turn: Option<u64>,
}

impl<J> Lanes<J> {
    /// Capacity for `at_once` running and `length` waiting jobs.
    pub(super) fn new(at_once: usize, length: usize) -> Self {
        Self {
            at_once,
            places: at_once + length,
            running: 0,
            callers: Class::default(),
            guesses: Class::default(),
            last_turn_was_a_callers: false,
            numbers: 0,
        }
    }

    /// Reserves a place, if one is free or a longer lane can give one up.
    pub(super) fn reserve(&mut self, lane: Lane) -> Option<Ticket> {
        if !self.has_room_for(&lane) {
            return None;
        }
        self.numbers += 1;
        let number = self.numbers;
        self.class(&lane).change(&lane, |line| line.reserved.insert(number));
        Some(Ticket { lane, number })
    }

    /// The number of places that are taken, without those of running jobs.
    pub(super) fn waiting(&self) -> usize {
        self.callers.held + self.guesses.held
    }

    /// Submits the job of a place. Returns false if the place was given to another lane.
    pub(super) fn enqueue(&mut self, ticket: &Ticket, job: J) -> bool {
        self.class(&ticket.lane).change(&ticket.lane, |line| {
            let holds = line.reserved.remove(&ticket.number);
            if holds {
                line.waiting.insert(ticket.number, job);
            }
            holds
        })
    }

    /// Gives a place back, with its job. Returns whether it was still reserved.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> bool {
        self.class(&ticket.lane).change(&ticket.lane, |line| line.remove(ticket.number))
    }

    /// The next job, if one more may run. It counts as running until [`finished`](Self::finished).
    pub(super) fn next(&mut self) -> Option<J> {
        if self.running == self.at_once {
            return None;
        }
        let callers_first = !self.last_turn_was_a_callers;
        let (first, second) = if callers_first {
            (&mut self.callers, &mut self.guesses)
        } else {
            (&mut self.guesses, &mut self.callers)
        };
        let (job, from_first) = match first.next() {
            Some(job) => (job, true),
            None => (second.next()?, false),
        };
        self.last_turn_was_a_callers = callers_first == from_first;
        self.running += 1;
        Some(job)
    }

    /// Notes that running jobs have ended.
    pub(super) fn finished(&mut self, jobs: usize) {
        self.running -= jobs;
    }

    /// Whether there is a free place, after taking one from a longer lane if necessary.
    fn has_room_for(&mut self, lane: &Lane) -> bool {
        let kept = self.places / GUESS_SHARE;
        let is_full = self.running + self.callers.held + self.guesses.held >= self.places;
        if !lane.is_caller() {
            return !is_full || self.guesses.make_room_for(lane);
        }
        if self.callers.held + kept >= self.places {
            return self.callers.make_room_for(lane);
        }
        !is_full || self.guesses.give_up_newest() || self.callers.make_room_for(lane)
    }

    fn class(&mut self, lane: &Lane) -> &mut Class<J> {
        if lane.is_caller() { &mut self.callers } else { &mut self.guesses }
    }
}

impl<J> Class<J> {
    /// Updates a lane and the indexes over all lanes.
    fn change<T>(&mut self, lane: &Lane, change: impl FnOnce(&mut LanePlaces<J>) -> T) -> T {
        let places = self.lanes.entry(lane.clone()).or_default();
        let before = places.held();
        let changed = change(places);
        let after = places.held();
        match (places.turn, places.waiting.is_empty()) {
            (None, false) => {
                self.turns.insert(self.next_turn, lane.clone());
                places.turn = Some(self.next_turn);
                self.next_turn += 1;
            }
            (Some(turn), true) => {
                self.turns.remove(&turn);
                places.turn = None;
            }
            _ => {}
        }
        if after == 0 {
            self.lanes.remove(lane);
        }
        if before != after {
            self.by_length.remove(&(before, lane.clone()));
            if after > 0 {
                self.by_length.insert((after, lane.clone()));
            }
            self.held = self.held + after - before;
        }
        changed
    }

    /// The oldest job of the lane whose turn it is. The lane then goes to the end of the order.
    fn next(&mut self) -> Option<J> {
        let (_, lane) = self.turns.pop_first()?;
        self.change(&lane, |line| {
            line.turn = None;
            line.waiting.pop_first().map(|(_, job)| job)
        })
    }

    /// Takes the newest place of the longest lane for `lane`, if the longest lane then still has at
    /// least as many places as `lane`.
    fn make_room_for(&mut self, lane: &Lane) -> bool {
        let held = self.lanes.get(lane).map_or(0, LanePlaces::held);
        let longest = self.by_length.last().map_or(0, |(length, _)| *length);
        longest > held + 1 && self.give_up_newest()
    }

    /// Takes the newest place of the longest lane.
    fn give_up_newest(&mut self) -> bool {
        let Some((_, lane)) = self.by_length.last().cloned() else { return false };
        self.change(&lane, |line| line.newest().is_some_and(|newest| line.remove(newest)))
    }
}

impl<J> LanePlaces<J> {
    fn held(&self) -> usize {
        self.reserved.len() + self.waiting.len()
    }

    fn newest(&self) -> Option<u64> {
        let waiting = self.waiting.last_key_value().map(|(number, _)| *number);
        waiting.max(self.reserved.last().copied())
    }

    fn remove(&mut self, number: u64) -> bool {
        self.reserved.remove(&number) || self.waiting.remove(&number).is_some()
    }
}

impl<J> Default for Class<J> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            turns: BTreeMap::new(),
            next_turn: 0,
            by_length: BTreeSet::new(),
            held: 0,
        }
    }
}

impl<J> Default for LanePlaces<J> {
    fn default() -> Self {
        Self { reserved: BTreeSet::new(), waiting: BTreeMap::new(), turn: None }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(number: u8) -> Lane {
        Lane::Source(Source::of(IpAddr::from([192, 0, 2, number])))
    }

    fn caller(name: &str) -> Lane {
        Lane::Caller(name.to_owned())
    }

    /// Adds a job that returns its lane.
    fn add(lanes: &mut Lanes<Lane>, lane: &Lane) -> Option<Ticket> {
        let place = lanes.reserve(lane.clone())?;
        assert!(lanes.enqueue(&place, lane.clone()));
        Some(place)
    }

    /// The number of `jobs` that the lane gets a place for.
    fn flood(lanes: &mut Lanes<Lane>, lane: &Lane, jobs: usize) -> usize {
        (0..jobs).filter(|_| add(lanes, lane).is_some()).count()
    }

    fn run_next(lanes: &mut Lanes<Lane>) -> Option<Lane> {
        let job = lanes.next();
        lanes.finished(usize::from(job.is_some()));
        job
    }

    fn held(lanes: &Lanes<Lane>, lane: &Lane) -> usize {
        let class = if lane.is_caller() { &lanes.callers } else { &lanes.guesses };
        class.lanes.get(lane).map_or(0, LanePlaces::held)
    }

    fn holds(lanes: &Lanes<Lane>, ticket: &Ticket) -> bool {
        lanes.guesses.lanes.get(&ticket.lane).is_some_and(|line| {
            line.reserved.contains(&ticket.number) || line.waiting.contains_key(&ticket.number)
        })
    }

    fn assert_empty(lanes: &Lanes<Lane>) {
        for class in [&lanes.callers, &lanes.guesses] {
            assert!(class.lanes.is_empty() && class.turns.is_empty() && class.by_length.is_empty());
            assert_eq!(class.held, 0);
        }
    }

    #[test]
    fn lone_source_uses_all_places() {
        let mut lanes = Lanes::new(2, 14);
        assert_eq!(flood(&mut lanes, &source(1), 100), 16);
        while let Some(lane) = run_next(&mut lanes) {
            assert_eq!(lane, source(1));
        }
        assert_empty(&lanes);
    }

    #[test]
    fn flood_of_one_source_delays_another_by_one_job() {
        let mut lanes = Lanes::new(1, 64);
        flood(&mut lanes, &source(1), 1000);
        for _ in 0..10 {
            add(&mut lanes, &source(2)).expect("the longest lane gives up a place");
            flood(&mut lanes, &source(1), 10);
            let turns = [run_next(&mut lanes).unwrap(), run_next(&mut lanes).unwrap()];
            assert!(turns.contains(&source(2)), "{turns:?}");
        }
    }

    #[test]
    fn many_sources_share_places_and_turns_evenly() {
        let mut lanes = Lanes::new(1, 63);
        let sources: Vec<_> = (0..8).map(source).collect();
        for _ in 0..200 {
            for source in &sources {
                add(&mut lanes, source);
            }
        }
        for source in &sources {
            assert!((7..=9).contains(&held(&lanes, source)), "{}", held(&lanes, source));
        }
        let mut first_turns: Vec<_> = (0..8).map(|_| run_next(&mut lanes).unwrap()).collect();
        first_turns.sort();
        assert_eq!(first_turns, sources, "one turn each");
    }

    #[test]
    fn returning_source_waits_for_all_others() {
        let mut lanes = Lanes::new(1, 64);
        add(&mut lanes, &source(9));
        add(&mut lanes, &source(1));
        // The lane returns repeatedly, and the lanes' names sort before and after the other's.
        assert_eq!(run_next(&mut lanes), Some(source(9)));
        add(&mut lanes, &source(0));
        add(&mut lanes, &source(9));
        assert_eq!(run_next(&mut lanes), Some(source(1)));
    }

    #[test]
    fn newest_place_of_the_longest_lane_is_given_up() {
        let mut lanes = Lanes::new(1, 3);
        let old: Vec<_> = (0..4).map(|_| add(&mut lanes, &source(1)).unwrap()).collect();
        let new = lanes.reserve(source(2)).unwrap();
        let hold: Vec<_> = old.iter().map(|place| holds(&lanes, place)).collect();
        assert_eq!(hold, [true, true, true, false]);
        assert!(!lanes.leave(&old[3]) && !lanes.enqueue(&old[3], source(1)));
        // No place is taken for a lane that would then be as long, so places do not move back and
        // forth.
        assert!(lanes.reserve(source(2)).is_some());
        assert!(lanes.reserve(source(2)).is_none());
        assert!(lanes.reserve(source(1)).is_none());
        assert!(holds(&lanes, &new), "a reserved place without a job counts");
    }

    #[test]
    fn caller_takes_places_and_every_second_turn_from_guesses() {
        let mut lanes = Lanes::new(1, 63);
        for number in 0..64 {
            flood(&mut lanes, &source(number), 10);
        }
        assert!(lanes.reserve(source(200)).is_none(), "each source has one");
        assert_eq!(flood(&mut lanes, &caller("admin"), 5), 5);
        for _ in 0..5 {
            let turns = [run_next(&mut lanes).unwrap(), run_next(&mut lanes).unwrap()];
            assert_eq!(turns.iter().filter(|lane| lane.is_caller()).count(), 1, "{turns:?}");
        }
    }

    #[test]
    fn callers_leave_an_eighth_to_guesses() {
        let mut lanes = Lanes::new(1, 63);
        assert_eq!(flood(&mut lanes, &caller("one"), 100), 56);
        assert_eq!(flood(&mut lanes, &source(1), 100), 8);
        assert_eq!(flood(&mut lanes, &caller("other"), 100), 28);
        assert_eq!(held(&lanes, &caller("one")), 28);
        assert_eq!(held(&lanes, &source(1)), 8);
    }

    #[test]
    fn place_of_a_cancelled_caller_is_free_immediately() {
        let mut lanes = Lanes::new(1, 3);
        let places: Vec<_> = (0..4).map(|_| add(&mut lanes, &source(1)).unwrap()).collect();
        assert!(lanes.reserve(source(1)).is_none());
        for place in &places {
            assert!(lanes.leave(place));
            assert!(!lanes.leave(place), "once");
        }
        assert_empty(&lanes);
        assert_eq!(run_next(&mut lanes), None, "the job of a cancelled caller is dropped");
        assert_eq!(flood(&mut lanes, &source(1), 10), 4);
    }

    #[test]
    fn running_jobs_are_bounded() {
        let mut lanes = Lanes::new(2, 2);
        assert_eq!(flood(&mut lanes, &source(1), 10), 4);
        assert!(lanes.next().is_some() && lanes.next().is_some() && lanes.next().is_none());
        // Running jobs keep their places.
        assert!(lanes.reserve(source(1)).is_none());
        lanes.finished(1);
        assert!(lanes.next().is_some() && lanes.next().is_none());
        assert!(lanes.reserve(source(1)).is_some());
    }
}
