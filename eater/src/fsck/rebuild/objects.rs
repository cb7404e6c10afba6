//! Rows of journal objects, as their objects say them.

use trough_store::object_catalog::LostLife;
use trough_store::objects::ObjectError;
use trough_store::{ObjectCatalog, object_catalog::ObjectRow};

use super::*;
use crate::objects::format::inspect;
use crate::objects::object_key;

impl Rebuild<'_> {
    /// Enters eaters that the catalog does not know and whose objects are there.
    pub(super) fn rebuild_objects(
        &mut self,
        catalog: &dyn ObjectCatalog,
        manifest: &Manifest,
        present: &Present,
    ) -> Result<(), RebuildError> {
        let known: BTreeSet<Incarnation> =
            self.wait(catalog.incarnations())?.into_iter().map(|state| state.incarnation).collect();
        for (incarnation, numbers) in &present.files {
            if known.contains(incarnation) {
                continue;
            }
            let removed = manifest.through_of(*incarnation);
            let mut life = LostLife { incarnation: *incarnation, removed, rows: Vec::new() };
            for n in numbers.range(removed + 1..) {
                if *n != life.last() + 1 {
                    self.note(format!(
                        "object {} of {incarnation} is not there: unless it was lost, nothing behind it was acknowledged; \
                         the objects from {n} on stay where they are, and are not read",
                        life.last() + 1
                    ));
                    break;
                }
                let Some(row) = self.row(ObjectId { incarnation: *incarnation, n: *n })? else { break };
                life.rows.push(row);
            }
            self.keep_claim()?;
            self.rebuilt.rows += life.rows.len() as u64;
            self.rebuilt.incarnations += u64::from(self.wait(catalog.restore(&life))?);
        }
        Ok(())
    }

    /// The row of an object; `None` if it says none.
    fn row(&mut self, id: ObjectId) -> Result<Option<ObjectRow>, RebuildError> {
        let key = object_key(id);
        let bytes = match self.wait(self.parts.store.get(&key)) {
            Ok(bytes) => bytes,
            Err(error @ ObjectError::NotFound(_)) => {
                self.note(error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        self.advance(bytes.len() as u64);
        match inspect(&bytes) {
            Ok(row) if row.id == id => Ok(Some(row)),
            Ok(row) => {
                self.note(format!("{key} says that it is object {} of {}", row.id.n, row.id.incarnation));
                Ok(None)
            }
            Err(error) => {
                self.note(format!(
                    "{key} is damaged ({error}): it and those behind it are not read; restore it from a copy"
                ));
                Ok(None)
            }
        }
    }
}
