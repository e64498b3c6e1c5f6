//! The handshake: who the peer is, and whether it may be one.
//!
//! ```text
//! dialler                         acceptor
//!    |--- Hello ------------------->|   who dials
//!    |<-- Challenge (or Refuse) ----|   version, features, cluster, name are in order
//!    |--- Proof ------------------->|   the dialler has the secret
//!    |<-- Welcome (or Refuse) ------|   so has the acceptor, and it admits the dialler
//! ```
//!
//! Each proof is an HMAC-SHA256 under the secret of the prover's role and all bytes of the handshake before it, both
//! nonces among them. So no proof can be recorded and used again, handed back to its maker, or kept while a field
//! is changed.
//!
//! Invariants: the secret never travels; nothing is told to a stranger but what it has said itself, whether this node
//! has a secret, and which versions it speaks; a transition consumes the state that it leaves.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::Secret;

use super::frame::{Challenge, Frame, Hello, Proof, Refuse, RefuseReason, Welcome};
use super::group::{self, Extra};
use super::settings::{ConnectionConfig, PeerIdentity, dial_of};

/// The dialler has said hello and waits for the challenge.
#[derive(Debug)]
pub(crate) struct AwaitChallenge {
    transcript: Transcript,
    dial: u64,
}

impl AwaitChallenge {
    /// Begins a handshake as the dialler. `nonce` must be one of `hello_nonce`, and never used before.
    pub(crate) fn begin(config: &ConnectionConfig, nonce: [u8; 32]) -> (Self, Frame) {
        let hello = Frame::Hello(Box::new(Hello {
            versions: config.versions.clone(),
            features: config.features,
            has_secret: config.secret.is_some(),
            cluster: config.identity.cluster.clone(),
            node: config.identity.node.clone(),
            incarnation: config.identity.incarnation,
            listen: config.identity.listen,
            max_frame: config.max_frame(),
            nonce,
            later: config.extra.map_or_else(Bytes::new, |extra| extra.write()),
        }));
        let mut transcript = Transcript::default();
        transcript.add(&hello);
        (Self { transcript, dial: dial_of(&nonce) }, hello)
    }

    /// Answers the challenge with the proof, or refuses it.
    pub(crate) fn challenged(
        mut self,
        config: &ConnectionConfig,
        challenge: Challenge,
    ) -> Result<(AwaitWelcome, Frame), Refuse> {
        let Challenge { version, features, needs_secret, nonce } = challenge;
        if !config.versions.contains(&version) {
            let own = Versions(&config.versions);
            return Err(protocol(format!("the peer chose version {version}, this node speaks {own}")));
        }
        if features & !config.features != 0 {
            let extra = features & !config.features;
            return Err(protocol(format!(
                "the peer chose features {extra:#x}, which this node does not have"
            )));
        }
        if config.extra.is_some() && group::connections(features) == 1 {
            return Err(protocol("a further connection, of which the peer wants none".to_owned()));
        }
        check_secret_on_both(config.secret.is_some(), needs_secret)?;
        self.transcript.add(&Frame::Challenge(challenge));
        let proof = Frame::Proof(Proof { mac: self.transcript.mac(config.secret.as_ref(), DIALLER) });
        self.transcript.add(&proof);
        let (transcript, dial, challenge) = (self.transcript, self.dial, nonce);
        Ok((AwaitWelcome { transcript, version, features, dial, challenge }, proof))
    }
}

/// The dialler has proven itself and waits to be welcomed.
#[derive(Debug)]
pub(crate) struct AwaitWelcome {
    transcript: Transcript,
    version: u16,
    features: u64,
    dial: u64,
    challenge: [u8; 32],
}

impl AwaitWelcome {
    /// Checks the acceptor's proof: the dialler's side is established, or refuses.
    pub(crate) fn welcomed(
        mut self,
        config: &ConnectionConfig,
        mut welcome: Welcome,
    ) -> Result<PeerIdentity, Refuse> {
        let mac = std::mem::replace(&mut welcome.mac, NO_MAC);
        let Welcome { node, incarnation, listen, max_frame, .. } = welcome.clone();
        self.transcript.add(&Frame::Welcome(Box::new(welcome)));
        self.transcript.verify(config.secret.as_ref(), ACCEPTOR, mac)?;
        let peer = PeerIdentity {
            node,
            incarnation,
            listen,
            version: self.version,
            features: self.features,
            max_frame: max_frame as usize,
            dial: self.dial,
            challenge: self.challenge,
            extra: config.extra,
        };
        check_certificate(config, &peer)?;
        check_name_differs(config, &peer)?;
        Ok(peer)
    }
}

/// The acceptor waits for somebody to say who it is.
#[derive(Debug)]
pub(crate) struct AwaitHello {
    nonce: [u8; 32],
}

impl AwaitHello {
    /// Begins a handshake as the acceptor. `nonce` must be random and never used before.
    pub(crate) fn begin(nonce: [u8; 32]) -> Self {
        Self { nonce }
    }

    /// Answers a hello with the challenge, or refuses it.
    pub(crate) fn greeted(
        self,
        config: &ConnectionConfig,
        hello: Hello,
    ) -> Result<(AwaitProof, Frame), Refuse> {
        let version = common_version(&config.versions, &hello.versions)?;
        if hello.cluster != config.identity.cluster {
            // Our own name for it stays unsaid: it is all that keeps strangers out if there is no secret.
            return Err(Refuse::new(RefuseReason::Cluster, format!("the peer says {:?}", hello.cluster)));
        }
        check_secret_on_both(config.secret.is_some(), hello.has_secret)?;
        let features = config.features & hello.features;
        // Where several connections were not agreed on, what follows the known fields is a later version's.
        let is_one = group::connections(features) == 1;
        let extra = if is_one { None } else { Extra::read(&hello.later).map_err(protocol)? };
        let peer = PeerIdentity {
            node: hello.node.clone(),
            incarnation: hello.incarnation,
            listen: hello.listen,
            version,
            features,
            max_frame: hello.max_frame as usize,
            dial: dial_of(&hello.nonce),
            challenge: self.nonce,
            extra,
        };
        let challenge = Frame::Challenge(Challenge {
            version,
            features: peer.features,
            needs_secret: config.secret.is_some(),
            nonce: self.nonce,
        });
        let mut transcript = Transcript::default();
        transcript.add(&Frame::Hello(Box::new(hello)));
        transcript.add(&challenge);
        Ok((AwaitProof { transcript, peer }, challenge))
    }
}

/// The acceptor has asked for the proof.
#[derive(Debug)]
pub(crate) struct AwaitProof {
    transcript: Transcript,
    peer: PeerIdentity,
}

impl AwaitProof {
    /// Checks the proof: the peer is who it says, or is refused.
    pub(crate) fn proven(
        mut self,
        config: &ConnectionConfig,
        proof: Proof,
    ) -> Result<AwaitAdmission, Refuse> {
        let secret = self.transcript.proven_by(config.secret.as_ref(), proof.mac)?;
        // Only now: a stranger may not find out nodes' names by trying.
        check_certificate(config, &self.peer)?;
        check_name_differs(config, &self.peer)?;
        self.transcript.add(&Frame::Proof(proof));
        Ok(AwaitAdmission { transcript: self.transcript, secret, peer: self.peer })
    }
}

/// The acceptor's own node decides whether it admits the peer.
#[derive(Debug)]
pub(crate) struct AwaitAdmission {
    transcript: Transcript,
    /// The one that the dialler has, which the acceptor's own proof is made with.
    secret: Option<Secret>,
    peer: PeerIdentity,
}

impl AwaitAdmission {
    /// Who asks to be admitted.
    pub(crate) fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// The acceptor's side is established.
    pub(crate) fn admitted(mut self, config: &ConnectionConfig) -> (PeerIdentity, Frame) {
        let mut welcome = Welcome {
            node: config.identity.node.clone(),
            incarnation: config.identity.incarnation,
            listen: config.identity.listen,
            max_frame: config.max_frame(),
            mac: NO_MAC,
        };
        self.transcript.add(&Frame::Welcome(Box::new(welcome.clone())));
        welcome.mac = self.transcript.mac(self.secret.as_ref(), ACCEPTOR);
        (self.peer, Frame::Welcome(Box::new(welcome)))
    }
}

/// All bytes of the handshake so far. A few hundred: its frames are small and few.
#[derive(Debug, Default)]
struct Transcript(BytesMut);

impl Transcript {
    fn add(&mut self, frame: &Frame) {
        frame.encode(&mut self.0);
    }

    fn mac(&self, secret: Option<&Secret>, role: &[u8]) -> [u8; 32] {
        match secret {
            Some(secret) => self.keyed(secret, role).finalize().into_bytes().into(),
            None => NO_MAC,
        }
    }

    /// The secret by which a dialler has proven itself: one of those that are accepted.
    fn proven_by(&self, accepted: Option<&Secret>, mac: [u8; 32]) -> Result<Option<Secret>, Refuse> {
        let Some(accepted) = accepted else { return Ok(None) };
        let proven = accepted.each().find(|secret| self.verify(Some(secret), DIALLER, mac).is_ok());
        proven.map(Some).ok_or_else(|| RefuseReason::Secret.into())
    }

    fn verify(&self, secret: Option<&Secret>, role: &[u8], mac: [u8; 32]) -> Result<(), Refuse> {
        let Some(secret) = secret else { return Ok(()) };
        // In constant time: how long it takes does not tell how much of a guess is right.
        self.keyed(secret, role).verify_slice(&mac).map_err(|_| RefuseReason::Secret.into())
    }

    fn keyed(&self, secret: &Secret, role: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .expect("HMAC takes keys of every length: long ones are hashed, short ones padded");
        mac.update(role);
        mac.update(&self.0);
        mac
    }
}

/// The highest version that both speak.
fn common_version(own: &RangeInclusive<u16>, peer: &RangeInclusive<u16>) -> Result<u16, Refuse> {
    let highest = *own.end().min(peer.end());
    if highest < *own.start().max(peer.start()) {
        let detail = format!("the peer speaks {}, this node {}", Versions(peer), Versions(own));
        return Err(Refuse::new(RefuseReason::Version, detail));
    }
    Ok(highest)
}

fn check_secret_on_both(own: bool, peer: bool) -> Result<(), Refuse> {
    match (own, peer) {
        (true, false) => Err(Refuse::new(RefuseReason::Secret, "the peer has none, this node has one")),
        (false, true) => Err(Refuse::new(RefuseReason::Secret, "the peer has one, this node has none")),
        _ => Ok(()),
    }
}

/// Whether the peer may have its name, by its certificate.
fn check_certificate(config: &ConnectionConfig, peer: &PeerIdentity) -> Result<(), Refuse> {
    let Some(certificate) = &config.certificate else { return Ok(()) };
    certificate.check(&peer.node).map_err(|detail| Refuse::new(RefuseReason::Certificate, detail))
}

/// What a node says to itself.
pub(crate) const ITSELF: &str = "the peer is this node itself";

fn check_name_differs(config: &ConnectionConfig, peer: &PeerIdentity) -> Result<(), Refuse> {
    let own = &config.identity;
    if peer.node != own.node {
        return Ok(());
    }
    let detail = if peer.incarnation == own.incarnation {
        ITSELF.to_owned()
    } else {
        format!("the peer has the name of this node, {:?}", peer.node)
    };
    Err(Refuse::new(RefuseReason::NameTaken, detail))
}

fn protocol(detail: String) -> Refuse {
    Refuse::new(RefuseReason::Protocol, detail)
}

/// Shows a range of versions: `1 to 3`.
struct Versions<'a>(&'a RangeInclusive<u16>);

impl std::fmt::Display for Versions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.0.start(), self.0.end())
    }
}

/// Who proves. Two labels, so that nobody's proof serves as the other's.
const DIALLER: &[u8] = b"skyhold dialler proof\0";
const ACCEPTOR: &[u8] = b"skyhold acceptor proof\0";

/// In place of a proof if there is no secret, and in the bytes that a `Welcome`'s own proof is made of.
const NO_MAC: [u8; 32] = [0; 32];
