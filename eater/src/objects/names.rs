//! Where journal objects lie in the store.

use trough_store::ObjectKey;
use trough_store::object_catalog::{Incarnation, ObjectId};

/// All objects of an incarnation have this in front.
pub(crate) fn prefix(incarnation: Incarnation) -> String {
    format!("journal/{incarnation}/")
}

/// An object's key: the order of an incarnation's keys is that of their numbers.
pub(crate) fn key(id: ObjectId) -> ObjectKey {
    let key = format!("{}{:020}.tro", prefix(id.incarnation), id.n);
    ObjectKey::new(&key).expect("hexadecimal digits, slashes and a dot are allowed")
}

/// The number in a key of an incarnation; `None` if it is none of ours.
pub(crate) fn number(incarnation: Incarnation, key: &ObjectKey) -> Option<u64> {
    let number = key.as_str().strip_prefix(&prefix(incarnation))?.strip_suffix(".tro")?;
    (number.len() == 20).then(|| number.parse().ok()).flatten()
}

/// Which object has this key; `None` if it is none of ours.
pub(crate) fn id(key: &ObjectKey) -> Option<ObjectId> {
    let (digits, _) = key.as_str().strip_prefix("journal/")?.split_once('/')?;
    if digits.len() != 32
        || !digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    {
        return None;
    }
    let incarnation = Incarnation(u128::from_str_radix(digits, 16).ok()?.to_be_bytes());
    number(incarnation, key).map(|n| ObjectId { incarnation, n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_carry_their_numbers_in_order() {
        let incarnation = Incarnation([0xa5; 16]);
        let keys: Vec<ObjectKey> = [1, 9, 10, u64::MAX].map(|n| key(ObjectId { incarnation, n })).into();
        assert!(keys.is_sorted());
        assert_eq!(keys[2].as_str(), format!("journal/{}/00000000000000000010.tro", "a5".repeat(16)));
        let numbers: Vec<_> = keys.iter().map(|key| number(incarnation, key)).collect();
        assert_eq!(numbers, [Some(1), Some(9), Some(10), Some(u64::MAX)]);
        assert_eq!(number(Incarnation([0; 16]), &keys[0]), None);
        assert_eq!(id(&keys[1]), Some(ObjectId { incarnation, n: 9 }));
        assert_eq!(id(&ObjectKey::new("journal/x/00000000000000000010.tro").unwrap()), None);
    }
}
