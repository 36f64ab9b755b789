//! What stands before the replicas: hands webhooks and call-backs to one that lives, as a Service does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use tower::ServiceExt as _;

use crate::chance::Chance;
use crate::process::Process;

/// Until when whoever sends waits for an answer: GitHub's own 10 s.
const WITHIN: Duration = Duration::from_secs(10);

/// The replicas that take requests.
#[derive(Default)]
pub struct Front {
    replicas: Mutex<Vec<(Arc<Process>, Router)>>,
}

impl Front {
    /// Adds a process.
    pub fn add(&self, process: Arc<Process>, router: Router) {
        let mut replicas = self.lock();
        replicas.retain(|(process, _)| !process.is_dead());
        replicas.push((process, router));
    }

    /// Takes the dead out.
    pub fn forget_dead(&self) {
        self.lock().retain(|(process, _)| !process.is_dead());
    }

    /// Sends a request to one of those that live; `None` without an answer.
    pub async fn send(&self, chance: &mut Chance, request: Request<Body>) -> Option<StatusCode> {
        let (process, router) = {
            let replicas = self.lock();
            let live: Vec<_> = replicas.iter().filter(|(process, _)| !process.is_dead()).collect();
            let (process, router) = chance.one_of(&live)?;
            (process.clone(), router.clone())
        };
        let answered = async {
            process.goes_on().await;
            let answer = router.oneshot(request).await;
            process.goes_on().await;
            answer
        };
        match tokio::time::timeout(WITHIN, answered).await {
            Ok(Ok(answer)) => Some(answer.status()),
            Ok(Err(never)) => match never {},
            Err(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<Process>, Router)>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
