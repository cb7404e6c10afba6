//! JSON texts as bytes, for what is done with every frame: nothing here builds a tree.

mod check;
mod escape;
mod number;
mod pointer;

pub use check::check_json;
pub use escape::push_json_string;
pub use number::{number_at, number_or_text_at};
pub use pointer::{POINTER_BYTES_MAX, Pointer};
