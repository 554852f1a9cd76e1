//! Which of the server's threads this is: what a thread keeps for itself, it finds by its number.

use std::{cell::Cell, thread};

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// How many workers there are: one for each core that this process may use.
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The most workers.
pub const MOST: usize = 64;

/// The number of the worker whose thread this is, from 1; 0 on any other thread.
pub fn current() -> usize {
    NUMBER.get()
}

/// Says that this thread is a worker's.
pub fn begin(number: usize) {
    NUMBER.set(number);
}
