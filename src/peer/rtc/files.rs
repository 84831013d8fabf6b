//! The data channels for files: what comes over one goes to a thread that deals with it, and what that thread says goes
//! back. Nothing here waits for a disk.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::channel::{SendRoom, Sent, Tasks};
use super::command::{FileThread, Inbox};
use crate::peer::sync::Gauge;

impl Tasks {
    /// Joins a channel to a thread, until either ends.
    pub fn join(&self, channel: Arc<dyn DataChannel>, FileThread { inbox, outbox, limit }: FileThread) {
        let (opened, room) = (Arc::new(Notify::new()), Arc::new(SendRoom::default()));
        let (tasks, of, bell, more) = (self.clone(), channel.clone(), opened.clone(), room.clone());
        self.spawn(async move {
            tasks.hand_on(of, inbox, &bell, &more).await;
            more.end();
            // Who still waits to begin finds that there is nothing to send by.
            bell.notify_one();
        });
        let tasks = self.clone();
        self.spawn(async move { tasks.send_all(channel, outbox, limit, (&opened, &room)).await });
    }

    async fn hand_on(&self, channel: Arc<dyn DataChannel>, mut inbox: Inbox, opened: &Notify, room: &SendRoom) {
        let mut is_wanted = true;
        while let Some(event) = channel.poll().await {
            match event {
                DataChannelEvent::OnOpen => opened.notify_one(),
                DataChannelEvent::OnBufferedAmountLow => room.grow(),
                DataChannelEvent::OnMessage(message) => {
                    self.pace.active();
                    self.guarded.take();
                    // Where the first message comes right behind, the crate tells of it before it tells of the opening.
                    opened.notify_one();
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
        (opened, room): (&Notify, &SendRoom),
    ) {
        let mut sent = Sent::new(self.clone(), channel.clone());
        opened.notified().await;
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
            // The message is a part of what is on its way then.
            room.wait(&*channel, most.saturating_sub(message.len()).max(1)).await;
            // The chat tells of the end of the connection.
            if channel.send((&message[..]).into()).await.is_err() {
                return;
            }
            sent.done(message.len());
        }
    }
}
