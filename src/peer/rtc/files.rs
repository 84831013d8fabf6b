//! The data channels for files: what comes over one goes to a thread that deals with it, and what that thread says goes
//! back. Nothing here waits for a disk.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::channel::{Sent, Tasks, wait_for_room};
use super::command::{Inbox, Pipe};
use crate::peer::sync::Gauge;

/// What the task that reads a channel hears, and the one that writes it waits for.
#[derive(Default)]
struct Bells {
    opened: Notify,
    /// Less is on its way than was.
    room: Notify,
}

impl Tasks {
    /// Joins a channel to a thread, until either ends.
    pub fn join(&self, channel: Arc<dyn DataChannel>, Pipe { inbox, outbox, limit }: Pipe) {
        let bells = Arc::new(Bells::default());
        let (tasks, of, rung) = (self.clone(), channel.clone(), bells.clone());
        self.spawn(async move { tasks.hand_on(of, inbox, &rung).await });
        let tasks = self.clone();
        self.spawn(async move { tasks.send_all(channel, outbox, limit, &bells).await });
    }

    async fn hand_on(&self, channel: Arc<dyn DataChannel>, mut inbox: Inbox, bells: &Bells) {
        let mut is_wanted = true;
        while let Some(event) = channel.poll().await {
            match event {
                DataChannelEvent::OnOpen => bells.opened.notify_one(),
                DataChannelEvent::OnBufferedAmountLow => bells.room.notify_one(),
                DataChannelEvent::OnMessage(message) => {
                    self.pace.active();
                    self.watch.take();
                    // Where the first message comes right behind, the crate tells of it before it tells of the opening.
                    bells.opened.notify_one();
                    // What is not wanted is read nevertheless: a channel that nobody reads holds up the chat.
                    is_wanted = is_wanted && !message.is_string && inbox(message.data.into());
                }
                DataChannelEvent::OnClose => return,
                _ => {}
            }
        }
    }

    async fn send_all(
        &self,
        channel: Arc<dyn DataChannel>,
        mut outbox: Receiver<Vec<u8>>,
        limit: Gauge,
        bells: &Bells,
    ) {
        let mut sent = Sent::new(self.clone(), channel.clone());
        bells.opened.notified().await;
        let mut known = 0;
        while let Some(message) = outbox.recv().await {
            sent.begin(message.len());
            let most = limit.get();
            if known != most {
                known = most;
                // Told early enough for the next message to be there before the way is empty.
                let threshold = u32::try_from(most / 2).unwrap_or(u32::MAX);
                let _ = channel.set_buffered_amount_low_threshold(threshold).await;
            }
            wait_for_room(&channel, &bells.room, most).await;
            // The chat tells of the end of the connection.
            if channel.send((&message[..]).into()).await.is_err() {
                return;
            }
            sent.done(message.len());
        }
    }
}
