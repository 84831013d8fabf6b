//! The end of a connection in order, after which nothing of what was sent is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::peer_connection::transport::RTCDtlsTransportState;
use tokio::sync::mpsc::UnboundedReceiver;
use webrtc::data_channel::DataChannel;
use webrtc::peer_connection::PeerConnection;

use super::build::RtcEvent;
use super::channel::Writer;
use super::stall::Wait;
use crate::peer::event::CloseReason;

/// Ends a chat so that nothing of what was sent is lost. Closing right after sending would lose it, and so would
/// closing while the other side has it but has not read it. So the writer sends what it has; the channel is closed,
/// which the other side reads behind all texts; and then it is the other side that closes the connection, which shows
/// in DTLS alone.
pub async fn close_in_order(
    writer: Writer,
    channel: Arc<dyn DataChannel>,
    connection: &Arc<dyn PeerConnection>,
    happened: &mut UnboundedReceiver<RtcEvent>,
    read_time: Duration,
) {
    let Writer { texts, mut task } = writer;
    drop(texts);
    let mut wait = Wait::new(Instant::now());
    let mut outstanding = usize::MAX;
    let mut is_written = false;
    loop {
        tokio::select! {
            _ = &mut task, if !is_written => is_written = true,
            event = happened.recv() => if matches!(event, None | Some(RtcEvent::Ended(_))) {
                return;
            },
            () = tokio::time::sleep(DRAIN_POLL) => {}
        }
        let now_outstanding = channel.outstanding_bytes().await.unwrap_or_default();
        if is_written && now_outstanding == 0 {
            break;
        }
        let is_progress = now_outstanding != outstanding;
        outstanding = now_outstanding;
        if wait.look(is_progress, Instant::now()) >= DRAIN_TIME {
            return;
        }
    }
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
    }
}

/// How long the other side may take nothing of what was sent before it is given up, and how often that is looked at.
const DRAIN_TIME: Duration = Duration::from_secs(10);
const DRAIN_POLL: Duration = Duration::from_millis(5);
