//! The Lease by which one replica acts. It does not fence: the `Admission` object does (see `records`).
//!
//! kube-lease-manager holds itself to be the holder until it has read otherwise, so it does not notice that the Lease ran
//! out while no renewal succeeded. Here it is lost then, by this process's own clock.

use std::time::Duration;

use anyhow::Context;
use http::Method;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::Cluster;
use super::limited::limited;

/// Seconds after which a Lease that is not renewed may be taken: with the pause between two tries, a takeover takes
/// 20 s at most.
const DURATION_SECONDS: u64 = 15;
/// Seconds before that at which the holder renews it.
const GRACE_SECONDS: u64 = 8;
/// How long giving it back may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer about it may take: so short that a renewal can be tried again before the Lease runs out.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);

/// The competition of this replica for the Lease.
pub struct Leadership {
    held: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Leadership {
    /// Competes for the Lease of this installation from now on.
    ///
    /// # Errors
    /// A Lease that can be neither read nor created.
    pub async fn compete(cluster: &Cluster, identity: &str) -> anyhow::Result<Self> {
        let name = format!("stint-{}", cluster.installation);
        let (renew, renewed) = watch::channel(Instant::now());
        // Whatever the manager patches as the holder renews the Lease.
        let client = limited(&cluster.client, ANSWERED_WITHIN, move |method, begun| {
            if *method == Method::PATCH {
                renew.send_replace(begun);
            }
        });
        let manager = LeaseManagerBuilder::new(client, name.clone())
            .with_namespace(cluster.namespace.clone())
            .with_identity(identity)
            .with_duration(DURATION_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build()
            .await
            .with_context(|| format!("Lease {}/{name}", cluster.namespace))?;
        let (believed, task) = manager.watch().await;
        let (hold, held) = watch::channel(false);
        let task = tokio::spawn(async move {
            lose_in_time(Duration::from_secs(DURATION_SECONDS), believed, renewed, hold).await;
            if let Ok(Err(error)) = task.await {
                tracing::error!(%error, "competing for the Lease ended");
            }
        });
        Ok(Self { held, task })
    }

    /// Whether the Lease is held, now and as it changes.
    pub fn held(&self) -> watch::Receiver<bool> {
        self.held.clone()
    }

    /// Gives the Lease back, so that another replica need not wait for it to run out. Every receiver that `held` gave
    /// must be gone.
    pub async fn release(self) {
        drop(self.held);
        if tokio::time::timeout(RELEASE_WITHIN, self.task).await.is_err() {
            tracing::warn!("the Lease was not given back in time; it runs out by itself");
        }
    }
}

/// Passes on whether the manager believes to hold the Lease, for as long as a renewal can have kept it. Ends once nobody
/// asks any longer, or the manager has ended.
async fn lose_in_time(
    duration: Duration,
    mut believed: watch::Receiver<bool>,
    mut renewed: watch::Receiver<Instant>,
    held: watch::Sender<bool>,
) {
    loop {
        let until = *renewed.borrow_and_update() + duration;
        let believes = *believed.borrow_and_update();
        let holds = believes && Instant::now() < until;
        let changed = held.send_if_modified(|known| std::mem::replace(known, holds) != holds);
        if changed && believes && !holds {
            tracing::warn!("the Lease could not be renewed, and ran out");
        }
        tokio::select! {
            biased;
            () = held.closed() => return,
            ended = believed.changed() => if ended.is_err() { return },
            Ok(()) = renewed.changed() => {}
            () = sleep_until(until), if holds => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_that_is_not_renewed_is_lost_and_one_that_is_comes_back() {
        let duration = Duration::from_millis(100);
        let (believe, believed) = watch::channel(true);
        let (renew, renewed) = watch::channel(Instant::now());
        let (hold, mut held) = watch::channel(false);
        let task = tokio::spawn(lose_in_time(duration, believed, renewed, hold));
        held.wait_for(|held| *held).await.unwrap();
        let begun = Instant::now();
        renew.send_replace(begun);
        held.wait_for(|held| !*held).await.unwrap();
        assert!(begun.elapsed() >= duration);
        renew.send_replace(Instant::now() + Duration::from_secs(60));
        held.wait_for(|held| *held).await.unwrap();
        believe.send_replace(false);
        held.wait_for(|held| !*held).await.unwrap();
        drop(held);
        task.await.unwrap();
        assert!(believe.is_closed(), "the manager does not learn that it is to give the Lease back");
    }
}
