//! Talks with etcd over its HTTP gateway, which answers on the same port as its gRPC: JSON in a `POST` each.
//!
//! Invariant: a request is sent once to each endpoint at most, and everything that comes back has a limit.

use std::error::Error;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::net::io::{Tcp, Transport};
use crate::time;

use super::DiscoveryError;

/// How long one endpoint may take.
const ENDPOINT: Duration = Duration::from_secs(3);

/// The largest answer, in bytes: that of some 10,000 nodes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// How much of an error's text is shown, in characters.
const SHOWN: usize = 200;

type Failed = Box<dyn Error + Send + Sync>;

/// The members of one etcd cluster.
#[derive(Debug)]
pub(crate) struct Gateway {
    endpoints: Vec<String>,
    /// The endpoint that answered last, or the one behind one that did not.
    current: AtomicUsize,
    /// The largest answer, in bytes.
    max_answer: usize,
}

impl Gateway {
    pub(crate) fn new(endpoints: Vec<String>) -> Self {
        Self { endpoints, current: AtomicUsize::new(0), max_answer: MAX_ANSWER }
    }

    /// The largest answer that is read, in bytes.
    pub(crate) fn max_answer(self, bytes: usize) -> Self {
        Self { max_answer: bytes, ..self }
    }

    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Sends a request to the endpoint that answered last, then to each other one until one does it.
    ///
    /// # Errors
    /// What the last endpoint said.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. The request may have been done.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, DiscoveryError> {
        let body = Bytes::from(body.to_string());
        let first = self.current.load(Ordering::Relaxed);
        let failed =
            |endpoint: &str, source| Err(DiscoveryError::Registry { endpoint: endpoint.to_owned(), source });
        let mut outcome = failed("no endpoint", "none was given".into());
        for place in (first..first + self.endpoints.len()).map(|place| place % self.endpoints.len()) {
            let endpoint = &self.endpoints[place];
            let answer = self.ask(endpoint, path, body.clone()).await;
            match answer {
                Ok(answer) => {
                    self.current.store(place, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => {
                    // Now, as whoever asks may not wait for the others: they come first the next time.
                    self.current.store(place + 1, Ordering::Relaxed);
                    outcome = failed(endpoint, error);
                }
            }
        }
        outcome
    }

    /// Sends a request to the endpoint that answered last and to no other, since it may have been done also where there is no answer.
    ///
    /// # Errors
    /// What the endpoint said.
    ///
    /// # Cancel safety
    /// As [`Gateway::post`].
    pub(crate) async fn post_once(&self, path: &str, body: &Value) -> Result<Value, DiscoveryError> {
        let place = self.current.load(Ordering::Relaxed) % self.endpoints.len().max(1);
        let endpoint = self.endpoints.get(place).map_or("no endpoint", String::as_str);
        let answer = self.ask(endpoint, path, Bytes::from(body.to_string())).await;
        answer.map_err(|source| DiscoveryError::Registry { endpoint: endpoint.to_owned(), source })
    }

    async fn ask(&self, endpoint: &str, path: &str, body: Bytes) -> Result<Value, Failed> {
        let answer = time::timeout(ENDPOINT, exchange(endpoint, path, body, self.max_answer)).await;
        answer.unwrap_or_else(|| Err(format!("no answer within {ENDPOINT:?}").into()))
    }
}

/// A name as one part of a key.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

/// The name of such a part.
pub(crate) fn unescaped(part: &str) -> String {
    part.replace("%2F", "/").replace("%25", "%")
}

/// A text as it stands in requests and answers.
pub(crate) fn encoded(text: &str) -> String {
    BASE64.encode(text)
}

/// A text as it stood in an answer.
pub(crate) fn decoded(value: &Value) -> Option<String> {
    String::from_utf8(BASE64.decode(value.as_str()?).ok()?).ok()
}

/// Whole numbers of 64 bits are texts in this JSON.
pub(crate) fn number(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| text.parse::<i64>().is_ok()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// One request on a connection of its own: there are two in ten seconds.
async fn exchange(endpoint: &str, path: &str, body: Bytes, max_answer: usize) -> Result<Value, Failed> {
    let stream = Tcp.connect(endpoint).await?;
    let stream = TokioIo::new(tokio::io::join(stream.reader, stream.writer));
    let (mut sender, connection) = http1::handshake(stream).await?;
    let request = Request::post(path)
        .header(HOST, endpoint)
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .body(Full::new(body))?;
    let answer = pin!(async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), max_answer).collect().await?.to_bytes();
        read(status, &body)
    });
    match select(answer, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // All that came is with the answer already, or the error is.
        Either::Right((_, answer)) => answer.await,
    }
}

fn read(status: StatusCode, body: &[u8]) -> Result<Value, Failed> {
    if status.is_success() {
        return Ok(serde_json::from_slice(body)?);
    }
    let text: String = String::from_utf8_lossy(body).trim().chars().take(SHOWN).collect();
    Err(format!("{status}: {text:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_success_or_no_json_is_an_error() {
        assert_eq!(read(StatusCode::OK, b"{\"a\":1}").unwrap()["a"], 1);
        let refused = read(StatusCode::NOT_FOUND, b"{\"error\":\"no lease\"}\n").unwrap_err().to_string();
        assert_eq!(refused, "404 Not Found: \"{\\\"error\\\":\\\"no lease\\\"}\"");
        assert!(read(StatusCode::OK, b"<html>").is_err());
    }

    #[tokio::test]
    async fn without_an_endpoint_that_answers_there_is_an_error_that_names_the_last() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let gateway = Gateway::new(vec!["127.0.0.1:1".to_owned(), closed.clone()]);
        let error = gateway.post("/v3/kv/range", &Value::Null).await.unwrap_err();
        assert_eq!(error.to_string(), format!("etcd at {closed}"));
        assert!(Gateway::new(vec![]).post("/", &Value::Null).await.is_err());
    }
}
