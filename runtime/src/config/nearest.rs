//! Which of the names that there are was meant by one that there is not.

/// The name that differs least, if it differs by little: one letter in three, and two swapped letters count once.
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = |other: &&str| distance(name, other);
    let (found, far) = names.into_iter().map(|other| (other, far(&other))).min_by_key(|(_, far)| *far)?;
    (far <= (name.chars().count().max(3) / 3)).then_some(found)
}

/// How many letters have to be put in, taken out, replaced or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_if_it_is_near() {
        let names = ["name", "cluster", "listen", "secret_file"];
        for (name, expected) in [
            ("lisen", Some("listen")),
            ("listne", Some("listen")),
            ("nam", Some("name")),
            ("naem", Some("name")),
            ("secretfile", Some("secret_file")),
            ("address", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names), expected, "{name}");
        }
        assert_eq!(nearest("a", []), None);
    }
}
