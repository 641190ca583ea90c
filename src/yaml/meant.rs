//! What a misspelt word was meant to be.

/// The one of those that are known that a misspelt name is near enough to.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let found = known.map(|known| (distance(name, known), known)).min()?;
    (found.0 <= 1 + name.len().min(found.1.len()) / 4).then_some(found.1)
}

/// How many mistakes lie between two words.
pub fn distance(one: &str, other: &str) -> usize {
    // It takes time by the product of the lengths, and a key may be long.
    if one.len() > 256 { usize::MAX } else { strsim::damerau_levenshtein(one, other) }
}
