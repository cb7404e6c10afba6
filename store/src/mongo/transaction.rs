//! Changes of the registry, whole or not at all.

use mongodb::action::StartTransaction;
use mongodb::error::{Error, Result};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{ClientSession, Database};

use super::client::majority;
use super::failure::Failure;
use super::meta;
use crate::BoxFuture;
use crate::error::RegistryError;

/// Work in a transaction. It is called again when another transaction was in the way, so it must begin anew.
pub(super) trait Work<T>:
    for<'a> Fn(&'a Database, &'a mut ClientSession) -> BoxFuture<'a, Result<T>> + Send + Sync + 'static
{
}

impl<T, W> Work<T> for W where
    W: for<'a> Fn(&'a Database, &'a mut ClientSession) -> BoxFuture<'a, Result<T>> + Send + Sync + 'static
{
}

/// Ends a transaction, undone, with an answer for the caller.
pub(super) fn refuse(error: RegistryError) -> Error {
    Error::custom(error)
}

/// Does `work` in a transaction. The inner error is what it refused with.
pub(super) async fn transact<T>(
    database: Database,
    work: impl Work<T>,
) -> std::result::Result<std::result::Result<T, RegistryError>, Failure> {
    let mut session = database.client().start_session().await?;
    let context = (database, work);
    let done = begin(&mut session).and_run(context, |session, (database, work)| work(database, session));
    outcome(done.await)
}

/// The same, and counts the change.
///
/// All changes write the count, so no two of them run side by side: each sees what the one before it did.
pub(super) async fn transact_counted<T>(
    database: Database,
    work: &impl Work<T>,
) -> std::result::Result<std::result::Result<T, RegistryError>, Failure> {
    let mut session = database.client().start_session().await?;
    let context = (database, work);
    let done = begin(&mut session).and_run(context, |session, (database, work)| {
        Box::pin(async move {
            meta::count_change(database, session).await?;
            work(database, session).await
        })
    });
    outcome(done.await)
}

fn begin(session: &mut ClientSession) -> StartTransaction<&mut ClientSession> {
    session
        .start_transaction()
        .read_concern(ReadConcern::snapshot())
        .write_concern(majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
}

fn outcome<T>(done: Result<T>) -> std::result::Result<std::result::Result<T, RegistryError>, Failure> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(error) => match error.get_custom::<RegistryError>() {
            Some(refusal) => Ok(Err(refusal.clone())),
            None => Err(error.into()),
        },
    }
}
