//! The end of a connection in order, after which nothing of what was sent is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::peer_connection::transport::RTCDtlsTransportState;
use tokio::sync::mpsc::UnboundedReceiver;
use webrtc::data_channel::DataChannel;
use webrtc::peer_connection::PeerConnection;

use super::build::RtcEvent;
use super::channel::Writer;
use super::command::RtcCommand;
use super::stall::Wait;
use crate::peer::engine::PeerConnectionEnd;
use crate::peer::event::CloseReason;

/// Ends a chat so that nothing of what was sent is lost. Closing right after sending would lose it, and so would
/// closing while the other side has it but has not read it. So the writer sends what it has; the channel is closed,
/// which the other side reads behind all texts; and then it is the other side that closes the connection, which shows
/// in DTLS alone. Of a channel that is closed nothing more is heard, so where the other side has closed it first, or is
/// known to have left, it is not waited for: both would wait for each other.
pub async fn close_in_order(
    writer: &Writer,
    channel: Arc<dyn DataChannel>,
    connection: &Arc<dyn PeerConnection>,
    mut ending: PeerConnectionEnd,
    commands: &mut UnboundedReceiver<RtcCommand>,
    happened: &mut UnboundedReceiver<RtcEvent>,
) {
    let mut wait = Wait::new(Instant::now());
    let mut outstanding = usize::MAX;
    let mut is_told = true;
    loop {
        tokio::select! {
            event = happened.recv() => if matches!(event, None | Some(RtcEvent::Ended(_) | RtcEvent::Closed)) {
                return;
            },
            command = commands.recv(), if is_told => match command {
                // The answer to the other side's farewell.
                Some(RtcCommand::Transmit(text, waiting)) => writer.send(text, waiting),
                Some(RtcCommand::Close(changed @ PeerConnectionEnd::WhenArrived)) => ending = changed,
                Some(RtcCommand::Close(PeerConnectionEnd::AtOnce | PeerConnectionEnd::WhenSent)) => return,
                Some(_) => {}
                None => is_told = false,
            },
            () = tokio::time::sleep(DRAIN_POLL) => {}
        }
        let Ok(now_outstanding) = channel.outstanding_bytes().await else { return };
        if writer.is_done() && now_outstanding == 0 {
            break;
        }
        let is_progress = now_outstanding != outstanding;
        outstanding = now_outstanding;
        if wait.look(is_progress, Instant::now()) >= DRAIN_TIME {
            return;
        }
    }
    let read_time = match ending {
        PeerConnectionEnd::AtOnce | PeerConnectionEnd::WhenArrived => return,
        PeerConnectionEnd::WhenSent => READ_TIME_UNKNOWN,
        PeerConnectionEnd::WhenClosedByPeer => READ_TIME,
    };
    let _ = channel.close().await;
    let Some(sctp) = connection.sctp().await else { return };
    let dtls = sctp.transport();
    let read_to_end = async {
        let mut wait = Wait::new(Instant::now());
        while dtls.state().await.is_ok_and(|state| state == RTCDtlsTransportState::Connected) {
            if wait.look(false, Instant::now()) >= read_time {
                return;
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    let lost =
        async { while !matches!(happened.recv().await, None | Some(RtcEvent::Ended(CloseReason::ConnectionLost))) {} };
    tokio::select! {
        () = read_to_end => {}
        () = lost => {}
        () = no_longer(commands) => {}
    }
}

/// Waits until the other side is not to be waited for any longer.
async fn no_longer(commands: &mut UnboundedReceiver<RtcCommand>) {
    while let Some(command) = commands.recv().await {
        if matches!(command, RtcCommand::Close(_)) {
            return;
        }
    }
    // Nobody is left who could say so.
    std::future::pending().await
}

/// How long the other side may take nothing of what was sent before it is given up, and how often that is looked at.
const DRAIN_TIME: Duration = Duration::from_secs(10);
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// How long the other side may take to read what it has, and to close in its turn.
const READ_TIME: Duration = Duration::from_secs(15);

/// The same for an app of which it is not known that it closes at all.
const READ_TIME_UNKNOWN: Duration = Duration::from_millis(500);
