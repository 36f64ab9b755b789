//! The Lease by which one replica acts. It does not fence: the `Admission` object does (see `records`).

use anyhow::Context;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Cluster;

/// Seconds after which a Lease that is not renewed may be taken: with the pause between two tries, a takeover takes
/// 20 s at most.
const DURATION_SECONDS: u64 = 15;
/// Seconds before that at which the holder renews it.
const GRACE_SECONDS: u64 = 8;
/// How long giving it back may take.
const RELEASE_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

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
        let manager = LeaseManagerBuilder::new(cluster.client.clone(), name.clone())
            .with_namespace(cluster.namespace.clone())
            .with_identity(identity)
            .with_duration(DURATION_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build()
            .await
            .with_context(|| format!("Lease {}/{name}", cluster.namespace))?;
        let (held, task) = manager.watch().await;
        let task = tokio::spawn(async move {
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
