//! One peer connection, as a task, from its first command to its last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use webrtc::data_channel::DataChannel;
use webrtc::error::Error;
use webrtc::peer_connection::{PeerConnection, RTCSessionDescription};

use super::build::{RtcEvent, build};
use super::channel::{SendRoom, Tasks, Writer, failed, lack, not_begun};
use super::closing::close_in_order;
use super::command::{Beginning, FileThread, InputSender, RtcCommand, RtcConfig};
use super::guarded::GuardedConnection;
use super::pace::Pace;
use super::turn::Relay;
use super::turn::tunnel::Tunnels;
use crate::peer::engine::{Input, PeerConnectionEnd, PeerConnectionId};
use crate::peer::event::CloseReason;
use crate::peer::ice::{self, IceServer, NoRelay, NoRelayCause};
use crate::peer::sync::Gauge;
use crate::protocol::Candidate;

/// Makes a peer connection, serves it, and ends it. `is_offered`: the TURN server in `config` was named by the chat
/// server.
pub async fn live(
    id: PeerConnectionId,
    config: RtcConfig,
    is_offered: bool,
    inputs: InputSender,
    mut commands: UnboundedReceiver<RtcCommand>,
) {
    let (rtc_events, mut happened) = mpsc::unbounded_channel();
    let has_turn = config.ice_servers.iter().any(IceServer::is_turn);
    if config.is_relay_only && !has_turn {
        let cause = if config.is_behind_proxy { NoRelayCause::NoneByProxy } else { NoRelayCause::NoServer };
        let reason = CloseReason::NoRelay(NoRelay { cause, is_offered: false });
        inputs.send(Input::Closed { id, reason }).await;
        return;
    }
    let pace = Arc::new(Pace::opening(config.lost_after));
    let relay = Relay::new(&config.ice_servers);
    let tunnels = Tunnels::new(&config.ice_servers, config.proxy.as_ref(), config.is_behind_proxy, relay.clone());
    let broken = rtc_events.clone();
    let guarded = GuardedConnection::new(move |what| {
        let _ = broken.send(RtcEvent::Ended(CloseReason::RulesBroken { what }));
    });
    // On the heap, since what it takes to build a connection would be part of this task for as long as it lives.
    let connection = match Box::pin(build(&config, &rtc_events, &pace, &relay, &tunnels, &guarded)).await {
        Ok(connection) => connection,
        Err(error) => {
            inputs.send(Input::Closed { id, reason: not_begun(&error) }).await;
            return;
        }
    };
    if let Some(reason) = lack() {
        let _ = connection.close().await;
        inputs.send(Input::Closed { id, reason }).await;
        return;
    }
    let tasks = Tasks { id, inputs, rtc_events, pace, guarded, is_narrow: config.is_narrow };
    let mut connection = RtcConnection {
        config,
        is_offered,
        has_turn,
        has_way: false,
        connection,
        relay,
        tasks,
        queue: None,
        reader: None,
        writer: None,
        channel: None,
        files: None,
    };
    let (end, ending) = connection.serve(&mut commands, &mut happened).await;
    connection.end(end, ending, &mut commands, &mut happened).await;
    tunnels.end().await;
    debug!("peer connection {}: closed", id.0);
}

struct RtcConnection {
    config: RtcConfig,
    /// The TURN server in `config` was named by the chat server.
    is_offered: bool,
    has_turn: bool,
    /// A way to the other side was found.
    has_way: bool,
    connection: Arc<dyn PeerConnection>,
    relay: Relay,
    tasks: Tasks,
    /// Held for as long as the connection lives: that is how others see that it does.
    queue: Option<Gauge>,
    reader: Option<JoinHandle<()>>,
    writer: Option<Writer>,
    channel: Option<Arc<dyn DataChannel>>,
    /// What the other side's channel for files is joined to.
    files: Option<FileThread>,
}

impl RtcConnection {
    /// Does as it is told until the connection ends. Returns why it has ended, or how it is to end in order.
    async fn serve(
        &mut self,
        commands: &mut UnboundedReceiver<RtcCommand>,
        happened: &mut UnboundedReceiver<RtcEvent>,
    ) -> (Option<CloseReason>, PeerConnectionEnd) {
        // The word that tells of a loss may itself be lost, so it is also looked whether anything comes from the
        // network.
        let (mut is_late, mut look_at) = (false, self.tasks.pace.heard_until(SILENCE));
        let relay = self.relay.clone();
        loop {
            let step = tokio::select! {
                command = commands.recv() => match command {
                    None => return (None, PeerConnectionEnd::WhenSent),
                    Some(RtcCommand::Close(ending)) => return (None, ending),
                    Some(command) => self.obey(command).await,
                },
                () = relay.broken() => return (Some(CloseReason::ConnectionLost), PeerConnectionEnd::WhenSent),
                () = tokio::time::sleep_until(look_at.into()) => {
                    let heard_until = self.tasks.pace.heard_until(self.config.lost_after + SILENCE);
                    let is_silent = heard_until <= Instant::now();
                    if is_silent && is_late {
                        return (Some(CloseReason::ConnectionLost), PeerConnectionEnd::WhenSent);
                    }
                    is_late = is_silent;
                    look_at = heard_until.max(Instant::now() + SECOND_LOOK);
                    Ok(())
                }
                Some(event) = happened.recv() => match self.end_of(&event) {
                    Some(reason) => {
                        self.read_to_end(&event).await;
                        return (Some(reason), PeerConnectionEnd::WhenSent);
                    }
                    None => self.take_event(event).await,
                },
            };
            if let Err(error) = step {
                return (Some(failed(&error)), PeerConnectionEnd::WhenSent);
            }
        }
    }

    /// Why the connection ends, if that is what WebRTC tells. What does not come about for want of a relay fails for a
    /// reason that can be told; once there was a way, it is not for want of one.
    fn end_of(&self, event: &RtcEvent) -> Option<CloseReason> {
        let lacks_relay = self.has_turn && !self.has_way && !self.relay.is_granted();
        let cause = self.relay.trouble();
        let no_relay = CloseReason::NoRelay(NoRelay { cause, is_offered: self.is_offered });
        match event {
            RtcEvent::Gathered if self.config.is_relay_only && !self.relay.is_granted() => Some(no_relay),
            RtcEvent::Ended(CloseReason::ConnectionLost) if lacks_relay && self.tasks.pace.is_opening() => {
                Some(no_relay)
            }
            RtcEvent::Ended(reason) => Some(reason.clone()),
            RtcEvent::Closed => Some(CloseReason::PeerLeft),
            _ => None,
        }
    }

    /// Where the other side has closed the connection, what it has said before is read first.
    async fn read_to_end(&mut self, event: &RtcEvent) {
        if let (RtcEvent::Closed, Some(reader)) = (event, &mut self.reader) {
            let _ = timeout(LAST_READ_TIME, reader).await;
        }
    }

    async fn obey(&mut self, command: RtcCommand) -> Result<(), Error> {
        match command {
            RtcCommand::Begin(Beginning { offer, queue, .. }) => {
                self.queue = Some(queue);
                self.begin(offer).await
            }
            RtcCommand::Finish(sdp) => {
                self.connection.set_remote_description(RTCSessionDescription::answer(sdp)?).await
            }
            RtcCommand::AddCandidate(candidate) => {
                let candidate = RTCIceCandidateInit {
                    candidate: candidate.candidate,
                    sdp_mid: candidate.sdp_mid,
                    sdp_mline_index: candidate.sdp_mline_index,
                    ..RTCIceCandidateInit::default()
                };
                // One candidate that is of no use does not spoil the others.
                if self.connection.add_ice_candidate(candidate).await.is_err() {
                    debug!("peer connection {}: a candidate is not usable", self.tasks.id.0);
                }
                Ok(())
            }
            RtcCommand::Transmit(text, waiting) => {
                if let Some(writer) = &self.writer {
                    writer.send(text, waiting);
                }
                Ok(())
            }
            RtcCommand::SendFiles(pipe) => {
                let channel = self.connection.create_data_channel(FILES_LABEL, None).await?;
                self.tasks.join(channel, pipe);
                Ok(())
            }
            RtcCommand::TakeFiles(pipe) => {
                self.files = Some(pipe);
                Ok(())
            }
            RtcCommand::Close(_) => Ok(()),
            #[cfg(test)]
            RtcCommand::Freeze(says, until) => {
                let _ = says.send(());
                let _ = until.recv();
                Ok(())
            }
        }
    }

    /// Makes an offer, or answers the peer's.
    async fn begin(&mut self, offer: Option<String>) -> Result<(), Error> {
        let description = match offer {
            None => {
                let channel = self.connection.create_data_channel(CHANNEL_LABEL, None).await?;
                self.attach(channel);
                self.connection.create_offer(None).await?
            }
            Some(sdp) => {
                self.connection.set_remote_description(RTCSessionDescription::offer(sdp)?).await?;
                self.connection.create_answer(None).await?
            }
        };
        let sdp = match self.config.is_relay_only {
            true => ice::relays_alone(&description.sdp),
            false => description.sdp.clone(),
        };
        self.connection.set_local_description(description).await?;
        self.tasks.inputs.send(Input::Described { id: self.tasks.id, sdp }).await;
        Ok(())
    }

    async fn take_event(&mut self, event: RtcEvent) -> Result<(), Error> {
        let (id, inputs) = (self.tasks.id, self.tasks.inputs.clone());
        match event {
            RtcEvent::Candidate(Candidate { candidate, sdp_mid, sdp_mline_index }) => {
                if candidate.contains(" typ relay") {
                    self.relay.set_granted();
                }
                let shown = if self.config.is_relay_only { ice::relay_alone(&candidate) } else { Some(candidate) };
                if let Some(candidate) = shown {
                    let candidate = Candidate { candidate, sdp_mid, sdp_mline_index };
                    inputs.send(Input::Candidate { id, candidate }).await;
                }
            }
            RtcEvent::Channel(channel) => {
                // The protocol knows one channel of each name, and the caller opens the chat's. That for files is
                // taken once we have said that some may come.
                let label = channel.label().await?;
                if self.channel.is_none() && label == CHANNEL_LABEL {
                    self.attach(channel);
                } else if label == FILES_LABEL
                    && let Some(pipe) = self.files.take()
                {
                    self.tasks.join(channel, pipe);
                } else {
                    channel.close().await?;
                }
            }
            RtcEvent::Way => {
                self.has_way = true;
                inputs.send(Input::WayFound { id }).await;
            }
            RtcEvent::Stalled => {
                inputs.send(Input::Stalled { id }).await;
            }
            RtcEvent::Gathered | RtcEvent::Closed | RtcEvent::Ended(_) => {}
        }
        Ok(())
    }

    fn attach(&mut self, channel: Arc<dyn DataChannel>) {
        let room = Arc::new(SendRoom::default());
        self.reader = Some(self.tasks.read(channel.clone(), room.clone()));
        self.writer = Some(self.tasks.write(channel.clone(), room));
        self.channel = Some(channel);
    }

    /// Ends the connection: at once where there is a reason, and else in order.
    async fn end(
        mut self,
        reason: Option<CloseReason>,
        ending: PeerConnectionEnd,
        commands: &mut UnboundedReceiver<RtcCommand>,
        happened: &mut UnboundedReceiver<RtcEvent>,
    ) {
        self.tasks.pace.active();
        if reason.is_none()
            && ending != PeerConnectionEnd::AtOnce
            && let (Some(writer), Some(channel)) = (self.writer.take(), self.channel.take())
        {
            close_in_order(&writer, channel, &self.connection, ending, commands, happened).await;
        }
        // What is broken may take its time.
        let _ = timeout(CLOSE_TIME, self.relay.close(&self.connection)).await;
        let reason = reason.unwrap_or(CloseReason::Left);
        self.tasks.inputs.send(Input::Closed { id: self.tasks.id, reason }).await;
    }
}

/// The data channel's name (protocol 1.3).
const CHANNEL_LABEL: &str = "chat";

/// The name of the data channels for files (protocol 2.13).
const FILES_LABEL: &str = "files";

/// How long the last of what the other side has said may take to be read once it has closed the connection.
const LAST_READ_TIME: Duration = Duration::from_secs(2);

/// A connection from which nothing at all comes for this much longer than it takes to lose one has ended, also where
/// WebRTC says nothing of that. Since it may have been this program that was stopped, it is looked at once more, after
/// this time.
const SILENCE: Duration = Duration::from_secs(15);
const SECOND_LOOK: Duration = Duration::from_secs(5);

/// How long a connection may take to close.
const CLOSE_TIME: Duration = Duration::from_secs(5);
