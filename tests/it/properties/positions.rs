//! Positions in revocation lists.

use jiff::Timestamp;
use keyward::internals::revocation::Cursor;
use keyward::internals::revocation::cursor::successor;
use proptest::prelude::*;

use super::cases;

/// A list: that of a database, or one that was declared later.
fn feed() -> impl Strategy<Value = String> {
    ("(db|db-2|other)", proptest::option::of(1_i64..4)).prop_map(|(database, declared)| {
        declared.map_or(database.clone(), |declared| format!("{database}.{declared}"))
    })
}

fn cursor() -> impl Strategy<Value = Cursor> {
    (feed(), 0_i64..4).prop_map(|(feed, number)| Cursor { feed, number })
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn cursor_is_parsed_from_its_text(cursor in cursor()) {
        prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
    }

    #[test]
    fn parsed_cursor_has_no_negative_number(text in "[a-z.-]{0,4}-?-?[0-9]{0,20}") {
        prop_assert!(Cursor::parse(&text).is_ok_and(|cursor| cursor.number >= 0)
            || Cursor::parse(&text).is_err());
    }

    #[test]
    fn cursors_of_one_database_are_in_one_order(a in cursor(), b in cursor(), c in cursor()) {
        prop_assert_eq!(a.compare(&b), b.compare(&a).map(std::cmp::Ordering::reverse));
        prop_assert_eq!(a.compare(&b) == Some(std::cmp::Ordering::Equal), a == b);
        if let (Some(one), Some(other)) = (a.compare(&b), b.compare(&c))
            && one == other
        {
            prop_assert_eq!(a.compare(&c), Some(one));
        }
    }

    #[test]
    fn declared_list_is_newer_whatever_the_clock_says(at in cursor(), micros in 0_i64..5) {
        let now = Timestamp::from_microsecond(micros).unwrap();
        let declared = Cursor { feed: successor(&at.feed, now), number: 0 };
        prop_assert_eq!(declared.compare(&at), Some(std::cmp::Ordering::Greater));
    }
}
