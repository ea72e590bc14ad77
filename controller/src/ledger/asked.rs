//! Of which subnets anything was asked. What happens to one VM must not cost more where
//! there are more subnets: tests see that by what is noted here, and nobody else notes it.

#[cfg(not(test))]
pub(super) const fn note(_subnet: &str) {}

#[cfg(test)]
pub(super) use noted::note;
#[cfg(test)]
pub(crate) use noted::of_which;

#[cfg(test)]
mod noted {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static ASKED: RefCell<Option<BTreeSet<String>>> = const { RefCell::new(None) };
    }

    pub(in crate::ledger) fn note(subnet: &str) {
        ASKED.with_borrow_mut(|asked| {
            if let Some(asked) = asked {
                asked.insert(subnet.to_owned());
            }
        });
    }

    /// Of which subnets this thread asks anything while it works.
    pub(crate) async fn of_which(work: impl Future<Output = ()>) -> BTreeSet<String> {
        ASKED.set(Some(BTreeSet::new()));
        work.await;
        ASKED.take().unwrap_or_default()
    }
}
