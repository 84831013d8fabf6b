//! The data channels for files: what comes over one goes to a thread that deals with it, and what that thread says goes
//! back. Nothing here waits for a disk.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::channel::{Sent, Tasks};
use super::command::{Inbox, Pipe};

impl Tasks {
    /// Joins a channel to a thread, until either ends.
    pub fn join(&self, channel: Arc<dyn DataChannel>, Pipe { inbox, outbox }: Pipe) {
        let opened = Arc::new(Notify::new());
        let (tasks, of, bell) = (self.clone(), channel.clone(), opened.clone());
        self.spawn(async move { tasks.hand_on(of, inbox, bell).await });
        let tasks = self.clone();
        self.spawn(async move { tasks.send_all(channel, outbox, opened).await });
    }

    async fn hand_on(&self, channel: Arc<dyn DataChannel>, mut inbox: Inbox, opened: Arc<Notify>) {
        let mut is_wanted = true;
        while let Some(event) = channel.poll().await {
            match event {
                DataChannelEvent::OnOpen => opened.notify_one(),
                DataChannelEvent::OnMessage(message) => {
                    self.pace.active();
                    self.watch.take();
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

    async fn send_all(&self, channel: Arc<dyn DataChannel>, mut outbox: Receiver<Vec<u8>>, opened: Arc<Notify>) {
        let mut sent = Sent::new(self.clone(), channel.clone());
        opened.notified().await;
        while let Some(message) = outbox.recv().await {
            sent.begin(message.len());
            // The chat tells of the end of the connection.
            if channel.send((&message[..]).into()).await.is_err() {
                return;
            }
            sent.done(message.len());
        }
    }
}
