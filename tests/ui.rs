//! What `#[service]` accepts, and what it says about what it does not accept.
//!
//! A case under `ui/fail` comes with the diagnostics that a person reads; `TRYBUILD=overwrite` writes them anew.
//! No case may depend on lints: each silences what it does not speak of.

#[test]
fn services_compile_and_mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}
