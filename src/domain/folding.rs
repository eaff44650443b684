//! Case folding, for all comparisons and searches that ignore case.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

use super::characters::is_invisible;

/// Removes differences that people do not see: case (Unicode full case folding, so that `STRASSE`
/// matches `Straße`), form (NFKC: `é` as one character or two, full width, ligatures), and
/// invisible characters. The result is Unicode's `NFKC_Casefold`. NFC alone would keep texts apart
/// that look the same in a list. Folding does not depend on a language: the Turkish `İ` folds to
/// `i`, and `ı` stays a letter of its own.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let decompose = DecomposingNormalizerBorrowed::new_nfkd();
    let case = CaseMapper::new();
    // Marks must be ordered first, because some fold to letters. Compatibility decomposition can
    // produce letters with case, so the result is folded again.
    let canonical = DecomposingNormalizerBorrowed::new_nfd().normalize(text);
    let once = case.fold_string(&canonical);
    let compatible = decompose.normalize(&once);
    let twice = case.fold_string(&compatible);
    let mut before = None;
    let visible: String = twice
        .chars()
        .filter(|c| {
            // A dot above an `i` is not visible: `İzmir` folds to `izmir`.
            let is_seen =
                !is_invisible(*c) && (*c != '\u{307}' || !matches!(before, Some('i' | 'j')));
            before = Some(*c);
            is_seen
        })
        .collect();
    ComposingNormalizerBorrowed::new_nfkc().normalize(&visible).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_look_the_same_fold_to_the_same() {
        for (one, other) in [
            ("CRM", "crm"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
            ("Straße", "STRASSE"),
            ("STRAẞE", "strasse"),
            ("cafe\u{301}", "CAF\u{c9}"),
            ("ＡＣＭＥ", "acme"),
            ("ﬁnance", "FINANCE"),
            ("K", "k"),
            ("Å", "\u{e5}"),
            ("ὈΔΥΣΣΕΎΣ", "ὀδυσσεύς"),
            ("İ", "i\u{307}"),
            ("İzmir", "İZMİR"),
            ("İzmir", "izmir"),
            ("می\u{200c}خواهم", "میخواهم"),
            ("so\u{ad}ft", "soft"),
            ("ǅ", "ǆ"),
            ("①", "1"),
        ] {
            assert_eq!(fold(one), fold(other), "{one} {other}");
        }
        assert!(fold("ΟΔΥΣΣΕΥΣ").contains(&fold("ΟΔΥΣ")), "the final sigma is the same letter");
        for (one, other) in [("ı", "i"), ("é", "e"), ("o", "0")] {
            assert_ne!(fold(one), fold(other), "{one} {other}");
        }
    }

    #[test]
    fn folding_is_idempotent() {
        // All characters except ideographs and Hangul syllables, which fold to themselves.
        let numbers = (0..0x3400).chain(0xa000..0xac00).chain(0xd7a4..0x2_0000);
        let characters = numbers.chain(0x2_f800..0x2_fa20).filter_map(char::from_u32);
        for c in characters {
            for text in [c.to_string(), format!("a{c}\u{301}"), format!("{c}\u{345}\u{300}")] {
                let folded = fold(&text);
                assert_eq!(fold(&folded), folded, "{text:?}");
            }
        }
    }
}
