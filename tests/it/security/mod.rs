//! Who is let in, and what those who are may do: certificates, secrets that change, rules of access, and strangers by the
//! hundred.

mod access;
mod change;
mod strangers;
mod tls;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use skyhold::prelude::*;
use skyhold::{NodeBuilder, Tls};

/// An authority made for one test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for nodes of these names, and its key.
    pub(crate) fn issue(&self, names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// What a node of that name is given.
    fn tls(&self, name: &str) -> Tls {
        let (certificate, key) = self.issue(&[name]);
        Tls::from_pem(certificate, key, self.pem()).unwrap()
    }
}

/// Counts.
#[derive(Default)]
struct Counter {
    total: u64,
}

#[service]
impl Counter {
    pub fn add(&mut self, n: u64) -> u64 {
        self.total += n;
        self.total
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// As long as the argument.
    pub fn echo(&self, text: String) -> String {
        text
    }
}

/// A node that listens and runs a counter.
async fn counting(configure: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Node {
    let node = configure(Node::builder("a").listen("127.0.0.1:0")).start().await.unwrap();
    node.service("counter", Counter::default).start().await.unwrap();
    node
}

/// A node that connects to another.
async fn calling(name: &str, to: &Node, configure: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Node {
    let seed = to.address().unwrap().to_string();
    configure(Node::builder(name).seed(seed)).start().await.unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}
