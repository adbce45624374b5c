//! The fifteen characters and their labels.

/// One of the characters of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Character {
    /// The data set's code, 1 to 15.
    pub code: u8,
    /// What the character means, as the data set's label: `"0"` to `"100000000"`.
    pub value: &'static str,
    /// The character itself.
    pub character: char,
}

/// All characters, in the order of their codes: `CHARACTERS[i].code == i + 1`.
pub const CHARACTERS: [Character; 15] = [
    of(1, "0", '零'),
    of(2, "1", '一'),
    of(3, "2", '二'),
    of(4, "3", '三'),
    of(5, "4", '四'),
    of(6, "5", '五'),
    of(7, "6", '六'),
    of(8, "7", '七'),
    of(9, "8", '八'),
    of(10, "9", '九'),
    of(11, "10", '十'),
    of(12, "100", '百'),
    of(13, "1000", '千'),
    of(14, "10000", '万'),
    of(15, "100000000", '亿'),
];

const fn of(code: u8, value: &'static str, character: char) -> Character {
    Character { code, value, character }
}
