//! How a WebRTC connection is made: its settings, its sockets, and what its callbacks tell.

use std::sync::Arc;
use std::time::Duration;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use tokio::sync::mpsc::UnboundedSender;
use webrtc::data_channel::DataChannel;
use webrtc::error::Error;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder, RTCIceConnectionState,
    RTCIceGatheringState, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    SettingEngineBuilder,
};

use super::aead;
use super::command::RtcConfig;
use super::early::Early;
use super::guarded::{CIPHER_SUITES, GuardedConnection};
use super::pace::Pace;
use super::runtime::PacedRuntime;
use super::turn::Relay;
use super::turn::tunnel::Tunnels;
use crate::peer::description::MAX_MESSAGE;
use crate::peer::event::CloseReason;
use crate::protocol::Candidate;

/// What the crate's callbacks tell the connection's task. They run on WebRTC's driver, so all they do is
/// queue.
pub enum RtcEvent {
    /// A candidate of ours is found.
    Candidate(Candidate),
    /// All candidates are found.
    Gathered,
    /// The other side has opened a channel.
    Channel(Arc<dyn DataChannel>),
    /// A way to the other side is found.
    Way,
    /// Long datagrams do not arrive.
    Stalled,
    /// The other side has closed the connection; what came before that may still be read.
    Closed,
    /// The connection has ended.
    Ended(CloseReason),
}

/// Makes the WebRTC connection of this configuration.
///
/// # Errors
/// WebRTC's own.
pub async fn build(
    config: &RtcConfig,
    rtc_events: &UnboundedSender<RtcEvent>,
    pace: &Arc<Pace>,
    relay: &Relay,
    tunnels: &Tunnels,
    guarded: &Arc<GuardedConnection>,
) -> Result<Arc<dyn PeerConnection>, Error> {
    // To ask a network for a name of the peer's would show it that we are there.
    if config.is_relay_only {
        return build_with(config, rtc_events, pace, relay, tunnels, guarded, MulticastDnsMode::Disabled).await;
    }
    match build_with(config, rtc_events, pace, relay, tunnels, guarded, MulticastDnsMode::QueryOnly).await {
        // A machine with nothing but loopback has no multicast, and needs none.
        Err(_) => build_with(config, rtc_events, pace, relay, tunnels, guarded, MulticastDnsMode::Disabled).await,
        built => built,
    }
}

async fn build_with(
    config: &RtcConfig,
    rtc_events: &UnboundedSender<RtcEvent>,
    pace: &Arc<Pace>,
    relay: &Relay,
    tunnels: &Tunnels,
    guarded: &Arc<GuardedConnection>,
    multicast: MulticastDnsMode,
) -> Result<Arc<dyn PeerConnection>, Error> {
    let servers = config.ice_servers.iter().map(|server| RTCIceServer {
        urls: vec![tunnels.stand_in(&server.url)],
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    let settings = SettingEngineBuilder::new()
        .with_multicast_dns_mode(multicast)
        .with_include_loopback_candidate(config.with_loopback)
        // The first pair that works is taken: waiting for a better one only delays the chat.
        .with_host_acceptance_min_wait(Some(Duration::ZERO))
        .with_srflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_relay_acceptance_min_wait(Some(if config.is_relay_only { Duration::ZERO } else { RELAY_WAIT }))
        // Disconnected, and failed after a further time: the chat is lost after both. Nothing is done at the first, so
        // it is made long enough not to come while a silent connection sleeps.
        .with_ice_timeouts(Some(config.lost_after * 2 / 3), Some(config.lost_after / 3), Some(KEEPALIVE))
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_MESSAGE as u32))
        .with_crypto_provider(aead::provider(guarded.clone()))
        .with_dtls_cipher_suites(CIPHER_SUITES.to_vec());
    let settings = if config.is_narrow { settings.with_sctp_mtu(NARROW_MTU) } else { settings }.build();
    // A wildcard stands for every interface but loopback.
    let mut addresses = vec!["0.0.0.0:0".to_owned(), "[::]:0".to_owned()];
    if config.with_loopback {
        // One is enough for this machine, and each socket costs a buffer. Some machines have no other than that of
        // IPv6.
        let has_v4 = std::net::UdpSocket::bind(("127.0.0.1", 0)).is_ok();
        addresses.push(if has_v4 { "127.0.0.1:0" } else { "[::1]:0" }.to_owned());
    }
    let policy = if config.is_relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
    let configuration =
        RTCConfigurationBuilder::new().with_ice_servers(servers.collect()).with_ice_transport_policy(policy).build();
    let crashed = rtc_events.clone();
    let on_panic = move || {
        let _ = crashed.send(RtcEvent::Ended(CloseReason::Crashed));
    };
    let early = Early::default();
    let on_panic = Arc::new(on_panic);
    let runtime =
        PacedRuntime::new(pace.clone(), relay.clone(), tunnels.clone(), early.clone(), guarded.clone(), on_panic);
    let connection = PeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_setting_engine(settings)
        .with_runtime(Arc::new(runtime))
        .with_handler(Arc::new(Handler { rtc_events: rtc_events.clone(), early }))
        .with_udp_addrs(addresses)
        .with_data_channel_send_buffer_limit(SEND_BUFFER)
        .build()
        .await?;
    Ok(Arc::new(connection))
}

struct Handler {
    rtc_events: UnboundedSender<RtcEvent>,
    early: Early,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let Ok(candidate) = event.candidate.to_json() else { return };
        // The crate leaves the media section unnamed; there is one, and its name is 0.
        let (sdp_mid, sdp_mline_index) = (Some("0".to_owned()), Some(0));
        let _ = self.rtc_events.send(RtcEvent::Candidate(Candidate {
            candidate: candidate.candidate,
            sdp_mid,
            sdp_mline_index,
        }));
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if matches!(state, RTCIceConnectionState::Connected | RTCIceConnectionState::Completed) {
            self.early.release();
            let _ = self.rtc_events.send(RtcEvent::Way);
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.rtc_events.send(RtcEvent::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let event = match state {
            RTCPeerConnectionState::Failed => RtcEvent::Ended(CloseReason::ConnectionLost),
            RTCPeerConnectionState::Closed => RtcEvent::Closed,
            _ => return,
        };
        let _ = self.rtc_events.send(event);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.rtc_events.send(RtcEvent::Channel(channel));
    }
}

/// Bytes of one channel that may be on their way: twice what SCTP takes. What is sent keeps to less than that by
/// itself: the chat in `channel`, files by their window.
const SEND_BUFFER: usize = 2 * 1024 * 1024;

/// Bytes of an SCTP packet that fits into 576 bytes of IPv4, which every host takes (RFC 791, section 3.1): 20 are
/// IP's, 8 UDP's, 37 DTLS's and 4 of a relay's channel.
pub const NARROW_MTU: u32 = 576 - 20 - 8 - 37 - 4;

/// How long a relay waits for a direct way, which is the better one for as long as the chat lasts.
const RELAY_WAIT: Duration = Duration::from_secs(1);

/// How often at most each side tells the other that it is there. Where nothing is said, sleeps make it less often.
const KEEPALIVE: Duration = Duration::from_secs(2);
