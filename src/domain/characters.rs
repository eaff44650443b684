//! Invisible characters: one list for input, which refuses them, and output, which escapes them.
//! Also removes what is copied along with a token.

/// Extracts a token or secret from pasted text: removes surrounding white space and invisible
/// characters, and a leading `Authorization:` or `Bearer`.
pub fn pasted(text: &str) -> &str {
    let text = trimmed(text);
    without_word(without_word(text, "authorization:"), "bearer")
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(is_padding)
}

fn is_padding(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

/// Removes a leading word, if more text follows.
fn without_word<'a>(text: &'a str, word: &str) -> &'a str {
    let Some((first, rest)) = text.split_at_checked(word.len()) else {
        return text;
    };
    let ends = word.ends_with(':') || rest.starts_with(is_padding);
    if ends && first.eq_ignore_ascii_case(word) { trimmed(rest) } else { text }
}

/// Characters that renderers leave out (`Default_Ignorable_Code_Point`), and noncharacters.
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
            | '\u{fdd0}'..='\u{fdef}'
    ) || u32::from(c) & 0xfffe == 0xfffe
}

/// Whether output should escape the character: control characters, line separators, and invisible
/// characters. Variation selectors stay, because emoji in names need them.
pub fn is_hidden(c: char) -> bool {
    let is_variation_selector = matches!(c, '\u{fe00}'..='\u{fe0f}');
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || (is_invisible(c) && !is_variation_selector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_token_loses_surrounding_text() {
        for text in [
            "T",
            " T",
            "T\n",
            "T\r\n",
            "\u{feff}T\u{200b}",
            "Bearer T",
            "bearer  T ",
            "Authorization: Bearer T",
            "authorization:bearer\tT",
        ] {
            assert_eq!(pasted(text), "T", "{text:?}");
        }
        for (text, same) in [("", ""), (" ", ""), ("Bearer ", "Bearer"), ("BearerT", "BearerT")] {
            assert_eq!(pasted(text), same, "{text:?}");
        }
        assert_eq!(pasted("é"), "é", "shorter than the word, and not ASCII");
    }

    #[test]
    fn hidden_characters_are_recognised() {
        for c in ['\u{1b}', '\n', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{200b}'] {
            assert!(is_hidden(c), "{c:?}");
        }
        for c in ['a', 'é', ' ', 'א', '日', '😀'] {
            assert!(!is_hidden(c), "{c:?}");
        }
    }
}
