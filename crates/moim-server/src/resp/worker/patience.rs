//! How long a connection waits for its client.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Worker;
use crate::resp::connection::Closing;

impl Worker {
    /// Waits for whatever comes next, but not for ever.
    pub(super) fn rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.tidy();
        if self.connection.closing() == Closing::Now {
            return Poll::Ready(());
        }
        let Some(due) = self.due() else { return Poll::Pending };
        loop {
            let timer = match &mut self.timer {
                Some(timer) if timer.deadline().into_std() <= due => timer,
                other => other.insert(Box::pin(tokio::time::sleep_until(due.into()))),
            };
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if Instant::now() >= due {
                self.connection.front.count(|figures| figures.connections_timed_out += 1);
                return Poll::Ready(());
            }
        }
    }

    /// When its patience with this client ends, if ever.
    fn due(&self) -> Option<Instant> {
        let settings = &self.connection.front.settings;
        let after = |since: Instant, limit_ms: u64| {
            (limit_ms > 0).then(|| since + Duration::from_millis(limit_ms))
        };
        let active = self.connection.seen.active.get();
        let idle_ms = self.connection.front.configuration.borrow().idle_timeout_ms();
        if !self.output.is_empty() {
            return after(self.unread_since, settings.unread_timeout_ms);
        }
        if !self.connection.session.borrow().admitted {
            return after(self.connection.created, settings.login_timeout_ms);
        }
        if self.connection.flow.borrow().len() > 0 {
            return None;
        }
        let unfinished_ms =
            if self.begin < self.input.len() { settings.unfinished_timeout_ms } else { 0 };
        [after(active, unfinished_ms), after(active, idle_ms)].into_iter().flatten().min()
    }
}
