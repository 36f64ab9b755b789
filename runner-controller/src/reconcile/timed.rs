//! Calls to Azure, timed for the metrics.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use crate::ports::{CallResult, Group, GroupAddress, GroupOrder, Groups, Usage};
use crate::telemetry::{Metrics, Peer};

/// Container groups whose calls are timed.
pub(super) struct TimedGroups {
    pub(super) groups: Arc<dyn Groups>,
    pub(super) metrics: Arc<Metrics>,
}

impl TimedGroups {
    async fn timed<T>(&self, call: &'static str, work: impl Future<Output = CallResult<T>>) -> CallResult<T> {
        let started = Instant::now();
        let result = work.await;
        self.metrics.call(Peer::Azure, call, started.elapsed());
        result
    }
}

#[async_trait]
impl Groups for TimedGroups {
    async fn get(&self, group: &GroupAddress) -> CallResult<Option<Group>> {
        self.timed("get", self.groups.get(group)).await
    }

    async fn create(&self, group: &GroupAddress, order: &GroupOrder) -> CallResult<()> {
        self.timed("create", self.groups.create(group, order)).await
    }

    async fn delete(&self, group: &GroupAddress) -> CallResult<()> {
        self.timed("delete", self.groups.delete(group)).await
    }

    async fn logs(&self, group: &GroupAddress, container: &str) -> CallResult<String> {
        self.timed("logs", self.groups.logs(group, container)).await
    }

    async fn list(&self, subscription: &str, resource_group: &str) -> CallResult<Vec<Group>> {
        self.timed("list", self.groups.list(subscription, resource_group)).await
    }

    async fn usage(&self, subscription: &str, region: &str) -> CallResult<Usage> {
        self.timed("usage", self.groups.usage(subscription, region)).await
    }
}
