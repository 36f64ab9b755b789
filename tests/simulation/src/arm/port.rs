//! A process's way to Azure: the port that the controller asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use stint::ports::{CallError, CallErrorKind, CallResult, Group, GroupAddress, GroupOrder, Groups, Usage};

use super::{Arm, GROUPS, MadeOf, Refused};
use crate::fault::Peer;
use crate::process::Process;

/// The link.
pub struct ArmLink {
    /// Azure.
    pub arm: Arc<Arm>,
    /// The process.
    pub process: Arc<Process>,
}

#[async_trait]
impl Groups for ArmLink {
    async fn get(&self, group: &GroupAddress) -> CallResult<Option<Group>> {
        self.process.read(Peer::Arm, || Ok(self.arm.get_for_controller(&group.name))).await
    }

    async fn create(&self, group: &GroupAddress, order: &GroupOrder) -> CallResult<()> {
        let files: BTreeMap<String, String> =
            order.files.iter().map(|(file, text)| (file.clone(), text.expose_secret().to_owned())).collect();
        let act = || {
            let fates = self.arm.board.group();
            let made_of = MadeOf { tags: order.tags.clone(), env: order.env.clone(), files };
            self.arm.put(&group.name, &group.name, made_of, fates).map_err(|refused| match refused {
                Refused::Quota => {
                    let kind = CallErrorKind::Throttled(None);
                    CallError::new(kind, "ContainerGroupQuotaReached")
                }
                Refused::CreatedAllTheSame => CallError::new(CallErrorKind::Unavailable, "503"),
            })
        };
        self.process.write(Peer::Arm, &format!("the creation of group {}", group.name), act).await
    }

    async fn delete(&self, group: &GroupAddress) -> CallResult<()> {
        let act = || {
            self.arm.delete(&group.name, "Stint");
            Ok(())
        };
        self.process.write(Peer::Arm, &format!("the deletion of group {}", group.name), act).await
    }

    async fn logs(&self, group: &GroupAddress, _container: &str) -> CallResult<String> {
        let read = || match self.arm.get(&group.name) {
            Some(_) => Ok(format!("the log of {}", group.name)),
            None => Err(CallError::new(CallErrorKind::NotFound, "404")),
        };
        self.process.read(Peer::Arm, read).await
    }

    async fn list(&self, _subscription: &str, _resource_group: &str) -> CallResult<Vec<Group>> {
        self.process.read(Peer::Arm, || Ok(self.arm.list())).await
    }

    async fn usage(&self, _subscription: &str, _region: &str) -> CallResult<Usage> {
        let read = || {
            let own = self.arm.lock().groups.len() as u64;
            let others = GROUPS - self.arm.most_groups().min(GROUPS);
            Ok(Usage { groups: Some((own + others, GROUPS)), cores: None })
        };
        self.process.read(Peer::Arm, read).await
    }
}
