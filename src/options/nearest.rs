//! The name that was probably meant by one that there is not. Pure.

/// The one of these names that was probably meant by `name`.
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    within(name, names, |_| (name.len() / 3).max(2))
}

/// The nearest of these names, if that is no further from `name` than `most` says of it. What tells them apart is
/// letters that were left out, added, changed, or swapped with the next.
pub(crate) fn within<'a>(
    name: &str,
    names: impl IntoIterator<Item = &'a str>,
    most: impl Fn(&str) -> usize,
) -> Option<&'a str> {
    let distance = |other: &&str| strsim::damerau_levenshtein(name, other);
    names.into_iter().min_by_key(distance).filter(|near| distance(near) <= most(near))
}

/// The question whether this was meant, behind what is wrong; nothing where nothing is near.
pub(crate) fn question(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_near_or_nothing_is() {
        let names = ["connect", "accept", "quit"];
        assert_eq!(nearest("conect", names), Some("connect"));
        assert_eq!(nearest("qiut", names), Some("quit"));
        assert_eq!(nearest("weather", names), None);
        assert_eq!(within("qut", names, |_| 1), Some("quit"));
        assert_eq!(within("qut", names, |near| near.len() / 5), None);
        assert_eq!(question(Some("quit")) + &question(None), "; did you mean quit?");
    }
}
