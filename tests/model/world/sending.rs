//! The task of the source's agent that sends the guest.

use super::*;

pub(super) fn sends(state: &mut State, node: usize) -> Option<()> {
    if state.driver(node)?.sending.task != Task::Calls {
        return None;
    }
    let begins = state.virt.call(node);
    state.driver(node)?.sending.task = if begins { Task::Sends } else { Task::Looks };
    Some(())
}

pub(super) fn calls_off(state: &mut State, node: usize) -> Option<()> {
    let sending = &state.driver(node)?.sending;
    if !sending.called_off || !matches!(sending.task, Task::Sends | Task::Follows) {
        return None;
    }
    let ended = state.virt.abort(node)?;
    state.call_ends(node, ended);
    Some(())
}

/// Follows what is being sent, and asks where the guest is when that is over.
pub(super) fn looks(state: &mut State, node: usize) -> Option<()> {
    let task = state.driver(node)?.sending.task.clone();
    if !state.virt.up[node] {
        return None;
    }
    let task = match task {
        Task::Follows if !state.virt.is_sending(node) => Task::Looks,
        Task::Looks => match place(state.virt.seen(node)) {
            Place::Here => state.instance.map_or(Task::None, Task::Fails),
            Place::NotHere => Task::None,
            Place::Undecided => state.instance.map_or(Task::None, Task::Asks),
        },
        _ => return None,
    };
    state.driver(node)?.sending.task = task;
    Some(())
}
