//! In a program with another allocator nobody is counted.

#[test]
fn without_the_allocator_there_are_no_owners() {
    assert!(!skyhold_memory::is_installed());
    assert!(skyhold_memory::Owner::new().is_none());
}
