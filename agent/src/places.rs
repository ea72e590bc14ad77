//! Places by name: for each name there are so many, which are had at once or waited for. Who
//! drops one gives it back. What is limited for each guest is limited by these.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A place, for as long as it is held.
pub type Place = OwnedSemaphorePermit;

/// The places; a cheap handle.
#[derive(Clone, Debug)]
pub struct Places {
    each: usize,
    names: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Places {
    /// So many for each name.
    #[must_use]
    pub fn of(each: usize) -> Self {
        Self { each, names: Arc::default() }
    }

    /// A place, if one is free.
    #[must_use]
    pub fn now(&self, name: &str) -> Option<Place> {
        self.all(name).try_acquire_owned().ok()
    }

    /// The next place that is free, in turn. There is always one.
    pub async fn wait(&self, name: &str) -> Option<Place> {
        self.all(name).acquire_owned().await.ok()
    }

    fn all(&self, name: &str) -> Arc<Semaphore> {
        let mut names = self.names.lock();
        // Who has a place, or waits for one, holds on to all of that name.
        names.retain(|_, places| Arc::strong_count(places) > 1);
        let places = names.entry(name.to_owned());
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_name_has_its_own_places_and_those_given_back_are_free() {
        let places = Places::of(2);
        let (one, two) = (places.now("a").unwrap(), places.now("a").unwrap());
        assert!(places.now("a").is_none());
        assert!(places.now("b").is_some());
        let waits = tokio::spawn({
            let places = places.clone();
            async move { places.wait("a").await.is_some() }
        });
        drop(one);
        assert!(waits.await.unwrap());
        drop(two);
        assert!(places.now("c").is_some());
        assert_eq!(places.names.lock().len(), 1, "what nobody holds is forgotten");
    }
}
