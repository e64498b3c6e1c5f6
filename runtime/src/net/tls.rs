//! Mutual TLS by rustls: both ends show a certificate that the cluster's authority has signed, and each may only have the
//! names that stand in its own.
//!
//! TLS 1.3 alone, without resumption: a certificate that is not accepted any more opens no new connection.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{join, split};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{
    Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme, version,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::id::NodeId;
use crate::net::io::Stream;
use crate::proto::settings::Certificate;

/// A node's certificate, its key, and the authorities whose certificates it accepts. With the feature `tls`.
///
/// A node's certificate carries the node's name as a DNS name (subject alternative name), and is for both ends of a
/// connection: where it restricts its use, `serverAuth` and `clientAuth` are needed. A peer whose certificate does not
/// carry the name by which it calls itself is refused. Names of nodes are then in lower case, as certificates do not tell
/// them apart.
///
/// It is read once. [`Node::set_tls`](crate::Node::set_tls) puts another one in its place for connections to come. To change
/// the authority, give all nodes both authorities first, then their new certificates, then the new authority alone.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    own: Shown,
}

impl Tls {
    /// Reads PEM files: the node's certificate followed by those between it and the authority if there are any, its private
    /// key, and the certificates of one or more authorities.
    ///
    /// # Errors
    /// [`TlsError`] names the file, and says what is wrong with it.
    pub fn from_pem_files(
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
        authorities: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let files = [certificate.as_ref(), key.as_ref(), authorities.as_ref()];
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
        };
        let [certificate, key, authorities] =
            files.map(|path| read(path).map(|pem| Source { name: path.display().to_string(), pem }));
        Self::build(&certificate?, &key?, &authorities?)
    }

    /// As [`Tls::from_pem_files`], from the files' content.
    ///
    /// # Errors
    /// [`TlsError::Unusable`] says which of the three is wrong, and how.
    pub fn from_pem(
        certificate: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        authorities: impl AsRef<[u8]>,
    ) -> Result<Self, TlsError> {
        let source = |name: &str, pem: &[u8]| Source { name: name.to_owned(), pem: pem.to_owned() };
        Self::build(
            &source("the certificate", certificate.as_ref()),
            &source("the key", key.as_ref()),
            &source("the authorities", authorities.as_ref()),
        )
    }

    fn build(certificate: &Source, key: &Source, authorities: &Source) -> Result<Self, TlsError> {
        let chain = certificate.certificates()?;
        let own = Shown(chain[0].clone());
        let private = PrivateKeyDer::from_pem_slice(&key.pem).map_err(|error| key.unusable(&error))?;
        let mut roots = RootCertStore::empty();
        for authority in authorities.certificates()? {
            roots.add(authority).map_err(|error| authorities.unusable(&error))?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));

        let peers = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let peers = peers.build().map_err(|error| authorities.unusable(&error))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(VERSIONS)
            .expect("the provider has TLS 1.3")
            .with_client_cert_verifier(peers)
            .with_single_cert(chain.clone(), private.clone_key())
            .map_err(|error| key.unusable(&error))?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(VERSIONS)
            .expect("the provider has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(SignedByAuthority { roots, provider }))
            .with_client_auth_cert(chain, private)
            .map_err(|error| key.unusable(&error))?;
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { client: Arc::new(client), server: Arc::new(server), own })
    }

    /// Whether a node of that name can show this certificate.
    pub(crate) fn check(&self, node: &NodeId) -> Result<(), TlsError> {
        self.own.check(node).map_err(|problem| TlsError::OtherNode { node: node.clone(), problem })
    }

    pub(crate) async fn connect(&self, stream: Stream) -> io::Result<Stream> {
        let Stream { reader, writer, peer, .. } = stream;
        // Which node answers at an address is not known before it says so; its name is checked then.
        let name = ServerName::try_from("skyhold").expect("it is a host name");
        let tls = TlsConnector::from(Arc::clone(&self.client)).connect(name, join(reader, writer)).await?;
        let certificate = shown(tls.get_ref().1.peer_certificates())?;
        let (reader, writer) = split(tls);
        Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), peer, certificate })
    }

    pub(crate) async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        let Stream { reader, writer, peer, .. } = stream;
        let tls = TlsAcceptor::from(Arc::clone(&self.server)).accept(join(reader, writer)).await?;
        let certificate = shown(tls.get_ref().1.peer_certificates())?;
        let (reader, writer) = split(tls);
        Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), peer, certificate })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// Why there is no [`Tls`], or why a node cannot use it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What a file, or a text, holds cannot be used.
    #[error("{what} cannot be used: {problem}")]
    Unusable {
        /// The file, or which of the texts.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// The certificate is not for this node: its peers would refuse it.
    #[error("the certificate is not for node {node}: {problem}")]
    OtherNode {
        /// The node.
        node: NodeId,
        /// For whom it is.
        problem: String,
    },
}

/// A PEM text, and how it is called.
struct Source {
    name: String,
    pem: Vec<u8>,
}

impl Source {
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.pem).collect();
        match all {
            Ok(all) if all.is_empty() => Err(self.unusable(&"it holds no certificate in PEM")),
            Ok(all) => Ok(all),
            Err(error) => Err(self.unusable(&error)),
        }
    }

    fn unusable(&self, problem: &dyn fmt::Display) -> TlsError {
        TlsError::Unusable { what: self.name.clone(), problem: problem.to_string() }
    }
}

/// A certificate that was shown, whose signature is in order.
#[derive(Debug, Clone)]
struct Shown(CertificateDer<'static>);

impl Certificate for Shown {
    fn check(&self, node: &NodeId) -> Result<(), String> {
        let name = node.as_str();
        // Certificates do not tell these from others, and so could not keep the nodes apart.
        if name.ends_with('.') || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(format!("{name:?} is not in lower case, or ends in a dot"));
        }
        let host = ServerName::try_from(name).map_err(|_| format!("{name:?} is no host name"))?;
        let certificate = ParsedCertificate::try_from(&self.0).map_err(|error| error.to_string())?;
        verify_server_name(&certificate, &host).map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
                format!("it is for {}", presented.join(", "))
            }
            other => other.to_string(),
        })
    }
}

fn shown(certificates: Option<&[CertificateDer<'_>]>) -> io::Result<Option<Arc<dyn Certificate>>> {
    let first = certificates.and_then(<[_]>::first);
    let shown =
        first.map(|certificate| Arc::new(Shown(certificate.clone().into_owned())) as Arc<dyn Certificate>);
    if shown.is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer has shown no certificate"));
    }
    Ok(shown)
}

/// Checks everything about the certificate of whoever was dialled, but its name.
#[derive(Debug)]
struct SignedByAuthority {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for SignedByAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

const VERSIONS: &[&tokio_rustls::rustls::SupportedProtocolVersion] = &[&version::TLS13];

/// What is spoken inside (ALPN): a certificate of the same authority for another protocol's server answers nobody here.
const PROTOCOL: &[u8] = b"skyhold";
