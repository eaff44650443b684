//! Places in the queue of hashes, and whose turn it is. No threads and no time: who holds a
//! place, who gives one up when there is none, and which job comes next.
//!
//! Each caller and each source has a lane of its own, and lanes take turns: however many jobs
//! one has, another waits for one of them. When all places are taken, the longest lane gives up
//! its newest for one that is shorter, so that a flood from one source fills what is free and
//! keeps no other out. Authenticated callers take every second turn and get the places of
//! guesses, all but an eighth.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::domain::Source;

/// One in so many places is for guesses, whatever authenticated callers ask for.
const GUESSES_KEEP: usize = 8;

/// Who waits for a hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// An authenticated caller, by name: for a secret that they create.
    Caller(String),
    /// A source that presents secrets.
    Source(Source),
    /// An application that asks about secrets of others, and does not say from where they came.
    AskedBy(String),
    /// Nothing is known of where a secret came from.
    Unknown,
}

impl Lane {
    fn is_caller(&self) -> bool {
        matches!(self, Self::Caller(_))
    }
}

/// The places of all lanes. Lanes without a place are forgotten.
#[derive(Debug)]
pub(super) struct Lanes<J> {
    /// How many have their turn at once.
    at_once: usize,
    /// How many places there are, those of running jobs included.
    places: usize,
    running: usize,
    callers: Class<J>,
    guesses: Class<J>,
    last_turn_was_a_callers: bool,
    numbers: u64,
}

/// Names a place, until its job runs.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    lane: Lane,
    number: u64,
}

/// Lanes that take turns with each other.
#[derive(Debug)]
struct Class<J> {
    lanes: HashMap<Lane, Line<J>>,
    /// Lanes that have a job, in the order of their turns.
    turns: BTreeMap<u64, Lane>,
    next_turn: u64,
    /// All lanes by how many places they hold.
    by_length: BTreeSet<(usize, Lane)>,
    held: usize,
}

/// The places of one lane, by number: older ones have lower numbers.
#[derive(Debug)]
struct Line<J> {
    /// Those whose job is not there yet.
    reserved: BTreeSet<u64>,
    waiting: BTreeMap<u64, J>,
    /// When it is this lane's turn, if it has a job.
    turn: Option<u64>,
}

impl<J> Lanes<J> {
    /// Room for so many jobs that run, and so many that wait.
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

    /// A place for a lane, if there is one or a longer lane has to give one up.
    pub(super) fn reserve(&mut self, lane: Lane) -> Option<Ticket> {
        if !self.has_room_for(&lane) {
            return None;
        }
        self.numbers += 1;
        let number = self.numbers;
        self.class(&lane).change(&lane, |line| line.reserved.insert(number));
        Some(Ticket { lane, number })
    }

    /// Puts a job in a place. The place may have been given up for another.
    pub(super) fn enqueue(&mut self, ticket: &Ticket, job: J) -> bool {
        self.class(&ticket.lane).change(&ticket.lane, |line| {
            let holds = line.reserved.remove(&ticket.number);
            if holds {
                line.waiting.insert(ticket.number, job);
            }
            holds
        })
    }

    /// Gives a place back, with its job; whether it was still held.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> bool {
        self.class(&ticket.lane).change(&ticket.lane, |line| line.remove(ticket.number))
    }

    /// The job whose turn it is, if one more can run. It runs until
    /// [`finished`](Self::finished).
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

    /// So many running jobs have ended.
    pub(super) fn finished(&mut self, jobs: usize) {
        self.running -= jobs;
    }

    /// Whether there is room for one more; makes some where another lane has to give way.
    fn has_room_for(&mut self, lane: &Lane) -> bool {
        let kept = self.places / GUESSES_KEEP;
        let is_full = self.running + self.callers.held + self.guesses.held >= self.places;
        if !lane.is_caller() {
            return !is_full || self.guesses.give_way_to(lane);
        }
        if self.callers.held + kept >= self.places {
            return self.callers.give_way_to(lane);
        }
        !is_full || self.guesses.give_up_newest() || self.callers.give_way_to(lane)
    }

    fn class(&mut self, lane: &Lane) -> &mut Class<J> {
        if lane.is_caller() { &mut self.callers } else { &mut self.guesses }
    }
}

impl<J> Class<J> {
    /// Changes a lane, and what is known of all of them with it.
    fn change<T>(&mut self, lane: &Lane, change: impl FnOnce(&mut Line<J>) -> T) -> T {
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

    /// The oldest job of the lane whose turn it is. The lane's next turn comes after those of all
    /// others.
    fn next(&mut self) -> Option<J> {
        let (_, lane) = self.turns.pop_first()?;
        self.change(&lane, |line| {
            line.turn = None;
            line.waiting.pop_first().map(|(_, job)| job)
        })
    }

    /// The longest lane gives up its newest place for a lane that will still be shorter than it
    /// was, or as long.
    fn give_way_to(&mut self, lane: &Lane) -> bool {
        let held = self.lanes.get(lane).map_or(0, Line::held);
        let longest = self.by_length.last().map_or(0, |(length, _)| *length);
        longest > held + 1 && self.give_up_newest()
    }

    /// The longest lane gives up its newest place.
    fn give_up_newest(&mut self) -> bool {
        let Some((_, lane)) = self.by_length.last().cloned() else { return false };
        self.change(&lane, |line| line.newest().is_some_and(|newest| line.remove(newest)))
    }
}

impl<J> Line<J> {
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

impl<J> Default for Line<J> {
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

    /// A job that tells whose it is.
    fn add(lanes: &mut Lanes<Lane>, lane: &Lane) -> Option<Ticket> {
        let place = lanes.reserve(lane.clone())?;
        assert!(lanes.enqueue(&place, lane.clone()));
        Some(place)
    }

    /// How many of so many the lane gets.
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
        class.lanes.get(lane).map_or(0, Line::held)
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
            add(&mut lanes, &source(2)).expect("the longest lane gives way");
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
        assert_eq!(first_turns, sources, "one each");
    }

    #[test]
    fn source_that_comes_back_waits_for_all_others() {
        let mut lanes = Lanes::new(1, 64);
        add(&mut lanes, &source(9));
        add(&mut lanes, &source(1));
        // As often as it likes, with lanes whose names sort before and after the other's.
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
        // No lane gives way to one that would then be as long: places do not go to and fro.
        assert!(lanes.reserve(source(2)).is_some());
        assert!(lanes.reserve(source(2)).is_none());
        assert!(lanes.reserve(source(1)).is_none());
        assert!(holds(&lanes, &new), "a place without a job is one as well");
    }

    #[test]
    fn caller_takes_places_and_every_second_turn_from_guesses() {
        let mut lanes = Lanes::new(1, 63);
        for number in 0..64 {
            flood(&mut lanes, &source(number), 10);
        }
        assert!(lanes.reserve(source(200)).is_none(), "each has one");
        assert_eq!(flood(&mut lanes, &caller("admin"), 5), 5);
        for _ in 0..5 {
            let turns = [run_next(&mut lanes).unwrap(), run_next(&mut lanes).unwrap()];
            assert_eq!(turns.iter().filter(|lane| lane.is_caller()).count(), 1, "{turns:?}");
        }
    }

    #[test]
    fn callers_leave_an_eighth_to_guesses_and_share_the_rest() {
        let mut lanes = Lanes::new(1, 63);
        assert_eq!(flood(&mut lanes, &caller("one"), 100), 56);
        assert_eq!(flood(&mut lanes, &source(1), 100), 8);
        assert_eq!(flood(&mut lanes, &caller("other"), 100), 28);
        assert_eq!(held(&lanes, &caller("one")), 28);
        assert_eq!(held(&lanes, &source(1)), 8);
    }

    #[test]
    fn place_of_one_who_goes_away_is_free_at_once() {
        let mut lanes = Lanes::new(1, 3);
        let places: Vec<_> = (0..4).map(|_| add(&mut lanes, &source(1)).unwrap()).collect();
        assert!(lanes.reserve(source(1)).is_none());
        for place in &places {
            assert!(lanes.leave(place));
            assert!(!lanes.leave(place), "once");
        }
        assert_empty(&lanes);
        assert_eq!(run_next(&mut lanes), None, "nothing is computed for them");
        assert_eq!(flood(&mut lanes, &source(1), 10), 4);
    }

    #[test]
    fn no_more_jobs_run_than_can_at_once() {
        let mut lanes = Lanes::new(2, 2);
        assert_eq!(flood(&mut lanes, &source(1), 10), 4);
        assert!(lanes.next().is_some() && lanes.next().is_some() && lanes.next().is_none());
        // Those that run have a place each.
        assert!(lanes.reserve(source(1)).is_none());
        lanes.finished(1);
        assert!(lanes.next().is_some() && lanes.next().is_none());
        assert!(lanes.reserve(source(1)).is_some());
    }
}
