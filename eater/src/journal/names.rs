//! The names of a journal's files.

/// The lock. Its content is the process id of who has it, for messages only.
pub(super) const LOCK: &str = "LOCK";

/// What a file in the directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `{id:020}.trj`, a journal file.
    Journal,
    /// `{id:020}.tri`, a sealed file's index.
    Index,
    /// `{id:020}.damaged`, what a repair set aside.
    Damaged,
    /// `{id:020}.….tmp`, left by a process that died while it wrote an index or a repair.
    Temporary,
}

pub(super) fn journal(id: u64) -> String {
    format!("{id:020}.trj")
}

pub(super) fn index(id: u64) -> String {
    format!("{id:020}.tri")
}

pub(super) fn damaged(id: u64) -> String {
    format!("{id:020}.damaged")
}

/// What a file becomes that belongs to nothing and yet has something in it.
pub(super) fn orphan(id: u64) -> String {
    format!("{id:020}.orphan")
}

pub(super) fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

/// Which file this is; `None` if it is none of ours.
pub(super) fn parse(name: &str) -> Option<(u64, Kind)> {
    let (digits, rest) = name.split_at_checked(20)?;
    let id = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    let kind = match rest {
        ".trj" => Kind::Journal,
        ".tri" => Kind::Index,
        ".damaged" => Kind::Damaged,
        _ if rest.ends_with(".tmp") => Kind::Temporary,
        _ => return None,
    };
    (id > 0).then_some((id, kind))
}

/// The ids of one kind among the names of a directory, rising.
pub(super) fn ids(names: &[String], wanted: Kind) -> Vec<u64> {
    let parsed = names.iter().filter_map(|name| parse(name));
    let mut ids: Vec<u64> = parsed.filter(|(_, kind)| *kind == wanted).map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_left_alone() {
        assert_eq!(journal(7), "00000000000000000007.trj");
        assert_eq!(parse(&journal(7)), Some((7, Kind::Journal)));
        assert_eq!(parse(&index(u64::MAX)), Some((u64::MAX, Kind::Index)));
        assert_eq!(parse(&damaged(1)), Some((1, Kind::Damaged)));
        assert_eq!(parse(&temporary(&index(3))), Some((3, Kind::Temporary)));
        for stranger in ["LOCK", "", "7.trj", "00000000000000000000.trj", "+0000000000000000007.trj", "ä"] {
            assert_eq!(parse(stranger), None, "{stranger}");
        }
        let names = [journal(10), journal(9), index(9), "lost+found".to_owned()];
        assert_eq!(ids(&names, Kind::Journal), [9, 10]);
    }
}
