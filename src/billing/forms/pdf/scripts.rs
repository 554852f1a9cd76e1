//! Which script a character belongs to, for two questions: can it be printed letter by letter, and what would have it.

/// How a script is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// Letter by letter from the left.
    Plain,
    /// Letters join, stack, change places or run from the right: this form does not do that.
    Shaped,
}

/// A script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Script {
    /// Its name.
    pub(super) name: &'static str,
    /// How it is written.
    pub(super) writing: Writing,
    /// What has fonts for it.
    pub(super) remedy: &'static str,
}

const CJK: &str =
    "install a font that has them (Debian: fonts-noto-cjk), or name its folder in billing.fonts; then restart";
const OTHER: &str = "name the folder of a font that has them in billing.fonts; then restart";

const fn plain(name: &'static str, remedy: &'static str) -> Script {
    Script { name, writing: Writing::Plain, remedy }
}

const fn shaped(name: &'static str) -> Script {
    Script { name, writing: Writing::Shaped, remedy: OTHER }
}

/// Blocks of Unicode, in their order.
const BLOCKS: [(u32, u32, Script); 45] = [
    (0x0000, 0x02ff, plain("Latin", OTHER)),
    (0x0300, 0x036f, plain("combining", OTHER)),
    (0x0370, 0x03ff, plain("Greek", OTHER)),
    (0x0400, 0x052f, plain("Cyrillic", OTHER)),
    (0x0530, 0x058f, plain("Armenian", OTHER)),
    (0x0590, 0x05ff, shaped("Hebrew")),
    (0x0600, 0x06ff, shaped("Arabic")),
    (0x0700, 0x074f, shaped("Syriac")),
    (0x0750, 0x077f, shaped("Arabic")),
    (0x0780, 0x07bf, shaped("Thaana")),
    (0x07c0, 0x07ff, shaped("N'Ko")),
    (0x0800, 0x08ff, shaped("Arabic")),
    (0x0900, 0x097f, shaped("Devanagari")),
    (0x0980, 0x0dff, shaped("Indic")),
    (0x0e00, 0x0e7f, shaped("Thai")),
    (0x0e80, 0x0eff, shaped("Lao")),
    (0x0f00, 0x0fff, shaped("Tibetan")),
    (0x1000, 0x109f, shaped("Myanmar")),
    (0x10a0, 0x10ff, plain("Georgian", OTHER)),
    (0x1100, 0x11ff, shaped("conjoining Korean")),
    (0x1200, 0x139f, plain("Ethiopic", OTHER)),
    (0x13a0, 0x13ff, plain("Cherokee", OTHER)),
    (0x1780, 0x17ff, shaped("Khmer")),
    (0x1800, 0x18af, shaped("Mongolian")),
    (0x1a00, 0x1cff, shaped("Brahmic")),
    (0x1e00, 0x1eff, plain("Latin", OTHER)),
    (0x1f00, 0x1fff, plain("Greek", OTHER)),
    (0x2e80, 0x303f, plain("Chinese", CJK)),
    (0x3040, 0x30ff, plain("Japanese", CJK)),
    (0x3100, 0x312f, plain("Chinese", CJK)),
    (0x3130, 0x318f, plain("Korean", CJK)),
    (0x3190, 0x31ef, plain("Chinese", CJK)),
    (0x31f0, 0x31ff, plain("Japanese", CJK)),
    (0x3200, 0x9fff, plain("Chinese", CJK)),
    (0xa8e0, 0xa8ff, shaped("Devanagari")),
    (0xa960, 0xa97f, shaped("conjoining Korean")),
    (0xac00, 0xd7a3, plain("Korean", CJK)),
    (0xd7b0, 0xd7ff, shaped("conjoining Korean")),
    (0xe000, 0xf8ff, plain("private-use", OTHER)),
    (0xf900, 0xfaff, plain("Chinese", CJK)),
    (0xfb1d, 0xfdff, shaped("Arabic")),
    (0xfe70, 0xfefe, shaped("Arabic")),
    (0xff00, 0xffef, plain("Chinese", CJK)),
    (0x1f000, 0x1faff, plain("picture", OTHER)),
    (0x20000, 0x3ffff, plain("Chinese", CJK)),
];

/// The script of a character. Han characters count as Chinese, whatever language they stand in.
pub(super) fn of(character: char) -> Script {
    let code = u32::from(character);
    let block = BLOCKS.iter().find(|(first, last, _)| (*first..=*last).contains(&code));
    block.map_or(plain("other", OTHER), |(_, _, script)| *script)
}

/// Whether lines may be broken on both sides of it: Han and Kana. Korean is broken at spaces.
pub(super) const fn is_broken_anywhere(character: char) -> bool {
    matches!(character, '\u{2e80}'..='\u{312f}' | '\u{3190}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}

/// What must not begin a line.
pub(super) const fn clings_to_the_left(character: char) -> bool {
    matches!(
        character,
        '、' | '。'
            | '，'
            | '．'
            | '：'
            | '；'
            | '！'
            | '？'
            | '）'
            | '」'
            | '』'
            | '】'
            | '〉'
            | '》'
            | '〕'
            | '］'
            | '｝'
            | '・'
            | 'ー'
            | '々'
            | 'ぁ'
            | 'ぃ'
            | 'ぅ'
            | 'ぇ'
            | 'ぉ'
            | 'っ'
            | 'ゃ'
            | 'ゅ'
            | 'ょ'
            | 'ァ'
            | 'ィ'
            | 'ゥ'
            | 'ェ'
            | 'ォ'
            | 'ッ'
            | 'ャ'
            | 'ュ'
            | 'ョ'
    )
}

/// What must not end a line.
pub(super) const fn clings_to_the_right(character: char) -> bool {
    matches!(character, '（' | '「' | '『' | '【' | '〈' | '《' | '〔' | '［' | '｛')
}

/// The language that a text's characters give away: kana are Japanese, hangul Korean.
pub(super) fn language_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    let mut found = None;
    for character in texts.into_iter().flat_map(str::chars) {
        match of(character).name {
            "Japanese" => return Some("ja"),
            "Korean" => return Some("ko"),
            "Chinese" => found = Some("zh"),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_are_in_order_and_apart() {
        assert!(BLOCKS.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn kana_make_han_japanese() {
        assert_eq!(language_of(["東京", "トウキョウ"]), Some("ja"));
        assert_eq!(language_of(["北京"]), Some("zh"));
        assert_eq!(language_of(["서울 漢城"]), Some("ko"));
        assert_eq!(language_of(["Αθήνα"]), None);
    }
}
