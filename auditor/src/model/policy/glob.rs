//! Shell-like patterns: `*` for any run of characters, `?` for one, everything else for itself.
//!
//! No brackets, no escapes, no backtracking beyond the last `*`: time is bounded by the product of
//! both lengths whatever a policy or a label says.

/// Whether a pattern matches all of a text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (mut p, mut t) = (pattern.chars(), text.chars());
    // Where to resume when a literal fails: behind the last `*`, one character further.
    let mut resume = None;
    loop {
        let (before, c) = (t.clone(), t.next());
        match (p.next(), c) {
            (Some('*'), _) => {
                t = before;
                resume = Some((p.clone(), t.clone()));
            }
            (None, None) => return true,
            (Some('?'), Some(_)) => {}
            (Some(x), Some(y)) if x == y => {}
            _ => {
                let Some((behind_star, mut from)) = resume else {
                    return false;
                };
                if from.next().is_none() {
                    return false;
                }
                p = behind_star.clone();
                t = from.clone();
                resume = Some((behind_star, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::*;

    /// The textbook definition, exponential and obviously right.
    fn oracle(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => {
                oracle(rest, text) || (!text.is_empty() && oracle(pattern, &text[1..]))
            }
            (Some(('?', rest)), Some((_, more))) => oracle(rest, more),
            (Some((p, rest)), Some((t, more))) => p == t && oracle(rest, more),
            _ => false,
        }
    }

    proptest! {
        /// The loop and the definition agree.
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?ü]{0,8}", text in "[abü]{0,8}") {
            let (p, t): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text), oracle(&p, &t));
        }
    }
}
