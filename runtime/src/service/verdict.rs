//! Whether a handler's value is an `Err` of its service: found out by method resolution, so that it costs nothing where it cannot be one.

use std::marker::PhantomData;

/// Says of a reply whether it is an `Err`.
pub trait Verdict<T>: Copy {
    /// Whether it is.
    fn is_err(self, reply: &T) -> bool;
}

/// Of a `Result`.
#[derive(Debug, Clone, Copy)]
pub struct OfResult;

/// Of anything else, which is none.
#[derive(Debug, Clone, Copy)]
pub struct OfAny;

impl<T, E> Verdict<Result<T, E>> for OfResult {
    #[inline]
    fn is_err(self, reply: &Result<T, E>) -> bool {
        reply.is_err()
    }
}

impl<T> Verdict<T> for OfAny {
    #[inline]
    fn is_err(self, _: &T) -> bool {
        false
    }
}

/// The question: the first of the two traits below that fits answers it.
#[derive(Debug)]
pub struct Judge<T>(PhantomData<fn() -> T>);

impl<T> Judge<T> {
    /// The question.
    pub const NEW: Self = Self(PhantomData);
}

/// A `Result`.
pub trait JudgeResult {
    /// Who says it.
    fn verdict(&self) -> OfResult;
}

/// Anything else.
pub trait JudgeAny {
    /// Who says it.
    fn verdict(&self) -> OfAny;
}

impl<T, E> JudgeResult for Judge<Result<T, E>> {
    fn verdict(&self) -> OfResult {
        OfResult
    }
}

impl<T> JudgeAny for &Judge<T> {
    fn verdict(&self) -> OfAny {
        OfAny
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_err_is_known_by_its_type_whatever_that_is_called() {
        type Answer = Result<u8, String>;
        let of_result = Judge::<Answer>::NEW.verdict();
        assert!(of_result.is_err(&Answer::Err("no".to_owned())) && !of_result.is_err(&Answer::Ok(1)));
        assert!(!(&Judge::<Option<u8>>::NEW).verdict().is_err(&None::<u8>));
    }
}
