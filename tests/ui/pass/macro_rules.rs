//! A service may come out of a macro, whose types are invisible groups.
#![deny(warnings)]

use skyhold::service;

macro_rules! counter {
    ($name:ident, $ty:ty, $method:ident) => {
        pub struct $name($ty);

        #[service]
        impl $name {
            pub fn $method(&mut self, by: $ty, all: Vec<$ty>) -> $ty {
                self.0 += by + all.into_iter().sum::<$ty>();
                self.0
            }
        }
    };
}

counter!(Small, u8, add);
counter!(Big, u64, add_all);

fn main() {
    let _ = |small: SmallHandle, big: BigHandle| {
        let _ = small.add(1, vec![]);
        let _ = big.add_all(1, vec![]);
    };
}
