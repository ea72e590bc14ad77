//! What does it cost to give an address and to take it back? The cases are in `pool.rs`.

use benches::{Effort, Figure, pool};

fn main() {
    pool::measure(Effort::Whole, &mut |figure: Figure<'_>| figure.print());
}
