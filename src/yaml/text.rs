//! Strangers' text, as it may be shown.

/// Whether a terminal would obey the character, or a reader would see something else than what is there: controls (Cc),
/// formats (Cf: directions, invisible marks, tags), and separators of lines and paragraphs.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// A stranger's text, of one line, with what is [harmful](is_harmful) escaped.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { c.escape_default().to_string() } else { c.into() }).collect()
}

/// [`harmless`] for text of many lines.
pub fn harmless_lines(text: &str) -> String {
    text.split('\n')
        .map(|line| line.split('\t').map(harmless).collect::<Vec<_>>().join("\t"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_can_neither_command_a_terminal_nor_deceive_a_reader() {
        for c in
            ['\x1b', '\r', '\x7f', '\u{9b}', '\u{202e}', '\u{2028}', '\u{200b}', '\u{2066}', '\u{feff}', '\u{e0041}']
        {
            assert!(is_harmful(c), "{c:?}");
            assert_eq!(harmless(&format!("a{c}b")), format!("a{}b", c.escape_default()));
        }
        assert_eq!(harmless("a\nb\tc"), "a\\nb\\tc");
        assert_eq!(harmless_lines("a\n\tb\x1b"), "a\n\tb\\u{1b}");
        assert_eq!(harmless("grüße, 世界 \u{1f980}"), "grüße, 世界 \u{1f980}");
    }
}
