//! What somebody is to be told, until he is: news that comes meanwhile adds up to one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::news::News;

/// One listener's news.
#[derive(Debug, Default)]
pub(super) struct Slot {
    waiting: Mutex<Option<News>>,
    some: Notify,
}

impl Slot {
    /// Adds news. Never blocks.
    pub fn put(&self, news: News) {
        let mut waiting = self.waiting();
        match &mut *waiting {
            Some(known) => known.add(news),
            None => {
                *waiting = Some(news);
                self.some.notify_one();
            }
        }
    }

    /// Gives back what could not be told: it comes before what is there by now.
    pub fn put_back(&self, mut news: News) {
        let mut waiting = self.waiting();
        if let Some(later) = waiting.take() {
            news.add(later);
        }
        *waiting = Some(news);
        self.some.notify_one();
    }

    /// Takes what is there, or waits for it. Cancel-safe.
    pub async fn take(&self) -> News {
        loop {
            if let Some(news) = self.waiting().take() {
                return news;
            }
            self.some.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<News>> {
        // Nothing panics while holding it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_adds_up_until_it_is_taken_also_what_comes_back() {
        let (slot, groups) = (Slot::default(), |received_at| News::Groups { received_at });
        slot.put(groups(1));
        slot.put(groups(2));
        let taken = slot.take().await;
        assert_eq!(taken, groups(2));
        slot.put(groups(3));
        slot.put_back(taken);
        assert_eq!(slot.take().await, groups(3));
        slot.put_back(taken);
        assert_eq!(slot.take().await, groups(2), "also when nothing else came");
    }
}
