//! Where another library's panic becomes an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic on this thread is expected, and told by who caught it.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Calls a function of another library, which may panic at a damaged file. Nothing is printed then.
///
/// What the function leaves half done must not be used afterwards.
///
/// # Errors
/// The panic's message.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET_HOOK: Once = Once::new();
    QUIET_HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_CAUGHT.get() {
                usual(info);
            }
        }));
    });
    let before = IS_CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IS_CAUGHT.set(before);
    result.map_err(|payload| message(payload.as_ref()))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it does not say why");
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_its_message_and_anything_else_passes() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("{} is wrong\nat length", "it")), Err::<(), _>("it is wrong".to_owned()));
        assert_eq!(caught(|| panic!("plain")), Err::<(), _>("plain".to_owned()));
        assert!(!IS_CAUGHT.get());
    }
}
