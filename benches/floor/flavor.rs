//! The runtimes under which everything is measured.

use tokio::runtime::Runtime;

#[derive(Clone, Copy)]
pub(crate) enum Flavor {
    MultiThread,
    CurrentThread,
}

impl Flavor {
    pub(crate) const ALL: [Self; 2] = [Self::MultiThread, Self::CurrentThread];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MultiThread => "2 workers",
            Self::CurrentThread => "current_thread",
        }
    }

    pub(crate) fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::MultiThread => tokio::runtime::Builder::new_multi_thread(),
            Self::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        };
        builder.worker_threads(2).enable_all().build().expect("a runtime can be built")
    }
}
