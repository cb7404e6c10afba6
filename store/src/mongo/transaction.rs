//! Changes of several documents, whole or not at all.

use mongodb::action::StartTransaction;
use mongodb::error::{Error, Result};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{ClientSession, Database};
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use super::client::majority;
use super::failure::Failure;
use super::meta;
use crate::BoxFuture;

/// Work in a transaction. It is called again when another transaction was in the way, so it must begin anew.
pub(super) trait Work<T>:
    for<'a> Fn(&'a Database, &'a mut ClientSession) -> BoxFuture<'a, Result<T>> + Send + Sync + 'static
{
}

impl<T, W> Work<T> for W where
    W: for<'a> Fn(&'a Database, &'a mut ClientSession) -> BoxFuture<'a, Result<T>> + Send + Sync + 'static
{
}

/// What a transaction can refuse with.
pub(super) trait Refusal: Clone + Send + Sync + 'static {}

impl<E: Clone + Send + Sync + 'static> Refusal for E {}

/// Ends a transaction, undone, with an answer for the caller: of the type that [`transact`] is asked for.
pub(super) fn refuse<E: Refusal>(error: E) -> Error {
    Error::custom(error)
}

/// Does `work` in a transaction. The inner error is what it refused with.
pub(super) async fn transact<T, E: Refusal>(
    database: Database,
    work: impl Work<T>,
) -> std::result::Result<std::result::Result<T, E>, Failure> {
    let mut session = database.client().start_session().await?;
    let context = (database, work);
    let done = begin(&mut session).and_run(context, |session, (database, work)| work(database, session));
    outcome(done.await)
}

/// The same in a session that is kept. If the future is dropped, what was begun is undone before the session is free.
pub(super) async fn transact_in<T, E: Refusal>(
    database: Database,
    session: OwnedMutexGuard<ClientSession>,
    work: impl Work<T>,
) -> std::result::Result<std::result::Result<T, E>, Failure> {
    let mut lent = Lent(Some(session));
    let Some(session) = lent.0.as_deref_mut() else {
        return Err(Failure::Unavailable("the session is gone".into()));
    };
    let context = (database, work);
    let done = begin(session).and_run(context, |session, (database, work)| work(database, session)).await;
    // It is committed or undone, or the server does it: the driver did not know how.
    drop(lent.0.take());
    outcome(done)
}

/// A session in which something may have been begun.
struct Lent(Option<OwnedMutexGuard<ClientSession>>);

impl Drop for Lent {
    fn drop(&mut self) {
        let begun = self.0.take().zip(Handle::try_current().ok());
        if let Some((mut session, runtime)) = begun {
            // If nobody hears it, the server ends it in a minute, or whoever takes over does.
            runtime.spawn(async move { session.abort_transaction().await });
        }
    }
}

/// The same as [`transact`], and counts the change of the registry.
///
/// All its changes write the count, so no two of them run side by side: each sees what the one before it did.
pub(super) async fn transact_counted<T, E: Refusal>(
    database: Database,
    work: &impl Work<T>,
) -> std::result::Result<std::result::Result<T, E>, Failure> {
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

fn outcome<T, E: Refusal>(done: Result<T>) -> std::result::Result<std::result::Result<T, E>, Failure> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(error) => match error.get_custom::<E>() {
            Some(refusal) => Ok(Err(refusal.clone())),
            None => Err(error.into()),
        },
    }
}
