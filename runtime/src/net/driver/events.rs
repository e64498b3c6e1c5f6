//! What an established connection tells, handed on to the link and to the peers' task.
//!
//! Invariant: it only *tries* a mailbox, and waits for nobody but the peers' task.

use super::Driver;
use crate::error::CallError;
use crate::event::StopReason;
use crate::net::news::News;
use crate::port::{Intake, Said};
use crate::proto::connection::{CloseReason, Event};
use crate::proto::fence::{TooMany, Word};
use crate::proto::frame::Request;
use crate::proto::inbound::Insert;
use crate::proto::watch::Watch;
use crate::time;

impl Driver {
    /// Hands on what the protocol has to tell; gives the reason when it is over.
    pub(super) async fn handle_events(&mut self) -> Option<CloseReason> {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Request(request) => self.request(request),
                Event::Reply { id, payload } => {
                    if let Some(link) = &self.link {
                        link.answered(id, Ok(payload));
                    }
                }
                Event::Failure { id, error } => {
                    if let Some(link) = &self.link {
                        link.answered(id, Err(error));
                    }
                }
                Event::Pong { token } => {
                    if let Some(link) = &self.link {
                        link.ponged(token);
                    }
                }
                Event::Cancel { id } => {
                    if let Some(link) = &self.link {
                        link.cancel_inbound(id);
                    }
                }
                Event::Watch(watch) => self.watch(watch),
                Event::Unwatch { id, reason } => self.unwatch(id, reason),
                Event::Down { id, reason } => {
                    if let Some(link) = &self.link {
                        link.watched_ended(id, reason);
                    }
                }
                Event::Window(window) => {
                    if let Some(link) = &self.link {
                        link.set_window(window);
                    }
                }
                Event::Credit { instance, totals } => {
                    if let Some(link) = &self.link {
                        link.grant(instance, totals);
                    }
                }
                Event::Gone { instance } => {
                    if let Some(link) = &self.link {
                        link.gone(instance);
                    }
                }
                Event::StreamCredit { stream, totals } => {
                    if let Some(link) = &self.link {
                        link.stream_credit(stream, totals);
                    }
                }
                Event::StreamItem { stream, payload } => {
                    if let Some(link) = &self.link
                        && !link.stream_item(stream, payload)
                    {
                        let text = format!("an item of stream {stream} beyond its credit");
                        self.connection.close(time::now(), &text);
                    }
                }
                Event::StreamEnd { stream, error } => {
                    if let Some(link) = &self.link {
                        link.stream_end(stream, error);
                    }
                }
                Event::StreamStop { stream } => {
                    if let Some(link) = &self.link {
                        link.stream_stop(stream);
                    }
                }
                Event::Taken { bytes } => {
                    if let Some(link) = &self.link {
                        link.pieces_taken(bytes, time::now());
                    }
                }
                Event::Fence { number } => {
                    let told = self.link.as_ref().map(|link| link.fence(number));
                    self.word(told).await;
                }
                Event::Behind { number, fences, word } => {
                    let told = self.link.as_ref().map(|link| link.behind(number, fences, word));
                    self.word(told).await;
                }
                Event::Admit(peer) => self.ask_for_admission(peer).await,
                Event::Established(peer) => self.establish(&peer).await,
                Event::Names(names) => self.tell(|link| News::Names(link, names)).await,
                Event::Described(described) => self.tell(|link| News::Described(link, described)).await,
                Event::Members(members) => self.tell(|link| News::Members(link, members)).await,
                Event::Gossip { bytes } => self.tell(|link| News::Gossip(link, bytes)).await,
                Event::NamesSync { token } => self.tell(|link| News::NamesSync(link, token)).await,
                Event::NamesSynced { token } => self.tell(|link| News::NamesSynced(link, token)).await,
                Event::Goodbye { .. } => {}
                Event::Closed(reason) => return Some(reason),
            }
        }
        None
    }

    /// What the peer has said behind all else, once that has come on each of its connections.
    async fn word(&mut self, told: Option<Result<Option<Said>, TooMany>>) {
        match told.unwrap_or(Ok(None)) {
            Ok(None) => {}
            Ok(Some((link, Word::Down { id, reason }))) => link.watched_ended(id, reason),
            Ok(Some((link, Word::NamesSynced { token }))) => {
                self.news(News::NamesSynced(link, token)).await;
            }
            Err(TooMany) => self.connection.close(time::now(), "too much waits for fences that do not come"),
        }
    }

    fn request(&mut self, request: Request) {
        let Some(link) = &self.link else { return };
        let (id, instance, bytes) = (request.head.id, request.head.instance, request.payload.len());
        let is_counted = !request.head.is_ahead;
        let begun = if request.head.wants_reply { link.begin_inbound(id, instance) } else { Insert::New };
        let intake = match begun {
            Insert::New => self.surroundings.inbox.request(link, request),
            Insert::Duplicate => {
                return self.connection.close(time::now(), &format!("request {id} was sent twice"));
            }
            Insert::Full => {
                let detail = "as many requests of this connection are under way as may be";
                link.refuse(id, instance, &CallError::Overloaded(detail.into()));
                Intake::Done
            }
        };
        match intake {
            Intake::Done if is_counted => self.connection.consumed(instance, bytes),
            Intake::Done | Intake::Waits => {}
            Intake::Gone => self.connection.gone(instance),
        }
    }

    fn watch(&mut self, watch: Watch) {
        let Some(link) = &self.link else { return };
        match link.begin_watch(watch) {
            Insert::New => self.surroundings.inbox.watch(link, watch),
            Insert::Duplicate => {
                self.connection.close(time::now(), &format!("watch {} was sent twice", watch.id));
            }
            Insert::Full => link.refuse_watch(watch.id),
        }
    }

    fn unwatch(&mut self, id: u64, reason: Option<StopReason>) {
        let Some(link) = &self.link else { return };
        if let Some(watch) = link.end_watch(id) {
            self.surroundings.inbox.unwatch(link, watch, reason.filter(|_| watch.linked.is_some()));
        }
    }
}
