//! The arithmetic of invoices against its own laws.

use proptest::prelude::*;

use super::*;

fn usd(minor: i64) -> Money {
    Money::from_minor(minor, "USD".parse().unwrap())
}

proptest! {
    #[test]
    fn the_shares_of_credit_notes_make_up_the_total(
        total in 0_i64..10_000_000,
        parts in prop::collection::vec(1_i64..1_000_000, 1..8),
    ) {
        let subtotal: i64 = parts.iter().sum();
        let mut before = 0;
        let mut sum = 0;
        for part in parts {
            let share = gross_of(part, before, subtotal, total);
            prop_assert!(share >= 0);
            sum += share;
            before += part;
        }
        prop_assert_eq!(sum, total);
    }

    #[test]
    fn credits_pay_no_more_than_is_owed_and_no_more_than_they_have(
        owed in -1_000_i64..100_000,
        amounts in prop::collection::vec((1_i64..50_000, 0_i64..50_000, 0_i64..3, prop::option::of(0_i64..20)), 0..6),
    ) {
        let at = |secs| Timestamp::from_secs(secs).unwrap();
        let rng = crate::kernel::SeededRng::new(1);
        let credits: Vec<Credit> = amounts.iter().map(|(amount, drawn, priority, expires)| Credit {
            id: CreditId::generate(at(0), &rng),
            amount: usd(*amount),
            drawn: usd(*drawn.min(amount)),
            priority: *priority,
            expires_at: expires.map(at),
            reason: String::new(),
            granted_at: at(0),
        }).collect();
        let now = at(10);
        let drawn = draws(usd(owed), &credits, now);
        let sum: i64 = drawn.iter().map(|(_, amount)| amount.minor()).sum();
        let usable: i64 = credits.iter().filter(|credit| !credit.is_expired(now)).map(Credit::left).sum();
        prop_assert_eq!(sum, owed.max(0).min(usable));
        for (id, amount) in drawn {
            let credit = credits.iter().find(|credit| credit.id == id).unwrap();
            prop_assert!(amount.minor() > 0 && amount.minor() <= credit.left() && !credit.is_expired(now));
        }
    }
}
