//! Active health: asks a target, again and again, whether it is well.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, header, uri::PathAndQuery},
};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::MissedTickBehavior;

use super::target::Target;

/// An answer is read this far, so that its connection can be used again.
const ANSWER_BYTES: usize = 64 * 1024;

/// How a target is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Answered with a 2xx by a target that is well.
    pub path: PathAndQuery,
    /// From one to the next.
    pub interval: Duration,
    /// For an answer.
    pub timeout: Duration,
    /// So many good answers one after the other bring a target back.
    pub healthy_after: u32,
    /// So many bad ones put it out.
    pub unhealthy_after: u32,
}

/// Asks until it is dropped.
pub(super) async fn run(upstream: String, target: Arc<Target>, probe: Probe) {
    let mut ticks = tokio::time::interval(probe.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut good, mut bad) = (0_u32, 0_u32);
    loop {
        ticks.tick().await;
        let up = matches!(tokio::time::timeout(probe.timeout, ask(&target, &probe.path)).await, Ok(true));
        (good, bad) = if up { (good.saturating_add(1), 0) } else { (0, bad.saturating_add(1)) };
        let decided = if up { good >= probe.healthy_after } else { bad >= probe.unhealthy_after };
        if decided && target.health.probed(up) {
            tracing::warn!(upstream, target = %target.address, up, "a target's health changed");
        }
    }
}

async fn ask(target: &Target, path: &PathAndQuery) -> bool {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.clone().into();
    request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static("tollgate-health"));
    let Ok(response) = target.connections.send(request).await else { return false };
    let fine = response.status().is_success();
    let read = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    fine && read.is_ok()
}
