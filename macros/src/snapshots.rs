//! What the macro writes for one item of each kind, as formatted Rust that a reviewer can read.
//!
//! The snapshots are not a test of meaning: the cases under `tests/ui` are.

use proc_macro2::TokenStream;
use quote::quote;

use crate::expand::service;

#[test]
fn an_inherent_impl() {
    check(
        "inherent",
        &quote!(),
        &quote! {
            impl Counter {
                /// Adds `by` and returns the new total.
                pub async fn add(&mut self, by: u64) -> u64 {
                    self.total += by;
                    self.total
                }

                /// Returns the total.
                pub fn total(&self) -> u64 {
                    self.total
                }

                fn not_a_message(&self) {}
            }
        },
    );
}

#[test]
fn a_contract() {
    check(
        "contract",
        &quote!(),
        &quote! {
            /// An account.
            pub trait Bank {
                /// Takes money out.
                async fn withdraw(&mut self, amount: u64) -> Result<u64, Overdrawn>;

                fn balance(&self) -> u64;

                async fn is_empty(&self) -> bool {
                    self.balance() == 0
                }
            }
        },
    );
}

#[test]
fn an_implementation_of_a_contract() {
    check(
        "contract_impl",
        &quote!(name = "savings", mailbox = 16),
        &quote! {
            impl bank::Bank for MemoryBank {
                async fn withdraw(&mut self, amount: u64) -> Result<u64, Overdrawn> {
                    self.take(amount)
                }

                fn balance(&self) -> u64 {
                    self.balance
                }

                #[on_start]
                fn open(&mut self) {}
            }
        },
    );
}

#[test]
fn streams() {
    check(
        "streams",
        &quote!(),
        &quote! {
            impl Log {
                pub fn tail(&self, n: usize) -> impl Stream<Item = String> {
                    stream::iter(self.last(n))
                }

                pub async fn search(
                    &mut self,
                    context: &Context,
                    words: Streaming<String>,
                ) -> Result<impl Stream<Item = Line>, BadWord> {
                    self.find(words).await
                }
            }
        },
    );
}

#[test]
fn the_settings_on_a_struct() {
    check(
        "settings",
        &quote!(
            name = "counter",
            mailbox = 1024,
            concurrency = 64,
            overflow = "drop_oldest",
            queued = "refuse",
            shed,
            slow = "250ms",
            stuck = "off",
            high_water = 90
        ),
        &quote! {
            struct Counter<T: Clone = u64> {
                total: T,
            }
        },
    );
}

#[test]
fn a_generic_service() {
    check(
        "generic",
        &quote!(),
        &quote! {
            impl<K: Hash + Eq, V, const N: usize> Cache<K, V, N>
            where
                V: Clone,
            {
                pub fn get(&self, key: K) -> Option<V> {
                    self.entries.get(&key).cloned()
                }

                pub fn merge(&mut self, other: Self) {}
            }
        },
    );
}

#[test]
fn a_local_service() {
    check(
        "local",
        &quote!(local),
        &quote! {
            impl Screen {
                pub fn draw(&mut self, picture: Box<dyn Fn(&Canvas) + Send>) {}
            }
        },
    );
}

#[test]
fn hooks_and_context() {
    check(
        "hooks",
        &quote!(crate = other),
        &quote! {
            impl Watcher {
                #[on_start]
                async fn open(&mut self, context: &Context) -> Result<(), io::Error> {
                    Ok(())
                }

                #[on_stop]
                fn close(&mut self, reason: StopReason) {}

                #[on_down]
                async fn gone(&mut self, context: &Context, down: Down) {}

                pub async fn watch(&self, context: &Context, mut reply: String) {}

                #[cfg(unix)]
                #[deprecated]
                pub fn peek(&mut self, context: &Context) -> u8 {
                    0
                }
            }
        },
    );
}

#[test]
fn mistakes_leave_the_rest() {
    check(
        "mistakes",
        &quote!(mailbx = 3),
        &quote! {
            impl Counter {
                pub fn add(&mut self, by: u64) {}

                pub fn rename(&mut self, name: &str) {}
            }
        },
    );
}

fn check(name: &str, args: &TokenStream, item: &TokenStream) {
    let written = service(args, item);
    let file = syn::parse2(written).expect("what the macro writes is Rust");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, prettyplease::unparse(&file));
    });
}
