//! The files of the page, as they are in the program.
//!
//! Invariant: they hold nothing of the node, so that everybody may have them.

use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;

/// A file.
pub(super) struct File {
    pub(super) path: &'static str,
    kind: &'static str,
    text: &'static str,
}

impl File {
    pub(super) fn answer(&self) -> Response {
        ([(CONTENT_TYPE, self.kind)], self.text).into_response()
    }
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) static FILES: [File; 10] = [
    File { path: "/", kind: HTML, text: include_str!("page/page.html") },
    File { path: "/page.css", kind: "text/css; charset=utf-8", text: include_str!("page/page.css") },
    File { path: "/icon.svg", kind: "image/svg+xml", text: include_str!("page/icon.svg") },
    File { path: "/page.js", kind: SCRIPT, text: include_str!("page/page.js") },
    File { path: "/asking.js", kind: SCRIPT, text: include_str!("page/asking.js") },
    File { path: "/dom.js", kind: SCRIPT, text: include_str!("page/dom.js") },
    File { path: "/watching.js", kind: SCRIPT, text: include_str!("page/watching.js") },
    File { path: "/figures.js", kind: SCRIPT, text: include_str!("page/figures.js") },
    File { path: "/views.js", kind: SCRIPT, text: include_str!("page/views.js") },
    File { path: "/actions.js", kind: SCRIPT, text: include_str!("page/actions.js") },
];
