//! What has to be done so that a tenant has the infrastructure its tier asks for, and where there is room for it.

use super::model::{Infrastructure, Pool};
use crate::kernel::Isolation;

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is as it should be.
    Keep(Infrastructure),
    /// There is none yet.
    Create,
    /// It is of the other kind: make the new place, carry everything over, take the old one down.
    Move {
        /// The place to leave.
        from: Infrastructure,
    },
}

/// Compares what is there with what is wanted.
pub fn action(existing: Option<Infrastructure>, wanted: Isolation) -> Action {
    match existing {
        None => Action::Create,
        Some(infrastructure) if infrastructure.isolation == wanted => Action::Keep(infrastructure),
        Some(from) => Action::Move { from },
    }
}

/// A pool without a limit counts as one of so many places.
const UNLIMITED: i64 = 1_000_000_000;

/// The pools that have room, the least filled first; of those that are filled alike the one that was named first.
pub fn with_room<'a>(pools: &'a [Pool], taken: &[(String, i64)]) -> Vec<&'a Pool> {
    let taken_of = |pool: &Pool| taken.iter().find(|(name, _)| *name == pool.name).map_or(0, |(_, taken)| *taken);
    let share = |pool: &Pool| {
        let capacity = i128::from(pool.capacity.unwrap_or(UNLIMITED).max(1));
        i128::from(taken_of(pool)) * i128::from(UNLIMITED) / capacity
    };
    let mut found: Vec<&Pool> =
        pools.iter().filter(|pool| pool.capacity.is_none_or(|most| taken_of(pool) < most)).collect();
    found.sort_by_key(|pool| share(pool));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, capacity: i64) -> Pool {
        Pool { name: name.to_owned(), capacity: (capacity > 0).then_some(capacity) }
    }

    #[test]
    fn the_least_filled_pool_with_room_comes_first_and_a_full_one_not_at_all() {
        let pools = [pool("a", 10), pool("b", 100), pool("c", 2), pool("d", 0)];
        let names = |taken: &[(&str, i64)]| {
            let taken: Vec<_> = taken.iter().map(|(name, taken)| ((*name).to_owned(), *taken)).collect();
            with_room(&pools, &taken).into_iter().map(|pool| pool.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["a", "b", "c", "d"]);
        assert_eq!(names(&[("a", 1), ("b", 5), ("c", 2)]), ["d", "b", "a"]);
        assert_eq!(names(&[("a", 10), ("b", 100), ("c", 3), ("d", 2_000_000)]), ["d"]);
        assert!(with_room(&pools[..1], &[("a".to_owned(), 10)]).is_empty());
    }
}
