//! Validation of text that people write: names, descriptions, reasons. Invisible characters are
//! refused, because they make different texts look equal, or change how a text reads. Characters
//! that scripts need stay allowed: combining marks, joiners between letters that join, and emoji
//! sequences.

use super::Fault;
use super::characters::is_invisible;
use crate::error::Result;

/// A single line of `min` to `max` characters.
pub fn text(value: &str, min: usize, max: usize) -> Result<String, Fault> {
    check(value, min, max, LineMode::One)
}

/// One or more lines, at most `max` characters together.
pub fn long_text(value: &str, max: usize) -> Result<String, Fault> {
    check(value, 0, max, LineMode::Many)
}

/// A search term of at most `max` characters. It can be part of a word.
pub fn search_text(value: &str, max: usize) -> Result<String, Fault> {
    check_length(value, 0, max)?;
    if let Some(c) = value.chars().find(|c| c.is_control()) {
        return Err(control(c));
    }
    if !value.is_empty() && value.chars().all(is_invisible) {
        return Err(Fault::new("must contain a visible character"));
    }
    Ok(value.to_owned())
}

/// An email address. Only the form `a@b` is checked; empty is allowed.
pub fn email(value: &str) -> Result<String, Fault> {
    let plausible = value
        .split_once('@')
        .is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'));
    let fits = value.len() <= 254 && !value.chars().any(char::is_whitespace);
    if value.is_empty() || (plausible && fits) {
        check(value, 0, 254, LineMode::One)
    } else {
        Err(Fault::new("must be an email address of at most 254 characters"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineMode {
    One,
    Many,
}

fn check(value: &str, min: usize, max: usize, lines: LineMode) -> Result<String, Fault> {
    check_length(value, min, max)?;
    if value.is_empty() {
        return Ok(String::new());
    }
    let mut before = None;
    let mut rest = value.chars().peekable();
    while let Some(c) = rest.next() {
        check_character(c, before, rest.peek().copied(), lines)?;
        before = Some(c);
    }
    if value.chars().all(is_blank) {
        return Err(Fault::new("must not be blank"));
    }
    let is_space = |c: Option<char>| c.is_some_and(char::is_whitespace);
    if lines == LineMode::One && (is_space(value.chars().next()) || is_space(before)) {
        return Err(Fault::new("must not begin or end with a space"));
    }
    Ok(value.to_owned())
}

fn check_length(value: &str, min: usize, max: usize) -> Result<(), Fault> {
    let length = value.chars().count();
    if length < min && min == 1 {
        return Err(Fault::new("must not be empty"));
    }
    if length < min || length > max {
        return Err(Fault::new(format!("must have {min} to {max} characters, not {length}")));
    }
    Ok(())
}

fn check_character(
    c: char,
    before: Option<char>,
    behind: Option<char>,
    lines: LineMode,
) -> Result<(), Fault> {
    match c {
        '\n' | '\t' if lines == LineMode::Many => Ok(()),
        '\r' if lines == LineMode::Many && behind == Some('\n') => Ok(()),
        '\n' | '\r' if lines == LineMode::One => Err(Fault::new("must be a single line")),
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => Err(control(c)),
        c if changes_direction(c) => Err(Fault::new(format!(
            "must not contain {}, which changes the text direction",
            code(c)
        ))),
        '\u{200c}' | '\u{200d}' if joins(c, before, behind) => Ok(()),
        '\u{200c}' | '\u{200d}' => {
            Err(Fault::new(format!("must not contain {} between these characters", code(c))))
        }
        c if is_selector(c) && before.is_some_and(|before| has_variants(before, c)) => Ok(()),
        c if is_invisible(c) => {
            Err(Fault::new(format!("must not contain the invisible character {}", code(c))))
        }
        _ => Ok(()),
    }
}

fn code(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

fn control(c: char) -> Fault {
    Fault::new(format!("must not contain the control character {}", code(c)))
}

/// Marks, embeddings, overrides and isolates (UAX #9), which make a text appear in another order.
/// Letters of right-to-left scripts have their direction without them.
fn changes_direction(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Whether the character shows nothing: white space, invisible characters, and two that look like a
/// space.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || is_invisible(c) || matches!(c, '\u{2800}' | '\u{303f}')
}

/// Whether a joiner has a meaning here: in scripts that use it (Arabic and related, Indic,
/// Mongolian), and between parts of an emoji. Elsewhere, such as between Latin letters, it would
/// only make two names look equal.
fn joins(joiner: char, before: Option<char>, behind: Option<char>) -> bool {
    let (Some(before), Some(behind)) = (before, behind) else {
        return false;
    };
    let in_emoji = |c| is_pictograph(c) || matches!(c, '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}');
    (is_joining_script(before) && is_joining_script(behind))
        || (joiner == '\u{200d}' && in_emoji(before) && is_pictograph(behind))
}

fn is_joining_script(c: char) -> bool {
    matches!(
        c,
        '\u{620}'..='\u{6ff}' // Arabic
            | '\u{700}'..='\u{8ff}' // Syriac, Thaana, N'Ko, Mandaic, more of Arabic
            | '\u{900}'..='\u{dff}' // From Devanagari to Sinhala
            | '\u{f00}'..='\u{109f}' // Tibetan, Myanmar
            | '\u{1780}'..='\u{17b3}' | '\u{17b6}'..='\u{17ff}' // Khmer
            | '\u{1820}'..='\u{18af}' // Mongolian
            | '\u{1900}'..='\u{1aaf}' // Limbu to Tai Tham
            | '\u{1b00}'..='\u{1cff}' // Balinese to Vedic
            | '\u{a800}'..='\u{a8ff}' | '\u{a930}'..='\u{aadf}' | '\u{aae0}'..='\u{abff}'
            | '\u{fb50}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
            | '\u{10a00}'..='\u{10fff}' // Kharoshthi to Elymaic
            | '\u{11000}'..='\u{11fff}' // Brahmi and its kin
            | '\u{1e900}'..='\u{1e95f}' // Adlam
    )
}

/// Symbols that emoji consist of.
fn is_pictograph(c: char) -> bool {
    matches!(
        c,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}'
            | '\u{2100}'..='\u{214f}'
            | '\u{2190}'..='\u{23ff}'
            | '\u{24c2}'
            | '\u{25a0}'..='\u{27bf}'
            | '\u{2900}'..='\u{297f}'
            | '\u{2b00}'..='\u{2bff}'
            | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
            | '\u{1f000}'..='\u{1f3fa}'
            | '\u{1f400}'..='\u{1faff}'
    )
}

fn is_selector(c: char) -> bool {
    matches!(
        c,
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' | '\u{180b}'..='\u{180d}' | '\u{180f}'
    )
}

/// Whether a variation selector has a meaning after `before`: emoji and keycaps, ideographs
/// (Japanese names need them), Mongolian, Myanmar. Elsewhere it is invisible.
fn has_variants(before: char, selector: char) -> bool {
    match selector {
        '\u{180b}'..='\u{180f}' => matches!(before, '\u{1820}'..='\u{18af}'),
        '\u{e0100}'..='\u{e01ef}' => is_ideograph(before),
        '\u{fe0e}' | '\u{fe0f}' => {
            is_pictograph(before) || matches!(before, '0'..='9' | '#' | '*') || is_ideograph(before)
        }
        _ => {
            is_ideograph(before)
                || matches!(before, '\u{1000}'..='\u{109f}' | '\u{a840}'..='\u{a87f}' | '\u{2200}'..='\u{22ff}')
        }
    }
}

fn is_ideograph(c: char) -> bool {
    matches!(
        c,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(value: &str) -> String {
        text(value, 0, 100).unwrap_err().0
    }

    #[test]
    fn text_counts_characters_and_refuses_control_characters() {
        assert_eq!(text("Zoë", 1, 3), Ok("Zoë".to_owned()));
        assert_eq!(text("", 1, 3), Err(Fault::new("must not be empty")));
        assert!(text("four", 1, 3).is_err());
        assert_eq!(fault("a\u{1b}[2J"), "must not contain the control character U+001B");
    }

    #[test]
    fn invisible_characters_are_refused_in_every_position() {
        let invisible = (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| is_invisible(*c));
        for c in invisible {
            for value in [format!("a{c}"), format!("{c}a"), format!("a{c}b"), c.to_string()] {
                assert!(text(&value, 0, 100).is_err(), "{value:?}");
                assert!(long_text(&value, 100).is_err(), "{value:?}");
                assert!(email(&format!("{value}@b")).is_err(), "{value:?}");
            }
        }
        for blank in [" ", "\u{a0}", "\u{2003}", "\u{3000}", "\u{2800}", "\u{2800} "] {
            assert_eq!(fault(blank), "must not be blank");
        }
        assert_eq!(fault("a "), "must not begin or end with a space");
    }

    #[test]
    fn scripts_keep_the_characters_they_need() {
        for good in [
            "می\u{200c}خواهم",
            "\u{915}\u{94d}\u{200d}\u{937}",
            "\u{dc1}\u{dca}\u{200d}\u{dbb}\u{dd3}",
            "עברית العربية",
            "👩\u{200d}👩\u{200d}👧",
            "👩\u{1f3fd}\u{200d}💻",
            "🏳\u{fe0f}\u{200d}🌈",
            "❤\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "辻\u{e0100}",
            "e\u{301}",
            "\u{1ce5}\u{308}",
            "Ω ﬁ ①",
        ] {
            assert_eq!(text(good, 1, 100).as_deref(), Ok(good));
        }
        for bad in ["ad\u{200d}min", "\u{200d}👩", "👩\u{200d}", "a\u{fe0f}", "\u{1f3f4}\u{e0067}"]
        {
            assert!(text(bad, 1, 100).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_long_texts_have_several_lines() {
        for good in ["a\nb", "a\r\nb", "\ta\n", "a \n b "] {
            assert_eq!(long_text(good, 100).as_deref(), Ok(good));
            assert!(text(good, 0, 100).is_err(), "{good:?}");
        }
        for bad in ["a\rb", "a\u{2028}b", "\n", "a\u{b}b", "a\u{85}b"] {
            assert!(long_text(bad, 100).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn email_address_has_a_local_part_and_a_host() {
        for good in ["", "ops@example.com", "a+b@c", "josé@例え.jp"] {
            assert!(email(good).is_ok(), "{good}");
        }
        let long = format!("{}@b", "a".repeat(254));
        for bad in ["ops", "@example.com", "ops@", "a@b@c", "a b@c", "a\u{202e}@b", &long] {
            assert!(email(bad).is_err(), "{bad}");
        }
    }
}
