//! Where a test can hold a thread in the midst of a call.

use std::cell::RefCell;

type Work = Box<dyn FnOnce()>;

thread_local! {
    static NEXT: RefCell<Option<Work>> = const { RefCell::new(None) };
}

/// What this thread does in the midst of its next call that gives an address.
pub(crate) fn next(work: impl FnOnce() + 'static) {
    NEXT.set(Some(Box::new(work)));
}

/// An address is chosen, and not yet its owner's.
pub(crate) fn here() {
    if let Some(work) = NEXT.take() {
        work();
    }
}
