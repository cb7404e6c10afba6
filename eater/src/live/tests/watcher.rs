//! Somebody who walks through what eaters commit, and checks that each device's numbers come in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use trough_store::object_catalog::Incarnation;

use crate::journal::testing::Rng;
use crate::live::commit::Content;
use crate::live::walk::Lots;
use crate::live::{LiveError, ObjectsSource, Source, Walk};
use crate::objects::tests::world::Line;

/// Walks from the beginning of a world on.
pub(crate) struct Watcher {
    source: ObjectsSource,
    walk: Option<Box<dyn Walk>>,
    /// By device and epoch, the last number.
    given: BTreeMap<(String, u64), u64>,
    /// It begins anew now and then where it is: then a number may come twice, and none is left out all the same.
    resumes: bool,
    pub again: u64,
}

impl Watcher {
    pub(crate) fn new(line: &Arc<Line>, resumes: bool) -> Self {
        // One of the two goes through much in many small steps.
        let lots = if resumes { Lots { rows: 3, spans: 8 } } else { Lots::default() };
        let source = ObjectsSource::in_lots(lots, line.clone(), line.clone());
        Self { source, walk: None, given: BTreeMap::new(), resumes, again: 0 }
    }

    /// Looks once, at one journal or at all; what fails is tried again the next time. Whether it saw all there is.
    pub(crate) async fn look(&mut self, rng: &mut Rng, of: Option<Incarnation>) -> bool {
        let mut walk = match self.walk.take() {
            Some(walk) if self.resumes && rng.percent(20) => self.source.walk(walk.vector().clone(), None),
            Some(walk) => walk,
            // From the very beginning, whatever is there by now.
            None => self.source.walk(Default::default(), None),
        };
        let found = walk.step(of).await;
        self.walk = Some(walk);
        let found = match found {
            Ok(found) => found,
            Err(LiveError::Read(_)) => return false,
            Err(error) => panic!("{error}"),
        };
        for commit in &found.commits {
            let Content::Object { spans, .. } = &commit.content else { panic!("an object") };
            for span in spans {
                let (device, epoch) = (span.device.as_str().to_owned(), span.epoch.0);
                let given = self.given.entry((device, epoch)).or_default();
                let (fresh, last) = (span.fresh.0, span.last.0);
                assert!(fresh <= *given + 1, "behind {given} comes {span:?} in {:?}", commit.id);
                if fresh <= *given && fresh <= last {
                    assert!(self.resumes, "{given} was given, and {span:?} comes in {:?}", commit.id);
                    self.again += 1;
                }
                *given = last.max(*given);
            }
        }
        of.is_none() && !found.more
    }

    /// That everything of a device's epoch has come.
    pub(crate) fn assert_has(&self, device: &str, epoch: u64, head: u64) {
        let given = self.given.get(&(device.to_owned(), epoch)).copied().unwrap_or_default();
        assert_eq!(given, head, "{device}, epoch {epoch}");
    }
}
